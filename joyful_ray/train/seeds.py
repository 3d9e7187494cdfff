"""One job with several seeds: a run per seed, then mean and standard deviation of every score."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import nullcontext
from multiprocessing import get_context

from joyful_ray.config import JobConfig
from joyful_ray.errors import ConfigError, TrainingError
from joyful_ray.records import EpochMetrics, RunRecord, SeedsRecord, seed_run, spreads
from joyful_ray.storage import Location, open_location
from joyful_ray.train.launch import check_job, ray_cluster, train
from joyful_ray.train.run_directory import CONFIG, RunDirectory

Watch = Callable[[EpochMetrics], None]
Stage = Callable[[str], None]
Finished = RunRecord | TrainingError


def train_seeds(
    job: JobConfig,
    seeds: Sequence[int],
    *,
    name: str | None = None,
    parallel: int = 1,
    watch: Watch | None = None,
    stage: Stage = lambda text: None,
) -> SeedsRecord:
    """Train a job once per seed, and summarise the scores.

    The runs are called `<name>-seed-<seed>`. The same call continues: finished seeds are not trained again, an
    unfinished one continues, and other seeds are added. A seed that fails does not stop the others.

    Args:
        job: the settings; its own `seed` is ignored. `cluster.max_hours` counts for all seeds together.
        seeds: each once.
        name: name of the job; None takes the job's.
        parallel: runs at a time, each in a process of its own; more than 1 needs `cluster.workers: 0`.
        watch: called with each epoch's metrics, if one run trains at a time.
        stage: called with a line before each run.

    Returns:
        The record, which is also written to `<storage>/<name>-seeds.json`. Its `failures` name the seeds that failed.

    Raises:
        UserError: seeds, job, corpus or an existing run do not fit; nothing was started.
        TrainingError: no seed finished, or `cluster.max_hours` is over.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError("--seeds needs at least one seed, and each seed once")
    if parallel > 1 and job.cluster.workers > 0:
        raise ConfigError("--parallel trains without Ray; add --workers 0, or leave it out")
    name = job.name if name is None else name
    corpus_hash = check_job(job).hash
    jobs = {seed: job.model_copy(update={"seed": seed}) for seed in seeds}
    known: dict[int, Finished] = {}
    for seed, each in jobs.items():
        directory = RunDirectory.of(each, run_name(name, seed))
        if directory.location.join(CONFIG).exists():
            directory.check_same(each, corpus_hash=corpus_hash)
        record = directory.read_record()
        if record is not None:
            known[seed] = record
            stage(f"seed {seed}: finished before")
    waiting = {seed: each for seed, each in jobs.items() if seed not in known}
    runs = _side_by_side(waiting, name, parallel) if parallel > 1 else _in_turn(waiting, name, watch, stage)
    with ray_cluster(job) if waiting and job.cluster.workers else nullcontext():
        for seed, result in runs:
            known[seed] = result
            if parallel > 1:
                stage(f"seed {seed}: {result if isinstance(result, TrainingError) else 'finished'}")
    summary = _summary(job, name, corpus_hash, [(seed, known[seed]) for seed in seeds])
    record_location(job, name).write_text(summary.model_dump_json(indent=1) + "\n")
    return summary


def run_name(name: str, seed: int) -> str:
    """Name of the run of one seed."""
    return f"{name}-seed-{seed}"


def record_location(job: JobConfig, name: str) -> Location:
    """The file of the record."""
    return open_location(job.storage).join(f"{name}-seeds.json")


def _in_turn(
    jobs: dict[int, JobConfig], name: str, watch: Watch | None, stage: Stage
) -> Iterator[tuple[int, Finished]]:
    started = time.monotonic()
    for number, (seed, job) in enumerate(jobs.items(), start=1):
        left = _with_time_left(job, started)
        if left is None:
            yield seed, TrainingError("not trained, because cluster.max_hours is over; the same command continues")
            continue
        stage(f"seed {seed}: run {number} of {len(jobs)}, {run_name(name, seed)}")
        yield seed, _train_one(left, run_name(name, seed), watch)


def _side_by_side(jobs: dict[int, JobConfig], name: str, parallel: int) -> Iterator[tuple[int, Finished]]:
    with ProcessPoolExecutor(min(parallel, len(jobs) or 1), mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(_train_one, job, run_name(name, seed)): seed for seed, job in jobs.items()}
        for future in as_completed(futures):
            yield futures[future], future.result()


def _train_one(job: JobConfig, name: str, watch: Watch | None = None) -> Finished:
    try:
        return train(job, name=name, watch=watch)
    except TrainingError as error:
        return error


def _with_time_left(job: JobConfig, started: float) -> JobConfig | None:
    """The job with the rest of `cluster.max_hours`; None if nothing is left."""
    limit = job.cluster.max_hours
    if limit is None:
        return job
    left = limit - (time.monotonic() - started) / 3600
    cluster = job.cluster.model_copy(update={"max_hours": left})
    return job.model_copy(update={"cluster": cluster}) if left > 0 else None


def _summary(job: JobConfig, name: str, corpus_hash: str, results: list[tuple[int, Finished]]) -> SeedsRecord:
    records = [result for _, result in results if isinstance(result, RunRecord)]
    failures = {seed: str(result) for seed, result in results if isinstance(result, TrainingError)}
    if not records:
        seed, reason = next(iter(failures.items()))
        raise TrainingError(f"no seed finished; seed {seed}: {reason}")
    rows = [seed_run(record) for record in records]
    return SeedsRecord(
        name=name,
        fingerprint=job.model_copy(update={"seed": 0}).fingerprint,
        corpus={"name": str(records[0].corpus["name"]), "uri": str(records[0].corpus["uri"]), "hash": corpus_hash},
        selection="mae" if records[0].dev.task == "regression" else "weighted_f1",
        seeds=rows,
        failures=failures,
        dev=spreads([row.dev for row in rows]),
        test=spreads([row.test for row in rows if row.test]),
    )
