"""A study as tables and charts: scores by variant, differences to the reference, and curves over numbers."""

from __future__ import annotations

import plotly.graph_objects as go

from joyful_ray.records import Spread, StudyRecord, StudyRow
from joyful_ray.report.charts import COLOURS, CYCLE, figure
from joyful_ray.report.tables import TextTable
from joyful_ray.wording import counted, metric_name

ROW_HEIGHT, FRAME_HEIGHT = 34, 90


def study_tables(record: StudyRecord) -> list[TextTable]:
    """The tables of every corpus: its variants, then its groups."""
    tables = [[variant_table(record, corpus), *group_tables(record, corpus)] for corpus in record.corpora]
    return [table for those in tables for table in those]


def variant_table(record: StudyRecord, corpus: str) -> TextTable:
    """The variants on one corpus, with a sentence for each as its notes."""
    rows = rows_of(record, corpus)
    measures = _measures_of(rows)
    split, score = compared_on(record, corpus), metric_name(record.metric)
    cells = [
        [
            label_of(row),
            spread_text(row.score),
            _signed(row.difference),
            "" if row.low is None or row.high is None else f"{row.low:+.4f} to {row.high:+.4f}",
            spread_text(row.dev),
            *(_measured(row, names) for names in measures.values()),
        ]
        for row in rows
    ]
    title = f"{record.name} on {corpus}: {score} on {split}, {counted(len(record.seeds), 'seed')}"
    header = ["variant", split, "difference", "interval", "dev" if split == "test" else "dev, selected", *measures]
    notes = tuple(f"{label_of(row)}: {row.verdict}." for row in rows if row.difference is not None)
    return TextTable(title, header, cells, notes=notes)


def compared_on(record: StudyRecord, corpus: str) -> str:
    """What the variants are compared on: a split, or the parts of a cross-validation."""
    return record.split[corpus] if record.folds is None else f"{record.folds} folds"


def group_tables(record: StudyRecord, corpus: str) -> list[TextTable]:
    """One table for each kind of groups: score and gap of every group under every variant."""
    rows = [(row.variant, group) for row in rows_of(record, corpus) for group in row.groups]
    score = f"{metric_name(record.metric)} on {compared_on(record, corpus)}"
    return [
        TextTable(
            f"{record.name} on {corpus}: {score} by {kind}",
            ["variant", kind, "utterances", "score", "gap to all others", "interval"],
            [
                [
                    variant,
                    group.group,
                    f"{group.utterances:,}",
                    spread_text(group.score),
                    f"{group.gap:+.4f}",
                    f"{group.low:+.4f} to {group.high:+.4f}",
                ]
                for variant, group in rows
                if group.kind == kind
            ],
            left=2,
        )
        for kind in dict.fromkeys(group.kind for _, group in rows)
    ]


def rows_of(record: StudyRecord, corpus: str) -> list[StudyRow]:
    """The rows of one corpus."""
    return [row for row in record.rows if row.corpus == corpus]


def label_of(row: StudyRow) -> str:
    """What a row is called."""
    return row.variant if row.removed is None else f"{row.variant}, scored without {row.removed}"


def spread_text(found: Spread | None) -> str:
    """Mean and standard deviation."""
    if found is None:
        return ""
    return f"{found.mean:.4f}" if found.deviation is None else f"{found.mean:.4f} ± {found.deviation:.4f}"


def curve_points(rows: list[StudyRow]) -> list[tuple[float, StudyRow]]:
    """The rows whose variants are numbers, with these numbers, in their order."""
    found = []
    for row in rows:
        try:
            found.append((float(row.variant), row))
        except ValueError:
            continue
    return sorted((point for point in found if point[1].removed is None), key=lambda point: point[0])


def scores_chart(record: StudyRecord, corpus: str) -> go.Figure:
    """One line per variant: the score of each seed, and their mean."""
    rows = rows_of(record, corpus)[::-1]
    found = figure(
        height=FRAME_HEIGHT + ROW_HEIGHT * len(rows),
        xaxis_title=f"{metric_name(record.metric)} on {compared_on(record, corpus)}",
        showlegend=False,
        yaxis={"automargin": True},
    )
    for row in rows:
        name = label_of(row)
        colour = COLOURS["best"] if row.difference is None else CYCLE[0]
        seeds = {"color": COLOURS["stopped"], "size": 6}
        found.add_scatter(x=list(row.scores.values()), y=[name] * len(row.scores), mode="markers", marker=seeds)
        found.add_scatter(
            x=[row.score.mean],
            y=[name],
            mode="markers",
            marker={"color": colour, "size": 11},
            error_x={"type": "data", "array": [row.score.deviation or 0.0], "color": colour},
        )
    return found


def curve_chart(record: StudyRecord, corpus: str) -> go.Figure | None:
    """The score over the axis, if at least two variants are numbers."""
    points = curve_points(rows_of(record, corpus))
    if not record.axis or len(points) < 2:
        return None
    found = figure(
        xaxis_title=record.axis,
        yaxis_title=f"{metric_name(record.metric)} on {compared_on(record, corpus)}",
        showlegend=False,
    )
    found.add_scatter(
        x=[number for number, _ in points],
        y=[row.score.mean for _, row in points],
        mode="lines+markers",
        error_y={"type": "data", "array": [row.score.deviation or 0.0 for _, row in points]},
    )
    return found


def _measures_of(rows: list[StudyRow]) -> dict[str, list[str]]:
    """The measures by the name of their column; those of several layers share one."""
    columns: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for row in rows for name in row.measures):
        what, _, last = name.rpartition("/")
        columns.setdefault(f"{what} by layer" if last.isdigit() else name, []).append(name)
    return columns


def _measured(row: StudyRow, names: list[str]) -> str:
    found = [row.measures[name] for name in names if name in row.measures]
    return spread_text(found[0]) if len(names) == 1 and found else " ".join(f"{each.mean:.3f}" for each in found)


def _signed(value: float | None) -> str:
    return "reference" if value is None else f"{value:+.4f}"
