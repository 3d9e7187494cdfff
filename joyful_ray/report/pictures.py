"""A study as one picture for a page or a paper: the score of each seed and the interval of each difference."""

from __future__ import annotations

import importlib.util
import io
from typing import TYPE_CHECKING, Any

from joyful_ray.errors import ConfigError
from joyful_ray.records import StudyRecord
from joyful_ray.report.studies import curve_points, label_of, rows_of
from joyful_ray.wording import metric_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
    """Draw a study: for each corpus, scores by variant; beside them a curve where the variants are numbers.

    Args:
        record: the study.
        form: `svg`, `png` or `pdf`.

    Raises:
        ConfigError: matplotlib is not installed, or the form is unknown.
    """
    check_picture(form)
    import matplotlib
    from matplotlib.figure import Figure

    corpora = [name for name in record.corpora if rows_of(record, name)]
    has_curve = {name: bool(record.axis) and len(curve_points(rows_of(record, name))) > 1 for name in corpora}
    columns = 2 if any(has_curve.values()) else 1
    heights = [FRAME_HEIGHT + ROW_HEIGHT * len(rows_of(record, name)) for name in corpora]
    with matplotlib.rc_context({"svg.hashsalt": record.name, "font.size": 9}):
        found = Figure(figsize=(PANEL_WIDTH * columns, sum(heights)), layout="constrained")
        panels = found.subplots(len(corpora), columns, squeeze=False, height_ratios=heights)
        for panel_row, name in zip(panels, corpora, strict=True):
            _scores(panel_row[0], record, name)
            if columns == 2 and has_curve[name]:
                _curve(panel_row[1], record, name)
            elif columns == 2:
                panel_row[1].set_axis_off()
        stream = io.BytesIO()
        metadata: dict[str, Any] = {"Date": None} if form == "svg" else {}
        found.savefig(stream, format=form, metadata=metadata, dpi=130)
    return stream.getvalue()


def _scores(panel: Axes, record: StudyRecord, corpus: str) -> None:
    rows = rows_of(record, corpus)[::-1]
    for height, row in enumerate(rows):
        colour = REFERENCE if row.difference is None else OTHER
        panel.plot(list(row.scores.values()), [height] * len(row.scores), "o", color=SEED, markersize=4)
        panel.errorbar(row.score.mean, height, xerr=row.score.deviation or 0.0, fmt="o", color=colour, capsize=3)
    panel.set_yticks(range(len(rows)), [label_of(row) for row in rows])
    panel.set_ylim(-0.6, len(rows) - 0.4)
    panel.set_xlabel(f"{metric_name(record.metric)} on {record.split[corpus]} of {corpus}")
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
