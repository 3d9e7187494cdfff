"""Charts of a search. Epochs are counted from 1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from joyful_ray.records import Candidate
from joyful_ray.report.charts import BAND, COLOURS, figure
from joyful_ray.report.read_runs import Search
from joyful_ray.report.sensitivity import curve, group_mean
from joyful_ray.report.tables import word
from joyful_ray.search_settings import RangeConfig
from joyful_ray.tune.search_state import Trial

ENOUGH = 10
"""With this many finished trials, charts of settings leave out those that were stopped early."""


def history(search: Search) -> go.Figure:
    """Scores of the trials, and the best one so far."""
    found = figure(xaxis_title="trial", yaxis_title=f"dev {search.goal.name}", height=420)
    ended = _scored(search)
    for outcome in ("finished", "stopped"):
        chosen = [(place, trial) for place, trial in enumerate(ended, start=1) if trial.outcome == outcome]
        found.add_scatter(
            x=[place for place, _ in chosen],
            y=[_value(search, trial) for _, trial in chosen],
            mode="markers",
            name=outcome if outcome == "finished" else "stopped early",
            marker={
                "color": COLOURS[outcome],
                "size": 9,
                "symbol": "circle" if outcome == "finished" else "circle-open",
            },
            text=[_hover(trial) for _, trial in chosen],
            hovertemplate="%{text}<br>%{y:.4f}<extra></extra>",
        )
    best = np.maximum.accumulate([trial.score(search.goal) for trial in ended]) if ended else np.zeros(0)
    found.add_scatter(
        x=list(range(1, len(ended) + 1)),
        y=(search.goal.sign * best).tolist(),
        mode="lines",
        name="best so far",
        line={"shape": "hv", "color": COLOURS["best"], "width": 2},
        hoverinfo="skip",
    )
    return found


def curves(search: Search) -> go.Figure:
    """Dev score per epoch of every trial; the curve of a stopped trial ends where it was stopped."""
    found = figure(xaxis_title="epoch", yaxis_title=f"dev {search.goal.name}", height=420)
    trials = [trial for trial in search.state.searched if trial.epochs]
    best = search.state.best(search.goal)
    shown: set[str] = set()
    for trial in sorted(trials, key=lambda trial: trial.outcome == "finished"):
        is_best = best is not None and trial.name == best.name
        kind = "best" if is_best else trial.outcome or "running"
        label = {"stopped": "stopped early", "best": f"best ({trial.name})"}.get(kind, kind)
        values = [line.dev.get(search.goal.name, line.seconds) for line in trial.epochs]
        found.add_scatter(
            x=[line.epoch + 1 for line in trial.epochs],
            y=values,
            mode="lines",
            name=label,
            legendgroup=kind,
            showlegend=kind not in shown,
            line={"color": COLOURS[kind], "width": 3 if is_best else 1.5 if kind == "finished" else 1},
            opacity=1.0 if kind in ("best", "finished") else 0.7,
            hovertemplate=f"{_hover(trial)}<br>epoch %{{x}}: %{{y:.4f}}<extra></extra>",
        )
        if trial.outcome in ("stopped", "failed"):
            found.add_scatter(
                x=[trial.epochs[-1].epoch + 1],
                y=values[-1:],
                mode="markers",
                marker={"color": COLOURS[kind], "size": 6, "symbol": "x"},
                legendgroup=kind,
                showlegend=False,
                hoverinfo="skip",
            )
        shown.add(kind)
    return found


def importances(search: Search) -> go.Figure:
    """Importance of each setting."""
    rows = list(search.importance.items())[::-1]
    found = figure(height=90 + 26 * len(rows), xaxis_title="share", xaxis_tickformat=".0%", showlegend=False)
    found.add_bar(
        x=[share for _, share in rows],
        y=[path for path, _ in rows],
        orientation="h",
        marker_color=COLOURS["finished"],
        hovertemplate="%{y}: %{x:.1%}<extra></extra>",
    )
    found.update_yaxes(automargin=True)
    return found


def parallel(search: Search) -> go.Figure:
    """Every trial as a line through its settings."""
    trials = _scored(search)
    scores = [_value(search, trial) for trial in trials]
    order = list(search.importance) or list(search.ranges)
    dimensions = [_axis(path, search.ranges[path], trials) for path in order[:10]]
    dimensions.append({"label": f"dev {search.goal.name}", "values": scores})
    found = figure(height=460, margin={"l": 60, "r": 110, "t": 120, "b": 24})
    found.add_trace(
        go.Parcoords(
            dimensions=dimensions,
            labelangle=-30,
            labelside="top",
            line={"color": scores, "colorscale": "Viridis", "reversescale": search.goal.sign < 0, "showscale": False},
        )
    )
    return found


def sensitivity(search: Search) -> list[go.Figure]:
    """Dev score by setting, one figure per setting; the band contains 90 % of the resampled means."""
    trials = judged(search)
    scores = [_value(search, trial) for trial in trials]
    # Without a limit, a few very bad trials would squeeze all others into a narrow band.
    low, high = np.quantile(scores, [0.1, 0.9]) if search.goal.sign > 0 else np.quantile(scores, [0.0, 0.9])
    top = max(scores) if search.goal.sign > 0 else high
    margin = 0.12 * max(top - low, 1e-3)
    figures = []
    for path in list(search.importance) or list(search.ranges):
        entry = search.ranges[path]
        known = [trial for trial in trials if path in trial.settings]
        found = figure(height=250, showlegend=False, margin={"l": 50, "r": 12, "t": 12, "b": 46})
        found.update_xaxes(title_text=path, title_standoff=6, title_font_size=12)
        found.update_yaxes(range=[low - margin, top + margin])
        (_along if entry.is_number else _choices)(found, search, path, known)
        figures.append(found)
    return figures


def judged(search: Search) -> list[Trial]:
    """The trials that charts of settings show: finished ones, and stopped ones if too few have finished."""
    trials = _scored(search)
    finished = [trial for trial in trials if trial.outcome == "finished"]
    return finished if len(finished) >= ENOUGH else trials


def front(search: Search) -> go.Figure:
    """The first goal against the second, with the Pareto front of the finished trials."""
    first, second = search.goals[:2]
    trials = [trial for trial in _scored(search) if trial.outcome == "finished"]
    found = figure(xaxis_title=second.name, yaxis_title=f"dev {first.name}")
    pairs = [(second.sign * trial.score(second), first.sign * trial.score(first)) for trial in trials]
    found.add_scatter(
        x=[x for x, _ in pairs],
        y=[y for _, y in pairs],
        mode="markers",
        name="finished",
        marker={"color": COLOURS["finished"], "size": 9},
        text=[_hover(trial) for trial in trials],
        hovertemplate="%{text}<br>%{x:.4g}, %{y:.4f}<extra></extra>",
    )
    best = [
        pair for pair, trial in zip(pairs, trials, strict=True) if not any(_beats(o, trial, search) for o in trials)
    ]
    best.sort()
    found.add_scatter(
        x=[x for x, _ in best],
        y=[y for _, y in best],
        mode="lines",
        name="Pareto front",
        line={"color": COLOURS["best"]},
    )
    return found


def confirmation(search: Search, candidates: Sequence[Candidate]) -> go.Figure:
    """Dev scores of each config over fresh seeds, and their mean."""
    found = figure(height=120 + 60 * len(candidates), xaxis_title=f"dev {search.goal.name}")
    rows = list(candidates)[::-1]
    found.add_scatter(
        x=[value for row in rows for value in row.dev],
        y=[row.config for row in rows for _ in row.dev],
        mode="markers",
        name="one seed",
        marker={"color": COLOURS["finished"], "size": 9, "opacity": 0.6},
        text=[f"seed {seed}" for row in rows for seed in row.seeds],
        hovertemplate="%{text}: %{x:.4f}<extra></extra>",
    )
    found.add_scatter(
        x=[row.mean for row in rows],
        y=[row.config for row in rows],
        mode="markers",
        name="mean and standard deviation",
        marker={"color": COLOURS["best"], "size": 13, "symbol": "diamond"},
        error_x={"type": "data", "array": [row.deviation for row in rows], "color": COLOURS["best"]},
        hovertemplate="%{y}: %{x:.4f}<extra></extra>",
    )
    found.update_yaxes(type="category", automargin=True)
    return found


def _along(found: go.Figure, search: Search, path: str, trials: Sequence[Trial]) -> None:
    entry = search.ranges[path]
    values = [float(trial.settings[path]) for trial in trials]
    scores = [_value(search, trial) for trial in trials]
    band = curve(values, scores, is_log=entry.kind == "log")
    if band is not None:
        found.add_scatter(
            x=band.at + band.at[::-1],
            y=band.high + band.low[::-1],
            fill="toself",
            fillcolor=BAND,
            line={"width": 0},
            hoverinfo="skip",
        )
        found.add_scatter(x=band.at, y=band.mean, mode="lines", line={"color": COLOURS["finished"]}, hoverinfo="skip")
    _points(found, values, trials, scores)
    if entry.kind == "log":
        ticks = np.geomspace(*entry.bounds, 5).tolist()
        found.update_xaxes(type="log", tickvals=ticks, ticktext=[f"{tick:.2g}" for tick in ticks], minor_showgrid=False)


def _choices(found: go.Figure, search: Search, path: str, trials: Sequence[Trial]) -> None:
    entry = search.ranges[path]
    names = [word(value) for value in entry.choice or []]
    scores = [_value(search, trial) for trial in trials]
    _points(found, [word(trial.settings[path]) for trial in trials], trials, scores)
    for name in names:
        chosen = [s for s, trial in zip(scores, trials, strict=True) if word(trial.settings[path]) == name]
        if chosen:
            mean, low, high = group_mean(chosen)
            found.add_scatter(
                x=[name],
                y=[mean],
                mode="markers",
                marker={"color": COLOURS["finished"], "size": 11, "symbol": "diamond"},
                error_y={"type": "data", "symmetric": False, "array": [high - mean], "arrayminus": [mean - low]},
                hovertemplate=f"{name}: mean %{{y:.4f}}<extra></extra>",
            )
    found.update_xaxes(type="category", categoryorder="array", categoryarray=names)


def _points(found: go.Figure, xs: Sequence[Any], trials: Sequence[Trial], ys: Sequence[float]) -> None:
    found.add_scatter(
        x=list(xs),
        y=list(ys),
        mode="markers",
        marker={
            "color": [COLOURS[trial.outcome or "running"] for trial in trials],
            "size": 7,
            "symbol": ["circle" if trial.outcome == "finished" else "circle-open" for trial in trials],
        },
        text=[_hover(trial) for trial in trials],
        hovertemplate="%{text}<br>%{y:.4f}<extra></extra>",
    )


def _axis(path: str, entry: RangeConfig, trials: Sequence[Trial]) -> dict[str, Any]:
    label = ".".join(path.split(".")[-2:]) if path.startswith("augment.") else path.split(".")[-1]
    if not entry.is_number:
        names = [word(value) for value in entry.choice or []]
        places = [names.index(word(trial.settings[path])) if path in trial.settings else -1 for trial in trials]
        return {"label": label, "values": places, "tickvals": list(range(len(names))), "ticktext": names}
    raw = [float(trial.settings.get(path, entry.bounds[0])) for trial in trials]
    if entry.kind != "log":
        return {"label": label, "values": raw, "range": list(entry.bounds)}
    low, high = entry.bounds
    ticks = np.geomspace(low, high, 5).tolist()
    return {
        "label": label,
        "values": np.log10(raw).tolist(),
        "range": [math.log10(low), math.log10(high)],
        "tickvals": np.log10(ticks).tolist(),
        "ticktext": [f"{tick:.2g}" for tick in ticks],
    }


def _scored(search: Search) -> list[Trial]:
    """Ended trials that have a score, in the order of the ledger."""
    return [
        trial
        for trial in search.state.searched
        if trial.outcome in ("finished", "stopped") and trial.selected is not None
    ]


def _value(search: Search, trial: Trial) -> float:
    return search.goal.sign * trial.score(search.goal)


def _beats(other: Trial, trial: Trial, search: Search) -> bool:
    gaps = [other.score(goal) - trial.score(goal) for goal in search.goals]
    return all(gap >= 0 for gap in gaps) and any(gap > 0 for gap in gaps)


def _hover(trial: Trial) -> str:
    rows = [f"{path} = {word(value)}" for path, value in trial.settings.items()]
    return "<br>".join([f"<b>{trial.name}</b> {trial.outcome or 'running'}", *rows])
