"""A trial with several workers: a Ray Train run inside a Ray Tune trial."""

from __future__ import annotations

import math
import time
from typing import Any

import ray.train
from ray import tune
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError
from ray.tune.integration.ray_train import TuneReportCallback

from joyful_ray.config import JobConfig
from joyful_ray.errors import TrainingError
from joyful_ray.records import RunRecord
from joyful_ray.train.failure_cause import first_cause
from joyful_ray.train.run_directory import RunDirectory
from joyful_ray.train.worker import train_on_worker
from joyful_ray.tune.goals import Goal
from joyful_ray.tune.reporting import Reporter
from joyful_ray.tune.search_context import Prepared

CACHE = ".ray"


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
    cluster = job.cluster
    resources = {"CPU": cluster.cpus_per_worker}
    if cluster.gpus_per_worker:
        resources["GPU"] = cluster.gpus_per_worker
    before = len(directory.metrics())
    goal = reporter.goal
    to_tune: Any = TuneReportCallback()
    trainer = TorchTrainer(
        train_on_worker,
        train_loop_config={
            "job": job,
            "corpus_info": prepared.corpus_info,
            "ingested": dict(prepared.ingested),
            "directory": directory,
            "started": time.time(),
            "reporter": lambda: WorkerReporter(goal, directory),
        },
        torch_config=TorchConfig(timeout_s=math.ceil(cluster.collective_timeout_s)),
        scaling_config=ScalingConfig(
            num_workers=cluster.workers, use_gpu=cluster.gpus_per_worker > 0, resources_per_worker=resources
        ),
        run_config=RunConfig(
            name=f"{tune.get_context().get_trial_name()}-{time.time_ns()}",
            storage_path=directory.location.join(CACHE).uri,
            failure_config=FailureConfig(max_failures=cluster.max_failures),
            callbacks=[to_tune],
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        raise TrainingError(first_cause(error)) from error
    failure = directory.read_failure()
    if failure is not None:
        raise TrainingError(failure)
    record = directory.read_record()
    if record is None:
        raise TrainingError(f"the workers ended without a record in {directory.location.uri}")
    reporter.remember(line for line in directory.metrics() if line.epoch >= before)
    directory.location.join(CACHE).remove()
    return record
