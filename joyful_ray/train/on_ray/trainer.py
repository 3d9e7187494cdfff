"""Ray Train's workers of one run: how they are started, and how a command ends them."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import ray
from ray.train.torch import TorchConfig
from ray.train.v2.api.config import FailureConfig, RunConfig, ScalingConfig
from ray.train.v2.torch.torch_trainer import TorchTrainer

from joyful_ray.errors import StorageError
from joyful_ray.settings import ClusterConfig
from joyful_ray.storage import Location
from joyful_ray.termination import Stopped, is_sigterm
from joyful_ray.train.on_ray.attempts import SayFailures
from joyful_ray.train.on_ray.worker import train_on_worker
from joyful_ray.train.run_directory import RunDirectory
from joyful_ray.train.saving import SAVING_S


def ray_trainer(
    cluster: ClusterConfig,
    config: dict[str, Any],
    *,
    storage: str,
    callbacks: Sequence[Any] = (),
) -> TorchTrainer:
    """What starts the workers of a run or of a trial.

    Args:
        cluster: how many, and what each of them gets.
        config: what `train_on_worker` is given.
        storage: where Ray keeps its own state, on which this package does not depend.
        callbacks: Ray Train's, besides the one that says why workers failed.
    """
    resources = {"CPU": cluster.cpus_per_worker}
    if cluster.gpus_per_worker:
        resources["GPU"] = cluster.gpus_per_worker
    workers: Any = cluster.worker_range  # Ray's annotation leaves out the range
    return TorchTrainer(
        train_on_worker,
        train_loop_config=config,
        torch_config=TorchConfig(timeout_s=math.ceil(cluster.collective_timeout_s)),
        scaling_config=ScalingConfig(
            num_workers=workers, use_gpu=cluster.gpus_per_worker > 0, resources_per_worker=resources
        ),
        run_config=RunConfig(
            name=f"attempt-{time.time_ns()}",
            storage_path=storage,
            failure_config=FailureConfig(max_failures=cluster.max_failures),
            callbacks=[SayFailures(cluster.max_failures), *callbacks],
        ),
    )


def fit(trainer: TorchTrainer, directory: RunDirectory, marker: Location) -> None:
    """Train, and end the workers if this process is interrupted: at once by Ctrl-C, saved by SIGTERM.

    Ray's own handler of Ctrl-C waits for its controller, which may itself wait a minute for workers, and then ends the
    process without a word.
    """
    controllers: list[Any] = []
    vars(trainer)["_register_sigint_handler"] = controllers.append
    try:
        trainer.fit()
    except (KeyboardInterrupt, SystemExit):
        place = saved_place(directory, marker) if is_sigterm() else None
        for controller in controllers:  # the workers end with it
            ray.kill(controller)
        if place is not None:
            raise Stopped(place) from None
        raise


def saved_place(directory: RunDirectory, marker: Location) -> str | None:
    """Ask the workers to save and stop, and wait until they have, but not for long.

    Args:
        directory: of the run.
        marker: exists once the workers run.

    Returns:
        Where they stopped; None if they did not run, or did not answer in time.
    """
    deadline = time.monotonic() + SAVING_S
    with suppress(StorageError):
        if not marker.exists():
            return None
        directory.request_stop()
        while time.monotonic() < deadline:
            place = directory.read_stopped()
            if place is not None:
                directory.forget_stop()
                return place
            time.sleep(0.2)
    return None
