"""A study as one picture for a page or a paper: the score of each seed and the interval of each difference."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from joyful_ray.errors import ConfigError
from joyful_ray.records import StudyRecord
from joyful_ray.report.charts import CYCLE
from joyful_ray.report.studies import compared_on, curve_points, label_of, rows_of
from joyful_ray.wording import metric_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    Draw = Callable[[Axes], None]

REFERENCE, OTHER, SEED = "#059669", "#2563eb", "#9ca3af"
PANEL_WIDTH, ROW_HEIGHT, FRAME_HEIGHT = 6.0, 0.32, 1.0
FORMATS = ("svg", "png", "pdf")


def check_picture(form: str) -> None:
    """Check that a picture can be drawn, before anything is trained.

    Raises:
        ConfigError: matplotlib is not installed, or the form is unknown.
    """
    if form not in FORMATS:
        raise ConfigError(f"a picture is a file that ends in .{', .'.join(FORMATS)}, not in .{form}")
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("pictures need matplotlib: pip install matplotlib, or the extra `pictures` of this package")


def study_picture(record: StudyRecord, *, form: str = "svg") -> bytes:
    """Draw a study: for each corpus, scores by variant, a curve where the variants are numbers, and gaps of groups.

    Args:
        record: the study.
        form: `svg`, `png` or `pdf`.

    Raises:
        ConfigError: matplotlib is not installed, or the form is unknown.
    """
    check_picture(form)
    import matplotlib
    from matplotlib.figure import Figure

    rows = [row for name in record.corpora if rows_of(record, name) for row in _panels_of(record, name)]
    columns = 2 if any(right is not None for _, _, right in rows) else 1
    heights = [height for height, _, _ in rows]
    with matplotlib.rc_context({"svg.hashsalt": record.name, "font.size": 9}):
        found = Figure(figsize=(PANEL_WIDTH * columns, sum(heights)), layout="constrained")
        panels = found.subplots(len(rows), columns, squeeze=False, height_ratios=heights)
        for panel_row, (_, left, right) in zip(panels, rows, strict=True):
            left(panel_row[0])
            if right is not None:
                right(panel_row[1])
            elif columns == 2:
                panel_row[1].set_axis_off()
        stream = io.BytesIO()
        metadata: dict[str, Any] = {"Date": None} if form == "svg" else {}
        found.savefig(stream, format=form, metadata=metadata, dpi=130)
    return stream.getvalue()


def _panels_of(record: StudyRecord, corpus: str) -> list[tuple[float, Draw, Draw | None]]:
    """Height of each row of panels, and what to draw in its left and right panel."""
    rows = rows_of(record, corpus)
    has_curve = bool(record.axis) and len(curve_points(rows)) > 1
    curve = partial(_curve, record=record, corpus=corpus) if has_curve else None
    found: list[tuple[float, Draw, Draw | None]] = [
        (FRAME_HEIGHT + ROW_HEIGHT * len(rows), partial(_scores, record=record, corpus=corpus), curve)
    ]
    for kind in dict.fromkeys(group.kind for row in rows for group in row.groups):
        size = len({group.group for row in rows for group in row.groups if group.kind == kind})
        height = FRAME_HEIGHT + ROW_HEIGHT * size * max(len(rows) / 3, 1)
        found.append((height, partial(_gaps, record=record, corpus=corpus, kind=kind), None))
    return found


def _gaps(panel: Axes, record: StudyRecord, corpus: str, kind: str) -> None:
    """The gap of each group to all others: one row per group, one mark per variant."""
    rows = rows_of(record, corpus)
    names = list(dict.fromkeys(group.group for row in rows for group in row.groups if group.kind == kind))[::-1]
    panel.axvline(0.0, color=SEED, linewidth=1)
    for place, row in enumerate(rows):
        groups = [group for group in row.groups if group.kind == kind]
        shift = 0.35 - 0.7 * (place + 0.5) / len(rows)
        panel.errorbar(
            [group.gap for group in groups],
            [names.index(group.group) + shift for group in groups],
            xerr=[[group.gap - group.low for group in groups], [group.high - group.gap for group in groups]],
            fmt="o",
            markersize=4,
            capsize=2,
            label=row.variant,
            color=CYCLE[place % len(CYCLE)],
        )
    panel.set_yticks(range(len(names)), names)
    panel.set_ylim(-0.6, len(names) - 0.4)
    panel.set_xlabel(f"{metric_name(record.metric)} minus that of all others, by {kind}, on {corpus}")
    panel.grid(axis="x", alpha=0.3)
    panel.legend(fontsize=7)


def _scores(panel: Axes, record: StudyRecord, corpus: str) -> None:
    rows = rows_of(record, corpus)[::-1]
    for height, row in enumerate(rows):
        colour = REFERENCE if row.difference is None else OTHER
        panel.plot(list(row.scores.values()), [height] * len(row.scores), "o", color=SEED, markersize=4)
        panel.errorbar(row.score.mean, height, xerr=row.score.deviation or 0.0, fmt="o", color=colour, capsize=3)
    panel.set_yticks(range(len(rows)), [label_of(row) for row in rows])
    panel.set_ylim(-0.6, len(rows) - 0.4)
    panel.set_xlabel(f"{metric_name(record.metric)} on {compared_on(record, corpus)} of {corpus}")
    panel.grid(axis="x", alpha=0.3)


def _curve(panel: Axes, record: StudyRecord, corpus: str) -> None:
    points = curve_points(rows_of(record, corpus))
    panel.errorbar(
        [number for number, _ in points],
        [row.score.mean for _, row in points],
        yerr=[row.score.deviation or 0.0 for _, row in points],
        fmt="o-",
        color=OTHER,
        capsize=3,
    )
    panel.set_xlabel(record.axis)
    panel.set_ylabel(metric_name(record.metric))
    panel.grid(alpha=0.3)
