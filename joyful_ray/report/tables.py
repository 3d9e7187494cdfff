"""Tables of runs and searches, as words: for the terminal and for the page."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from joyful_ray.records import Candidate, Scores
from joyful_ray.report.read_runs import Run, Search

SHOWN = 10


@dataclass(frozen=True)
class TextTable:
    """Rows under a header; the first `left` columns are words, the others numbers."""

    title: str
    header: list[str]
    rows: list[list[str]]
    left: int = 1


def run_scores(runs: Sequence[Run]) -> TextTable:
    """A row a run, with mean and standard deviation where several have the same settings but for the seed."""
    finished = [run for run in runs if run.record is not None]
    names = list(finished[0].record.dev.values) if finished and finished[0].record else []
    has_test = any(run.record.test is not None for run in finished if run.record is not None)
    header = ["run", "seed", "epochs", *(f"{split} {name}" for split in _splits(has_test) for name in names)]
    rows = []
    for run in runs:
        if run.record is None:
            rows.append([run.name, str(run.job.seed), f"{len(run.epochs)}, not finished", *[""] * (len(header) - 3)])
            continue
        epochs = f"{run.record.selected_epoch + 1} of {run.record.epochs}"
        rows.append(
            [run.name, str(run.job.seed), epochs, *_cells(run.record.dev, names), *_cells(run.record.test, names)]
        )
    for group in _alike(finished):
        if len(group) > 1:
            means = [cell for split in _splits(has_test) for cell in _means(group, names, split)]
            rows.append([f"mean of {len(group)} seeds", "", "", *means])
    return TextTable("Scores", header, rows)


def label_scores(scores: Scores, title: str) -> TextTable:
    """A row a label."""
    columns = list(next(iter(scores.per_label.values()), {}))
    rows = [
        [label, *(f"{cells[name]:,.0f}" if name == "support" else f"{cells[name]:.4f}" for name in columns)]
        for label, cells in scores.per_label.items()
    ]
    return TextTable(title, ["label", *(name.replace("_", " ") for name in columns)], rows)


def best_trials(search: Search, *, settings: int | None = None) -> TextTable:
    """The best trials: scores, cost and settings.

    Args:
        settings: how many of them, those that mattered most; None is all.
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
    goals = [goal.name if goal.name == "seconds" else f"dev {goal.name}" for goal in search.goals]
    return TextTable("Best trials", ["trial", "outcome", *goals, "epochs", "s", *paths], rows, left=2)


def importances(search: Search) -> TextTable:
    """Share of each setting in what sets the better trials apart."""
    rows = [[path, f"{share:.1%}"] for path, share in search.importance.items()]
    return TextTable("What mattered", ["setting", "share"], rows)


def confirmed(search: Search, candidates: Sequence[Candidate]) -> TextTable:
    """Configs over fresh seeds, against the default."""
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
    header = ["config", f"dev {search.goal.name}", "against default", "95 % interval"]
    return TextTable(f"Confirmed over {seeds} fresh seeds", header, rows)


def failures(search: Search) -> TextTable:
    """Trials that failed or were begun again, and why."""
    rows = [[t.name, "failed", t.reason] for t in search.state.trials.values() if t.outcome == "failed"]
    rows += [[t.name, "begun again", reason] for t in search.state.trials.values() for reason in t.restarts]
    return TextTable("What went wrong", ["trial", "what", "why"], rows, left=3)


def facts(search: Search) -> list[tuple[str, str]]:
    """The search in a few numbers."""
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
        ("wall time", clock(state.spent_s)),
    ]
    if best is not None:
        found.insert(0, (f"best dev {search.goal.name}", f"{search.goal.sign * best.score(search.goal):.4f}"))
    if search.record is not None and search.record.test is not None and search.goal.name in search.record.test.values:
        found.insert(1, (f"test {search.goal.name}, chosen", f"{search.record.test.values[search.goal.name]:.4f}"))
    return found


def word(value: Any) -> str:
    """A setting's value."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def clock(seconds: float) -> str:
    """Seconds as a person reads them."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _splits(has_test: bool) -> list[str]:
    return ["dev", "test"] if has_test else ["dev"]


def _cells(scores: Scores | None, names: Sequence[str]) -> list[str]:
    return [f"{scores.values[name]:.4f}" if scores is not None and name in scores.values else "" for name in names]


def _alike(runs: Sequence[Run]) -> list[list[Run]]:
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.job.model_copy(update={"seed": 0}).fingerprint, []).append(run)
    return list(groups.values())


def _means(runs: Sequence[Run], names: Sequence[str], split: str) -> list[str]:
    cells = []
    for name in names:
        scores: list[Scores | None] = [getattr(run.record, split) for run in runs]
        values = [each.values[name] for each in scores if each is not None and name in each.values]
        known = len(values) == len(runs)
        cells.append(f"{statistics.fmean(values):.4f} ± {statistics.stdev(values):.4f}" if known else "")
    return cells
