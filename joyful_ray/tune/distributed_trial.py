"""A trial with several workers: a Ray Train run inside a Ray Tune trial."""

from __future__ import annotations

import time

import ray.train
from ray.tune.integration.ray_train import TuneReportCallback

from joyful_ray.config import JobConfig
from joyful_ray.records import RunRecord
from joyful_ray.storage import Location
from joyful_ray.train.launch import written_record
from joyful_ray.train.on_ray.attempts import Attempts
from joyful_ray.train.on_ray.messages import tell_command
from joyful_ray.train.on_ray.trainer import ray_trainer
from joyful_ray.train.run_directory import RunDirectory
from joyful_ray.tune.goals import Goal
from joyful_ray.tune.reporting import Reporter
from joyful_ray.tune.search_context import Prepared

CACHE = ".ray"


def start_marker(directory: RunDirectory) -> Location:
    """The file of a trial that exists once its workers run, and until it has ended."""
    return directory.location.join(CACHE, "started")


class WorkerReporter(Reporter):
    """Reports from a Ray Train worker: every rank reports each epoch, and Ray Tune receives that of the first rank.

    The last epoch is held back; the trial itself reports it after the record is written.
    """

    def __init__(self, goal: Goal, directory: RunDirectory) -> None:
        super().__init__(goal, ray.train.report)
        self.remember(directory.metrics())


def train_on_workers(job: JobConfig, prepared: Prepared, directory: RunDirectory, reporter: Reporter) -> RunRecord:
    """Train a trial on its workers, and return its record.

    Args:
        job: settings of the trial.
        prepared: the prepared corpus.
        directory: folder of the trial.
        reporter: reporter of the trial; it notes what the workers reported.

    Raises:
        TrainingError: the run started and failed.
    """
    before = len(directory.metrics())
    goal = reporter.goal
    config = {
        "job": job,
        "corpus_info": prepared.corpus_info,
        "ingested": dict(prepared.ingested),
        "directory": directory,
        "started": time.time(),
        "reporter": lambda: WorkerReporter(goal, directory),
        "marker": start_marker(directory),
    }
    start_marker(directory).remove()  # of an earlier attempt
    storage = directory.location.join(CACHE).uri

    def attempt() -> None:
        ray_trainer(job.cluster, config, storage=storage, callbacks=[TuneReportCallback()]).fit()

    Attempts(job.cluster.max_failures, tell_command).run(attempt)
    record = written_record(directory)
    reporter.remember(line for line in directory.metrics() if line.epoch >= before)
    directory.location.join(CACHE).remove()
    return record
