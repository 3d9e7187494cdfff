"""Tables of searches and scores as text, for the terminal and for the page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from joyful_ray.records import Candidate, Scores
from joyful_ray.report.read_runs import Search
from joyful_ray.wording import metric_name

SHOWN = 10


@dataclass(frozen=True)
class TextTable:
    """A table; the first `left` columns are text, the others numbers, and `notes` are lines below it."""

    title: str
    header: list[str]
    rows: list[list[str]]
    left: int = 1
    notes: tuple[str, ...] = ()


def label_scores(scores: Scores, title: str) -> TextTable:
    """One row per label."""
    columns = list(next(iter(scores.per_label.values()), {}))
    rows = [
        [label, *(f"{cells[name]:,.0f}" if name == "support" else f"{cells[name]:.4f}" for name in columns)]
        for label, cells in scores.per_label.items()
    ]
    return TextTable(title, ["label", *map(metric_name, columns)], rows)


def best_trials(search: Search, *, settings: int | None = None) -> TextTable:
    """The best trials: scores, cost and settings.

    Args:
        settings: number of settings, the most important ones; None is all.
    """
    ranked = [trial for _, trials, _ in search.state.ranked(search.goal) for trial in trials][:SHOWN]
    paths = (list(search.importance) or list(search.ranges))[:settings]
    rows = []
    for trial in ranked:
        values = trial.values() or {}
        cells = [
            trial.name,
            trial.outcome or "",
            *(f"{values[goal.name]:.4f}" for goal in search.goals if goal.name != "seconds"),
        ]
        rows.append(
            [*cells, str(len(trial.epochs)), f"{trial.seconds:.0f}", *(word(trial.settings.get(p)) for p in paths)]
        )
    goals = [f"dev {metric_name(goal.name)}" for goal in search.goals if goal.name != "seconds"]
    return TextTable("Best trials", ["trial", "outcome", *goals, "epochs", "s", *paths], rows, left=2)


def importances(search: Search) -> TextTable:
    """Importance of each setting."""
    rows = [[path, f"{share:.1%}"] for path, share in search.importance.items()]
    return TextTable("Importance", ["setting", "share"], rows)


def confirmed(metric: str, candidates: Sequence[Candidate]) -> TextTable:
    """Confirmed configs, compared with the default.

    Args:
        metric: the dev score that the search optimises.
        candidates: the configs, in the order of the table.
    """
    rows = [
        [
            row.config,
            f"{row.mean:.4f} ± {row.deviation:.4f}",
            "" if row.difference is None else f"{row.difference:+.4f}",
            "" if row.low is None or row.high is None else f"{row.low:+.4f} to {row.high:+.4f}",
        ]
        for row in candidates
    ]
    seeds = len(candidates[0].seeds) if candidates else 0
    header = ["config", f"dev {metric_name(metric)}", "against default", "95 % interval"]
    return TextTable(f"Confirmed over {seeds} fresh seeds", header, rows)


def candidate_settings(candidates: Sequence[Candidate]) -> TextTable:
    """The settings of confirmed configs: one row per setting, one column per config except the default."""
    candidates = [row for row in candidates if row.settings]
    paths = dict.fromkeys(path for row in candidates for path in row.settings)
    rows = [[path, *(word(row.settings.get(path)) for row in candidates)] for path in paths]
    return TextTable("Settings of the confirmed configs", ["setting", *(row.config for row in candidates)], rows)


def failures(search: Search) -> TextTable:
    """Trials that failed or restarted, and why."""
    rows = [[t.name, "failed", t.reason] for t in search.state.trials.values() if t.outcome == "failed"]
    rows += [[t.name, "restarted", reason] for t in search.state.trials.values() for reason in t.restarts]
    return TextTable("Failures", ["trial", "event", "reason"], rows, left=3)


def facts(search: Search) -> list[tuple[str, str]]:
    """The search in a few figures."""
    state = search.state
    counts = {
        name: sum(trial.outcome == name for trial in state.searched) for name in ("finished", "stopped", "failed")
    }
    best = state.best(search.goal)
    found = [
        ("trials", f"{len(state.searched)}"),
        ("stopped early", f"{counts['stopped']}"),
        ("failed", f"{counts['failed']}"),
        ("epochs", f"{sum(len(trial.epochs) for trial in state.own)}"),
        ("confirmation runs", f"{sum(trial.outcome is not None for trial in state.confirming)}"),
        ("confirmation epochs", f"{sum(len(trial.epochs) for trial in state.confirming)}"),
        ("wall time", clock(state.spent_s)),
    ]
    goal, name = search.goal, metric_name(search.goal.name)
    if best is not None:
        found.insert(0, (f"best dev {name}", f"{goal.sign * best.score(goal):.4f}"))
    if search.record is not None and search.record.test is not None and goal.name in search.record.test.values:
        found.insert(1, (f"test {name}, chosen", f"{search.record.test.values[goal.name]:.4f}"))
    return found


def word(value: Any) -> str:
    """A value of a setting as text."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, default=lambda section: section.model_dump(mode="json"))


def clock(seconds: float) -> str:
    """Seconds as hours, minutes and seconds."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
