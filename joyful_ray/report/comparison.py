"""Compares runs that can be compared: the same corpus and task, and means over seeds of the same settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from joyful_ray.config import setting, setting_paths
from joyful_ray.records import Spread, spreads
from joyful_ray.report.read_runs import Run
from joyful_ray.report.tables import TextTable, word
from joyful_ray.wording import counted, metric_name

NEVER_COMPARED = ("name", "storage", "corpus", "seed", "search", "transfer", "cluster.")
"""Settings that do not change a result, or that the tables show elsewhere."""


@dataclass(frozen=True)
class Comparison:
    """Runs on one corpus and task.

    Attributes:
        corpus: name of the corpus; empty for runs that are not finished.
        task: task of the runs; empty for runs that are not finished.
        groups: runs with the same settings apart from the seed.
    """

    corpus: str
    task: str
    groups: list[list[Run]]

    @property
    def runs(self) -> list[Run]:
        """All runs, group by group."""
        return [run for group in self.groups for run in group]


def compare(runs: Sequence[Run]) -> list[Comparison]:
    """Group runs by corpus and task, and within these by settings; unfinished runs come last."""
    found: dict[tuple[str, str], dict[str, list[Run]]] = {}
    names: dict[tuple[str, str], str] = {}
    for run in sorted(runs, key=lambda each: each.record is None):
        key, corpus = ("", ""), ""
        if run.record is not None:
            key, corpus = (str(run.record.corpus["hash"]), run.record.dev.task), str(run.record.corpus["name"])
        names[key] = corpus
        found.setdefault(key, {}).setdefault(run.job.model_copy(update={"seed": 0}).fingerprint, []).append(run)
    return [Comparison(names[key], key[1], list(groups.values())) for key, groups in found.items()]


def summarise(group: Sequence[Run]) -> tuple[dict[str, Spread], str]:
    """Mean and standard deviation of each score over the seeds of a group, by `<split> <score>`.

    Returns:
        The scores, and why there are none: fewer than two runs give no note, a seed that appears twice does.
    """
    seeds = [run.job.seed for run in group]
    twice = sorted({seed for seed in seeds if seeds.count(seed) > 1})
    if twice:
        return {}, f"not averaged: seed {twice[0]} appears {seeds.count(twice[0])} times"
    return (spreads([_scores(run) for run in group]), "") if len(group) > 1 else ({}, "")


def score_table(comparison: Comparison) -> TextTable:
    """One row per run, and one per group of several seeds. A missing score is empty; notes name what has no mean."""
    names = list(dict.fromkeys(name for run in comparison.runs for name in _scores(run)))
    names.sort(key=lambda name: not name.startswith("dev "))
    rows, notes = [], []
    for group in comparison.groups:
        for run in group:
            scores = _scores(run)
            cells = [f"{scores[name]:.4f}" if name in scores else "" for name in names]
            rows.append([run.name, str(run.job.seed), _epochs(run), *cells])
        means, note = summarise(group)
        if means:
            cells = [_cell(means.get(name)) for name in names]
            rows.append([f"mean of {len(group)} seeds", "", "", *cells])
        elif note:
            notes.append(f"{', '.join(run.name for run in group)}: {note}")
    title = f"Scores on {comparison.corpus} ({comparison.task})" if comparison.corpus else "Not finished"
    return TextTable(title, ["run", "seed", "epoch", *map(metric_name, names)], rows, notes=tuple(notes))


def settings_table(runs: Sequence[Run]) -> TextTable:
    """The settings in which the runs differ: one row per setting, one column per run."""
    paths = [path for path in setting_paths() if not path.startswith(NEVER_COMPARED)]
    rows = []
    for path in paths:
        values = [word(setting(run.job, path)) for run in runs]
        if len(set(values)) > 1:
            rows.append([path, *values])
    return TextTable("Settings that differ", ["setting", *(run.name for run in runs)], rows, left=1 + len(runs))


def _scores(run: Run) -> dict[str, float]:
    if run.record is None:
        return {}
    test = {} if run.record.test is None else run.record.test.values
    return {f"dev {name}": value for name, value in run.record.dev.values.items()} | {
        f"test {name}": value for name, value in test.items()
    }


def _epochs(run: Run) -> str:
    if run.record is None:
        return f"{counted(len(run.epochs), 'epoch')} so far"
    return f"{run.record.selected_epoch + 1} of {run.record.epochs}"


def _cell(found: Spread | None) -> str:
    return "" if found is None else f"{found.mean:.4f} ± {found.deviation or 0.0:.4f}"
