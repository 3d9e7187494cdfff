"""How results of the Python API look in a terminal and in a notebook."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from joyful_ray.records import EpochMetrics
from joyful_ray.wording import metric_name

if TYPE_CHECKING:
    import pandas

HTML_ROWS = 20


def epoch_row(metrics: EpochMetrics) -> dict[str, Any]:
    """One epoch as a flat row."""
    return (
        {"epoch": metrics.epoch + 1}
        | {f"loss/{name}": value for name, value in metrics.losses.items()}
        | {"dev/loss": metrics.dev.loss}
        | {f"dev/{name}": value for name, value in metrics.dev.values.items()}
        | {"seconds": metrics.seconds, "is_best": metrics.is_best}
    )


def by_split(dev: Mapping[str, float], test: Mapping[str, float]) -> dict[str, Mapping[str, float]]:
    """Scores by split; test only if there are any."""
    return {"dev": dev} | ({"test": test} if test else {})


def scores_line(scores: Mapping[str, float]) -> str:
    """Scores in one line."""
    return ", ".join(f"{metric_name(name)} {value:.4f}" for name, value in scores.items())


def heading(text: str) -> str:
    """A line above a table, escaped."""
    return f"<p><b>{html.escape(text)}</b></p>"


def table_of_scores(splits: Mapping[str, Mapping[str, float]]) -> str:
    """One row per split, one column per score."""
    import pandas

    return html_table(pandas.DataFrame.from_dict(dict(splits), orient="index"))


def html_table(frame: pandas.DataFrame) -> str:
    """The first rows of a table, escaped."""
    return frame.to_html(max_rows=HTML_ROWS, float_format=lambda value: f"{value:.4f}", border=0)
