"""Runs a study: trains what is missing, then reads test once for each run, then compares every variant."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from joyful_ray.records import (
    SELECTS,
    STUDY_RECORD,
    RunRecord,
    Spread,
    StudyRecord,
    StudyRow,
    spread,
    spreads,
    versions,
)
from joyful_ray.schema import Split, Task
from joyful_ray.storage import Location
from joyful_ray.study.counts import counts_of, readings
from joyful_ray.study.group_rows import group_rows
from joyful_ray.study.plan import SCORE, Planned, StudyPlan
from joyful_ray.train.many import Finished, train_many
from joyful_ray.train.run_directory import RunDirectory
from joyful_ray.tune.confirm import ERROR_RATE, Difference, paired_bootstrap, score_of
from joyful_ray.tune.dev_counts import EVERYTHING, DevCounts, Group, joined
from joyful_ray.tune.goals import GREATER, Goal

Counts = Sequence[DevCounts]
"""One entry per seed."""


def run_study(
    plan: StudyPlan,
    *,
    parallel: int | None = None,
    ended: Callable[[str], None] = lambda name: None,
    stage: Callable[[str], None] = lambda text: None,
) -> StudyRecord:
    """Train every run that is not finished, and compare the variants.

    The same call continues, and other seeds or variants are added to what is there. Test is read after all runs have
    ended, once for each, and once more for each modality that is removed; with `study.folds`, it is never read.

    Args:
        plan: the study.
        parallel, ended, stage: as for `train_many`.

    Returns:
        The record, which is also written to `study.json` in the folder of the study.

    Raises:
        UserError: an existing run has other settings; nothing was started.
    """
    began = time.monotonic()
    results = train_many(
        {run.name: run.job for run in plan.runs},
        corpus_hashes={run.name: plan.corpora[run.corpus].hash for run in plan.runs},
        parallel=parallel,
        ended=ended,
        stage=stage,
        reads_test=False,
    )
    record = _compared(plan, results, stage).model_copy(update={"seconds": time.monotonic() - began})
    record_location(plan).write_text(record.model_dump_json(indent=1) + "\n")
    return record


def _compared(plan: StudyPlan, results: Mapping[str, Finished], stage: Callable[[str], None]) -> StudyRecord:
    """Read test once for each run if all have finished, and compare the variants of each corpus."""
    failures = {name: str(result) for name, result in results.items() if not isinstance(result, RunRecord)}
    records = {name: result for name, result in results.items() if isinstance(result, RunRecord)}
    task: Task = next(iter(plan.corpora.values())).manifest.task
    goal = Goal(SELECTS[task], 1 if SELECTS[task] in GREATER[task] else -1)
    reads_test = not failures and plan.study.folds is None
    splits: dict[str, Split] = {
        name: "test" if "test" in corpus.splits() and reads_test else "dev" for name, corpus in plan.corpora.items()
    }
    rows: list[StudyRow] = []
    for corpus in plan.corpora:
        stage(f"scoring on {splits[corpus]} of {corpus}")
        rows += _rows_of(plan, corpus, splits[corpus], records, goal)
    return StudyRecord(
        name=plan.name,
        question=plan.study.question,
        metric=goal.name,
        greater_is_better=goal.sign > 0,
        corpora={
            name: {"name": corpus.manifest.name, "uri": corpus.location.uri, "hash": corpus.hash}
            for name, corpus in plan.corpora.items()
        },
        split=splits,
        variants={name: dict(settings) for name, settings in plan.variants.items()},
        reference=plan.study.reference,
        seeds=plan.study.seeds,
        folds=plan.study.folds,
        axis=plan.study.axis,
        level=1 - ERROR_RATE,
        rows=rows,
        failures=failures,
        test_reads=sum(readings(RunDirectory.of(run.job, run.name), "test") for run in plan.runs),
        seconds=0.0,
        versions=versions(),
    )


def record_location(plan: StudyPlan) -> Location:
    """The file of the record."""
    return plan.location.join(STUDY_RECORD)


def _rows_of(
    plan: StudyPlan, corpus: str, split: Split, records: Mapping[str, RunRecord], goal: Goal
) -> list[StudyRow]:
    """The rows of one corpus: those whose runs all finished, in the order of the variants."""
    runs: dict[str, list[Planned]] = {}
    for run in plan.runs:
        if run.corpus == corpus:
            runs.setdefault(run.variant, []).append(run)
    complete = {name: those for name, those in runs.items() if all(run.name in records for run in those)}
    removed: list[str | None] = [None, *(plan.study.remove if split == "test" else [])]
    by_group: dict[tuple[str, str | None], Sequence[Mapping[Group, DevCounts]]] = {
        (name, without): _counts_by_seed(plan, those, split, without)
        for name, those in complete.items()
        for without in removed
        if without in (None, *_removable(plan, corpus, those[0]))
    }
    counts: dict[tuple[str, str | None], Counts] = {
        row: [groups[EVERYTHING] for groups in found] for row, found in by_group.items()
    }
    reference = counts.get((plan.study.reference, None))
    comparisons = max(len(counts) - 1, 1)
    rows = []
    for (name, without), mine in counts.items():
        is_reference = name == plan.study.reference and without is None
        difference = (
            None
            if reference is None or is_reference
            else paired_bootstrap(
                mine,
                reference,
                goal,
                samples=plan.study.bootstrap_samples,
                error_rate=ERROR_RATE / comparisons,
            )
        )
        row = _row(plan, complete[name], without, mine, difference, records, goal)
        rows.append(row.model_copy(update={"groups": group_rows(by_group[name, without], goal, plan.study)}))
    return rows


def _counts_by_seed(
    plan: StudyPlan, runs: Sequence[Planned], split: Split, removed: str | None
) -> list[Mapping[Group, DevCounts]]:
    """The counts of a variant by seed, those of the parts of a cross-validation joined."""
    groups = () if removed else plan.study.groups
    found: dict[int, list[Mapping[Group, DevCounts]]] = {seed: [] for seed in plan.study.seeds}
    for run in runs:
        directory, corpus = RunDirectory.of(run.job, run.name), plan.corpora[run.corpus]
        found[run.seed].append(counts_of(directory, corpus, split, removed, groups))
    if plan.study.folds is None:
        return [parts[0] for parts in found.values()]
    return [{EVERYTHING: joined([part[EVERYTHING] for part in parts])} for parts in found.values()]


def _removable(plan: StudyPlan, corpus: str, run: Planned) -> Sequence[str]:
    """The modalities of a run, if something is left without one of them."""
    found = run.job.data.modalities or list(plan.corpora[corpus].manifest.widths)
    return found if len(found) > 1 else []


def _row(
    plan: StudyPlan,
    runs: Sequence[Planned],
    removed: str | None,
    counts: Counts,
    difference: Difference | None,
    records: Mapping[str, RunRecord],
    goal: Goal,
) -> StudyRow:
    scores = {seed: goal.sign * score_of(one, goal) for seed, one in zip(plan.study.seeds, counts, strict=True)}
    mine = [records[run.name] for run in runs]
    return StudyRow(
        corpus=runs[0].corpus,
        variant=runs[0].variant,
        removed=removed,
        scores=scores,
        score=spread(list(scores.values())),
        dev=None if removed else spread([record.dev.values[goal.name] for record in mine]),
        difference=None if difference is None else difference.mean,
        low=None if difference is None else difference.low,
        high=None if difference is None else difference.high,
        verdict=verdict(difference, plan.study.reference),
        measures=_scores_beside(plan, counts) | ({} if removed else _measures(plan, runs, mine)),
        epochs=statistics.fmean(record.epochs for record in mine),
    )


def verdict(difference: Difference | None, reference: str) -> str:
    """One sentence: whether a variant can be told from the reference."""
    if difference is None:
        return "the reference"
    interval = f"{difference.mean:+.4f}, interval {difference.low:+.4f} to {difference.high:+.4f}"
    if difference.low > 0:
        return f"better than {reference} ({interval})"
    if difference.high < 0:
        return f"worse than {reference} ({interval})"
    return f"not distinguishable from {reference} ({interval})"


def _scores_beside(plan: StudyPlan, counts: Counts) -> dict[str, Spread]:
    """Other scores of the compared split, over the seeds."""
    names = [measure.partition("/")[2] for measure in plan.study.measures if measure.startswith(f"{SCORE}/")]
    scores = [one.scores(np.ones(len(one.states_CS))) for one in counts]
    known = [one.values | {"loss": one.loss} for one in scores]
    return spreads([{f"{SCORE}/{name}": values[name] for name in names} for values in known])


def _measures(plan: StudyPlan, runs: Sequence[Planned], records: Sequence[RunRecord]) -> dict[str, Spread]:
    """Losses and diagnostics at the selected epochs, over the seeds."""
    wanted = plan.study.measures
    found = []
    for run, record in zip(runs, records, strict=True):
        lines = RunDirectory.of(run.job, run.name).metrics()
        line = next((line for line in lines if line.epoch == record.selected_epoch), None)
        known = {} if line is None else {f"loss/{name}": value for name, value in line.losses.items()}
        known |= {} if line is None else line.diagnostics
        found.append(
            {
                name: value
                for name, value in known.items()
                if any(name == each or name.startswith(f"{each}/") for each in wanted)
            }
        )
    return spreads(found)
