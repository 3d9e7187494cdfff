"""One job with several seeds: a run per seed, then mean and standard deviation of every score."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from joyful_ray.config import JobConfig
from joyful_ray.errors import CheckpointError, ConfigError, StorageError, TrainingError
from joyful_ray.records import EpochMetrics, RunRecord, SeedsRecord, seed_run, spreads
from joyful_ray.storage import Location, open_location
from joyful_ray.train.callbacks import Callback
from joyful_ray.train.launch import check_job, connected_address, ray_cluster, runs_that_fit, train
from joyful_ray.train.process_group import pick_device
from joyful_ray.train.run_directory import CONFIG, RunDirectory
from joyful_ray.train.run_process import train_in_processes
from joyful_ray.wording import counted

Watch = Callable[[int, EpochMetrics], None]
Stage = Callable[[str], None]
Ended = Callable[[int], None]
Finished = RunRecord | Exception
FAILURES = (TrainingError, CheckpointError, StorageError)
"""Errors of one run, after which the other seeds still train. A ConfigError would be the same for every seed."""


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
        parallel: maximum number of runs at a time, each in its own process; fewer run if the machine or the cluster has
            no room for so many. None means one at a time on Ray or on a GPU, and otherwise as many as the machine has
            cores for. The scores do not depend on it.
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
    if callbacks and parallel is not None and parallel > 1:
        raise ConfigError("callbacks need one run at a time; leave out --parallel, or the callbacks")
    started = time.monotonic()
    name = job.name if name is None else name
    corpus_hash = check_job(job).hash
    jobs = {seed: job.model_copy(update={"seed": seed}) for seed in seeds}
    results: dict[int, Finished] = dict(_finished_before(jobs, name, corpus_hash))
    for seed in results:
        stage(f"seed {seed}: finished before")
        ended(seed)
    waiting = {seed: each for seed, each in jobs.items() if seed not in results}
    if waiting:
        with _room_for(job, len(waiting), 1 if callbacks else parallel) as (at_a_time, ray_address):
            stage(f"{counted(len(waiting), 'run')} to train, {at_a_time} at a time")
            for seed, result in _Session(name, started, watch, callbacks).train(waiting, at_a_time, ray_address):
                results[seed] = result
                ended(seed)
                stage(f"seed {seed}: {'finished' if isinstance(result, RunRecord) else result}")
    summary = _summary(job, name, corpus_hash, [(seed, results[seed]) for seed in seeds])
    record_location(job, name).write_text(summary.model_dump_json(indent=1) + "\n")
    return summary


def run_name(name: str, seed: int) -> str:
    """Name of the run of one seed."""
    return f"{name}-seed-{seed}"


def record_location(job: JobConfig, name: str) -> Location:
    """The file of the record."""
    return open_location(job.storage).join(f"{name}-seeds.json")


def _finished_before(jobs: dict[int, JobConfig], name: str, corpus_hash: str) -> dict[int, RunRecord]:
    """The records of the runs that are finished; raises CheckpointError if any run has other settings."""
    found = {}
    for seed, job in jobs.items():
        directory = RunDirectory.of(job, run_name(name, seed))
        if directory.location.join(CONFIG).exists():
            directory.check_same(job, corpus_hash=corpus_hash)
        record = directory.read_record()
        if record is not None:
            found[seed] = record
    return found


@contextmanager
def _room_for(job: JobConfig, runs: int, parallel: int | None) -> Iterator[tuple[int, str | None]]:
    """Keep one Ray cluster for all runs, if the job trains on Ray.

    Yields:
        How many runs may train at a time, and the address of the cluster.
    """
    cluster = job.cluster
    if cluster.workers:
        wanted = min(parallel or 1, runs)
        with ray_cluster(job, runs=wanted):
            yield min(wanted, runs_that_fit(job)), connected_address()
        return
    if parallel is None and pick_device(job.train.device).type == "cuda":
        parallel = 1
    yield min(parallel or runs, runs, max(1, int(_cores() / cluster.cpus_per_worker))), None


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Session:
    """The runs of one call.

    Args:
        name: name of the job.
        started: when the call began, by `time.monotonic`.
        watch: receives the metrics of each epoch.
        callbacks: receive the events of each run, if they train in turn.
    """

    def __init__(self, name: str, started: float, watch: Watch | None, callbacks: Sequence[Callback]) -> None:
        self._name, self._started, self._watch, self._callbacks = name, started, watch, callbacks

    def train(
        self, jobs: dict[int, JobConfig], at_a_time: int, ray_address: str | None
    ) -> Iterator[tuple[int, Finished]]:
        """Train the jobs, and give each seed with its result when its run ends."""
        if at_a_time == 1:
            return self._in_turn(jobs)
        return self._side_by_side(jobs, at_a_time, ray_address)

    def _in_turn(self, jobs: dict[int, JobConfig]) -> Iterator[tuple[int, Finished]]:
        for seed, job in jobs.items():
            try:
                result: Finished = train(
                    self._in_time(job),
                    name=run_name(self._name, seed),
                    watch=self._watch_of(seed),
                    callbacks=self._callbacks,
                )
            except FAILURES as error:
                result = error
            yield seed, result

    def _side_by_side(
        self, jobs: dict[int, JobConfig], at_a_time: int, ray_address: str | None
    ) -> Iterator[tuple[int, Finished]]:
        seeds = {run_name(self._name, seed): seed for seed in jobs}

        def jobs_in_time() -> Iterator[tuple[str, JobConfig | TrainingError]]:
            for name, seed in seeds.items():
                try:
                    yield name, self._in_time(jobs[seed])
                except TrainingError as error:
                    yield name, error

        def watch(name: str, metrics: EpochMetrics) -> None:
            if self._watch is not None:
                self._watch(seeds[name], metrics)

        ends = train_in_processes(jobs_in_time(), at_a_time=at_a_time, ray_address=ray_address, watch=watch)
        for name, error in ends:
            if isinstance(error, ConfigError):
                raise error
            record = RunDirectory.of(jobs[seeds[name]], name).read_record()
            yield seeds[name], error or record or TrainingError(f"run {name} ended without a record")

    def _in_time(self, job: JobConfig) -> JobConfig:
        """The job with the rest of `cluster.max_hours`.

        Raises:
            TrainingError: nothing is left.
        """
        limit = job.cluster.max_hours
        if limit is None:
            return job
        left = limit - (time.monotonic() - self._started) / 3600
        if left <= 0:
            raise TrainingError("not trained, because cluster.max_hours is over; the same command continues")
        return job.model_copy(update={"cluster": job.cluster.model_copy(update={"max_hours": left})})

    def _watch_of(self, seed: int) -> Callable[[EpochMetrics], None] | None:
        watch = self._watch
        return None if watch is None else lambda metrics: watch(seed, metrics)


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
        selection="mae" if records[0].dev.task == "regression" else "weighted_f1",
        seeds=rows,
        failures=failures,
        dev=spreads([row.dev for row in rows]),
        test=spreads([row.test for row in rows if row.test]),
    )
