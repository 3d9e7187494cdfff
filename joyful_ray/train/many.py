"""Several runs together: one after the other or side by side, on this machine or on one Ray cluster."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from joyful_ray.config import JobConfig
from joyful_ray.errors import CheckpointError, ConfigError, StorageError, TrainingError
from joyful_ray.records import EpochMetrics, RunRecord
from joyful_ray.train.callbacks import Callback
from joyful_ray.train.launch import train
from joyful_ray.train.on_ray.connection import connected_address, ray_cluster, runs_that_fit
from joyful_ray.train.process_group import pick_device
from joyful_ray.train.run_directory import CONFIG, RunDirectory
from joyful_ray.train.run_process import train_in_processes
from joyful_ray.wording import counted

Watch = Callable[[str, EpochMetrics], None]
Stage = Callable[[str], None]
Ended = Callable[[str], None]
Finished = RunRecord | Exception
FAILURES = (TrainingError, CheckpointError, StorageError)
"""Errors of one run, after which the others still train. A ConfigError would be the same for every run."""


def train_many(
    jobs: Mapping[str, JobConfig],
    *,
    corpus_hashes: Mapping[str, str],
    parallel: int | None = 1,
    watch: Watch | None = None,
    ended: Ended = lambda name: None,
    stage: Stage = lambda text: None,
    callbacks: Sequence[Callback] = (),
    reads_test: bool = True,
    called: Callable[[str], str] = lambda name: name,
) -> dict[str, Finished]:
    """Train one run per job. Finished runs are not trained again, and unfinished ones continue.

    Args:
        jobs: by name of the run; they ask for the same resources.
        corpus_hashes: hash of the corpus of each run.
        parallel: maximum number of runs at a time, each in its own process; fewer run if the machine or the cluster has
            no room for so many. None means one at a time on Ray or on a GPU, and otherwise as many as the machine has
            cores for. The scores do not depend on it.
        watch: called with the name of a run and the metrics of each of its epochs, soon after the epoch ends.
        ended: called with the name of each run that has ended, finished or not.
        stage: called with lines that say what happens.
        callbacks: receive the events of every run, in this process, which then trains one run at a time.
        reads_test: whether each run scores its selected epoch on test.
        called: what a run is called in those lines.

    Returns:
        By name, in the order of `jobs`, the record of the run, or the error that ended it.

    Raises:
        UserError: an existing run has other settings, or the machine cannot be used; nothing was started.
    """
    if callbacks and parallel is not None and parallel > 1:
        raise ConfigError("callbacks need one run at a time; leave out --parallel, or the callbacks")
    started = time.monotonic()
    results: dict[str, Finished] = dict(_finished_before(jobs, corpus_hashes))
    for name in results:
        stage(f"{called(name)}: finished before")
        ended(name)
    waiting = {name: job for name, job in jobs.items() if name not in results}
    if waiting:
        one = next(iter(waiting.values()))
        with _room_for(one, len(waiting), 1 if callbacks else parallel) as (at_a_time, ray_address):
            stage(f"{counted(len(waiting), 'run')} to train, {at_a_time} at a time")
            session = _Session(started, watch, callbacks, reads_test)
            for name, result in session.train(waiting, at_a_time, ray_address):
                results[name] = result
                ended(name)
                stage(f"{called(name)}: {'finished' if isinstance(result, RunRecord) else result}")
    return {name: results[name] for name in jobs}


def _finished_before(jobs: Mapping[str, JobConfig], corpus_hashes: Mapping[str, str]) -> dict[str, RunRecord]:
    """The records of the runs that are finished; raises CheckpointError if any run has other settings."""
    found = {}
    for name, job in jobs.items():
        directory = RunDirectory.of(job, name)
        if directory.location.join(CONFIG).exists():
            directory.check_same(job, corpus_hash=corpus_hashes[name])
        record = directory.read_record()
        if record is not None:
            found[name] = record
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
        started: when the call began, by `time.monotonic`.
        watch: receives the metrics of each epoch.
        callbacks: receive the events of each run, if they train in turn.
        reads_test: whether runs score test.
    """

    def __init__(self, started: float, watch: Watch | None, callbacks: Sequence[Callback], reads_test: bool) -> None:
        self._started, self._watch, self._callbacks, self._reads_test = started, watch, callbacks, reads_test

    def train(
        self, jobs: Mapping[str, JobConfig], at_a_time: int, ray_address: str | None
    ) -> Iterator[tuple[str, Finished]]:
        """Train the jobs, and give each name with its result when its run ends."""
        if at_a_time == 1:
            return self._in_turn(jobs)
        return self._side_by_side(jobs, at_a_time, ray_address)

    def _in_turn(self, jobs: Mapping[str, JobConfig]) -> Iterator[tuple[str, Finished]]:
        for name, job in jobs.items():
            try:
                result: Finished = train(
                    self._in_time(job),
                    name=name,
                    watch=self._watch_of(name),
                    callbacks=self._callbacks,
                    reads_test=self._reads_test,
                )
            except FAILURES as error:
                result = error
            yield name, result

    def _side_by_side(
        self, jobs: Mapping[str, JobConfig], at_a_time: int, ray_address: str | None
    ) -> Iterator[tuple[str, Finished]]:
        def jobs_in_time() -> Iterator[tuple[str, JobConfig | TrainingError]]:
            for name, job in jobs.items():
                try:
                    yield name, self._in_time(job)
                except TrainingError as error:
                    yield name, error

        ends = train_in_processes(
            jobs_in_time(),
            at_a_time=at_a_time,
            ray_address=ray_address,
            watch=self._watch or (lambda name, metrics: None),
            reads_test=self._reads_test,
        )
        for name, error in ends:
            if isinstance(error, ConfigError):
                raise error
            record = RunDirectory.of(jobs[name], name).read_record()
            yield name, error or record or TrainingError(f"run {name} ended without a record")

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

    def _watch_of(self, name: str) -> Callable[[EpochMetrics], None] | None:
        watch = self._watch
        return None if watch is None else lambda metrics: watch(name, metrics)
