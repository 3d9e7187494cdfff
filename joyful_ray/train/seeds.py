"""One job with several seeds: a run per seed, then mean and standard deviation of every score."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from joyful_ray.config import JobConfig
from joyful_ray.errors import ConfigError, TrainingError
from joyful_ray.records import SELECTS, EpochMetrics, RunRecord, SeedsRecord, seed_run, spreads
from joyful_ray.storage import Location, open_location
from joyful_ray.train.callbacks import Callback
from joyful_ray.train.launch import check_job
from joyful_ray.train.many import Finished, Stage, train_many

Watch = Callable[[int, EpochMetrics], None]
Ended = Callable[[int], None]


def train_seeds(
    job: JobConfig,
    seeds: Sequence[int],
    *,
    name: str | None = None,
    parallel: int | None = 1,
    watch: Watch | None = None,
    ended: Ended = lambda seed: None,
    stage: Stage = lambda text: None,
    callbacks: Sequence[Callback] = (),
) -> SeedsRecord:
    """Train a job once per seed, and summarise the scores.

    The runs are called `<name>-seed-<seed>`. The same call continues: finished seeds are not trained again, an
    unfinished one continues, and other seeds are added. A seed that fails does not stop the others.

    Args:
        job: the settings; its own `seed` is ignored. `cluster.max_hours` counts for all seeds together.
        seeds: each once.
        name: name of the job; None takes the job's.
        parallel: maximum number of runs at a time, as for `train_many`.
        watch: called with the seed and the metrics of each epoch, soon after the epoch ends.
        ended: called with each seed whose run has ended, finished or not.
        stage: called with lines that say what happens.
        callbacks: receive the events of every run, in this process, which then trains one run at a time.

    Returns:
        The record, which is also written to `<storage>/<name>-seeds.json`. Its `failures` name the seeds that failed.

    Raises:
        UserError: seeds, job, corpus or an existing run do not fit; nothing was started.
        TrainingError: no seed finished.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError("give at least one seed, and each seed once")
    name = job.name if name is None else name
    corpus_hash = check_job(job).hash
    seed_of = {run_name(name, seed): seed for seed in seeds}
    results = train_many(
        {run: job.model_copy(update={"seed": seed}) for run, seed in seed_of.items()},
        corpus_hashes=dict.fromkeys(seed_of, corpus_hash),
        parallel=parallel,
        watch=None if watch is None else lambda run, metrics: watch(seed_of[run], metrics),
        ended=lambda run: ended(seed_of[run]),
        stage=stage,
        callbacks=callbacks,
        called=lambda run: f"seed {seed_of[run]}",
    )
    summary = _summary(job, name, corpus_hash, [(seed_of[run], result) for run, result in results.items()])
    record_location(job, name).write_text(summary.model_dump_json(indent=1) + "\n")
    return summary


def run_name(name: str, seed: int) -> str:
    """Name of the run of one seed."""
    return f"{name}-seed-{seed}"


def record_location(job: JobConfig, name: str) -> Location:
    """The file of the record."""
    return open_location(job.storage).join(f"{name}-seeds.json")


def _summary(job: JobConfig, name: str, corpus_hash: str, results: list[tuple[int, Finished]]) -> SeedsRecord:
    records = [result for _, result in results if isinstance(result, RunRecord)]
    failures = {seed: str(result) for seed, result in results if not isinstance(result, RunRecord)}
    if not records:
        seed, reason = next(iter(failures.items()))
        raise TrainingError(f"no seed finished; seed {seed}: {reason}")
    rows = [seed_run(record) for record in records]
    return SeedsRecord(
        name=name,
        fingerprint=job.model_copy(update={"seed": 0}).fingerprint,
        corpus={"name": str(records[0].corpus["name"]), "uri": str(records[0].corpus["uri"]), "hash": corpus_hash},
        selection=SELECTS[records[0].dev.task],
        seeds=rows,
        failures=failures,
        dev=spreads([row.dev for row in rows]),
        test=spreads([row.test for row in rows if row.test]),
    )
