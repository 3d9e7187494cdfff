"""Charts of runs. Epochs are counted from 1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from joyful_ray.records import SELECTS, Scores
from joyful_ray.report.charts import CYCLE, figure
from joyful_ray.report.read_runs import Run


def dev_curves(runs: Sequence[Run]) -> go.Figure:
    """Dev score per epoch of each run; a ring marks the selected epoch."""
    names = [_score_name(run) for run in runs]
    found = figure(xaxis_title="epoch", yaxis_title=f"dev {names[0] if len(set(names)) == 1 else 'score'}", height=400)
    for place, (run, name) in enumerate(zip(runs, names, strict=True)):
        colour = CYCLE[place % len(CYCLE)]
        values = [line.dev.values[name] for line in run.epochs]
        found.add_scatter(
            x=[line.epoch + 1 for line in run.epochs],
            y=values,
            mode="lines",
            name=run.name,
            line={"color": colour},
            hovertemplate=f"{run.name}, epoch %{{x}}: %{{y:.4f}}<extra></extra>",
        )
        best = [place for place, line in enumerate(run.epochs) if line.is_best][-1:]
        found.add_scatter(
            x=[run.epochs[place].epoch + 1 for place in best],
            y=[values[place] for place in best],
            mode="markers",
            marker={"color": colour, "size": 11, "symbol": "circle-open", "line": {"width": 2}},
            showlegend=False,
            hoverinfo="skip",
        )
    return found


def loss_curves(runs: Sequence[Run]) -> go.Figure:
    """Training loss (the weighted sum of its terms) and dev loss per epoch."""
    found = figure(xaxis_title="epoch", yaxis_title="loss", height=400)
    for place, run in enumerate(runs):
        epochs = [line.epoch + 1 for line in run.epochs]
        colour = CYCLE[place % len(CYCLE)]
        found.add_scatter(
            x=epochs, y=[line.losses["total"] for line in run.epochs], name=f"{run.name}, train", line={"color": colour}
        )
        found.add_scatter(
            x=epochs,
            y=[line.dev.loss for line in run.epochs],
            name=f"{run.name}, dev",
            line={"color": colour, "dash": "dot"},
        )
    return found


def confusion(scores: Scores) -> go.Figure:
    """Rows are true labels, columns predictions; colour is the share of the row."""
    table = np.array(scores.confusion, dtype=np.float64)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1.0)
    found = figure(height=140 + 44 * len(scores.labels), xaxis_title="predicted", yaxis_title="true")
    found.add_heatmap(
        z=shares,
        x=scores.labels,
        y=scores.labels,
        text=table.astype(int),
        texttemplate="%{text}",
        colorscale="Blues",
        zmin=0,
        zmax=1,
        showscale=False,
        hovertemplate="true %{y}, predicted %{x}: %{text} (%{z:.0%})<extra></extra>",
    )
    found.update_yaxes(autorange="reversed", automargin=True)
    return found


def _score_name(run: Run) -> str:
    dev = run.epochs[0].dev
    return SELECTS[dev.task] if SELECTS[dev.task] in dev.values else "weighted_f1"
