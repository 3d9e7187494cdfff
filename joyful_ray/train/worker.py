"""The loop on a Ray Train worker."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import ray.train
import ray.train.torch
import torch

from joyful_ray.data.ingest import Held
from joyful_ray.data.source import Source
from joyful_ray.errors import TrainingError, UserError
from joyful_ray.train.context import World, use_cores
from joyful_ray.train.directory import RunDirectory
from joyful_ray.train.loop import Assignment, run

FIRST_RANK_TIMEOUT_S = 10


def train_on_worker(config: dict[str, Any]) -> None:
    """Run one rank; an error that would come again is left in the run's directory, so that Ray does not try again.

    Args:
        config: `job`, `facts`, `held`, `directory` and `started`, as the driver has them; `reporter` makes what is
            called with each epoch's numbers, where they do not go to Ray Train as they are.
    """
    job, facts, held, directory = (config[name] for name in ("job", "facts", "held", "directory"))
    context = ray.train.get_context()
    is_cuda = job.cluster.gpus_per_worker > 0
    device = ray.train.torch.get_device() if is_cuda else torch.device("cpu")
    use_cores(job.cluster.cpus_per_worker, device)
    world = World(
        rank=context.get_world_rank(),
        size=context.get_world_size(),
        device=device,
        report=config["reporter"]() if "reporter" in config else _report,
    )

    def source_of(split: Held) -> Callable[[], Source]:
        return lambda: split.source(job, facts.encoding)

    assignment = Assignment(
        job=job,
        facts=facts,
        sources={name: source_of(split) for name, split in held.items()},
        directory=directory,
        workers=world.size,
        started=config["started"],
    )
    try:
        run(assignment, world)
    except (TrainingError, UserError) as error:
        if world.is_first:
            directory.write_failure(str(error))
        elif not _first_rank_failed_too(directory):
            raise
    except Exception as error:
        # The rank that failed first is the cause; the others fail waiting for it, and may be heard before it.
        error.failed_at = time.time()  # type: ignore[attr-defined]
        raise


def _first_rank_failed_too(directory: RunDirectory) -> bool:
    """Whether the error was every rank's; the first rank would wait for one that fails alone and goes in silence."""
    deadline = time.monotonic() + FIRST_RANK_TIMEOUT_S
    while directory.read_failure() is None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _report(numbers: Mapping[str, float]) -> None:
    ray.train.report(dict(numbers))
