"""The record of one job trained with several seeds: scores per seed, mean and standard deviation."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from joyful_ray.records.reading import Record
from joyful_ray.records.runs import RunRecord
from joyful_ray.records.scores import Scores


class Spread(Record):
    """A score over several seeds.

    Attributes:
        mean: arithmetic mean.
        deviation: sample standard deviation (n - 1); None for a single seed.
        count: number of seeds.
    """

    mean: float
    deviation: float | None
    count: int


class SeedRun(Record):
    """One seed.

    Attributes:
        run: name of the run, a folder beside this record.
        epochs: number of epochs that were trained.
        selected_epoch: counted from 0, as in the record of the run.
        dev, test: scores by name; label scores are `f1/<label>`. `test` is empty if the corpus has no test split.
    """

    seed: int
    run: str
    epochs: int
    selected_epoch: int
    dev: dict[str, float]
    test: dict[str, float]


class SeedsRecord(Record):
    """`<name>-seeds.json`: one job trained with several seeds.

    Attributes:
        name: name of the job; the runs are called `<name>-seed-<seed>`.
        fingerprint: hash of the settings that determine the result, with seed 0.
        corpus: `name`, `uri` and `hash` of the corpus.
        selection: name of the dev score that selects epochs.
        seeds: one entry per finished seed, in the order given.
        failures: by seed, why its run failed.
        dev, test: mean and standard deviation by score, over the finished seeds.
    """

    name: str
    fingerprint: str
    corpus: dict[str, str]
    selection: str
    seeds: list[SeedRun]
    failures: dict[int, str] = {}
    dev: dict[str, Spread]
    test: dict[str, Spread]


def flat_scores(scores: Scores | None) -> dict[str, float]:
    """Scores by name, label scores as `f1/<label>`; empty for None."""
    if scores is None:
        return {}
    return dict(scores.values) | {f"f1/{name}": cells["f1"] for name, cells in scores.per_label.items()}


def spread(values: Sequence[float]) -> Spread:
    """Mean and sample standard deviation of at least one value."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Spread(mean=statistics.fmean(values), deviation=deviation, count=len(values))


def spreads(rows: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    """The spread of every score that all rows have, in the order of the first row."""
    names = [name for name in (rows[0] if rows else {}) if all(name in row for row in rows)]
    return {name: spread([row[name] for row in rows]) for name in names}


def seed_run(record: RunRecord) -> SeedRun:
    """What a seeds record keeps of a run."""
    return SeedRun(
        seed=record.config["seed"],
        run=record.name,
        epochs=record.epochs,
        selected_epoch=record.selected_epoch,
        dev=flat_scores(record.dev),
        test=flat_scores(record.test),
    )
