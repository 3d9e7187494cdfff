"""The training loop on a Ray Train worker."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import ray.train
import ray.train.torch
import torch

from joyful_ray.config import JobConfig
from joyful_ray.data.ingest import IngestedSplit, are_resident, train_and_dev
from joyful_ray.data.loader import BatchLoader
from joyful_ray.data.prepare import CorpusInfo
from joyful_ray.data.streaming import LANES
from joyful_ray.errors import StorageError, TrainingError, UserError
from joyful_ray.schema import Split
from joyful_ray.termination import Stopped
from joyful_ray.train.logs import copying_own_log
from joyful_ray.train.loop import run
from joyful_ray.train.loop_spec import RunSpec
from joyful_ray.train.process_group import ProcessGroup, use_cores
from joyful_ray.train.run_directory import RunDirectory
from joyful_ray.train.step_layout import StepLayout

FIRST_RANK_TIMEOUT_S = 10
NODE_LOSS_S = 30.0
"""Seconds in which Ray notices that a machine has gone."""


def train_on_worker(config: dict[str, Any]) -> None:
    """Run one rank.

    An error that would happen again is written to the run's directory instead of raised, so that Ray does not retry.

    Args:
        config: `job`, `corpus_info`, `ingested`, `directory` and `started` from the driver; `marker` (optional) is a
            file by which the driver sees that the workers run; `reporter` (optional) returns the callable that receives
            each epoch's numbers instead of Ray Train: that of a search, of which this run is a trial.
    """
    job, corpus_info, ingested, directory = (config[name] for name in ("job", "corpus_info", "ingested", "directory"))
    context = ray.train.get_context()
    is_trial = "reporter" in config
    is_cuda = job.cluster.gpus_per_worker > 0
    device = ray.train.torch.get_device() if is_cuda else torch.device("cpu")
    use_cores(job.cluster.cpus_per_worker, device)
    process_group = ProcessGroup(
        rank=context.get_world_rank(),
        size=context.get_world_size(),
        device=device,
        report=config["reporter"]() if "reporter" in config else _report,
    )

    if process_group.is_first and "marker" in config:
        config["marker"].write_text("")

    notice = Notice()

    def source_of(split: IngestedSplit) -> Callable[[], BatchLoader]:
        return lambda: split.source(job, corpus_info.encoding)

    spec = RunSpec(
        job=job,
        corpus_info=corpus_info,
        sources={name: source_of(split) for name, split in ingested.items()},
        directory=directory,
        workers=process_group.size,
        started=config["started"],
        both=lambda: train_and_dev(ingested).source(job, corpus_info.encoding),
        warnings=idle_workers(job, corpus_info, ingested),
        ask=notice.given,
        is_trial=is_trial,
    )
    try:
        with nullcontext() if is_trial else copying_own_log(directory.logs, f"rank-{process_group.rank:03d}"):
            run(spec, process_group)
    except Stopped as stopped:
        if process_group.is_first:
            directory.write_stopped(str(stopped))
    except Exception as error:
        # The rank that failed first is the cause. The others fail while waiting for it, and may be reported before it.
        error.failed_at = time.time()  # type: ignore[attr-defined]
        if _is_raised(error, directory, process_group, notice):
            raise


def _is_raised(error: Exception, directory: RunDirectory, process_group: ProcessGroup, notice: Notice) -> bool:
    """Whether Ray learns of an error, and may start the workers again; otherwise it is in the run's directory."""
    if not would_happen_again(error):
        if notice.was_given:
            # Other ranks lose the one on that machine. Before Ray knows why, this would count as a failure.
            time.sleep(NODE_LOSS_S)
        return True
    if process_group.is_first:
        directory.write_failure(str(error))
        return False
    return not _first_rank_failed_too(directory)


def would_happen_again(error: Exception) -> bool:
    """Whether another attempt would end in the same way; storage may work again."""
    return isinstance(error, (TrainingError, UserError)) and not isinstance(error, StorageError)


class Notice:
    """The notice that a machine of the run will be taken away.

    Attributes:
        was_given: whether it had been given when this rank last asked.
    """

    was_given = False

    def given(self) -> bool:
        """Ask Ray; all ranks must ask together."""
        self.was_given = ray.train.get_preemption_info() is not None
        return self.was_given


def idle_workers(job: JobConfig, corpus_info: CorpusInfo, ingested: Mapping[Split, IngestedSplit]) -> list[str]:
    """What to say about workers without work."""
    found, workers = StepLayout.of(job, corpus_info.conversations).warnings(), job.cluster.workers
    if not found and workers > LANES and not are_resident(ingested.values()):
        found = [
            f"{workers - LANES} of {workers} workers are idle, because streaming ingest divides a split into {LANES} "
            f"parts; use {LANES} workers"
        ]
    return found


def _first_rank_failed_too(directory: RunDirectory) -> bool:
    """Whether the first rank has the same error; if not, this rank must raise, or the first would wait for it."""
    deadline = time.monotonic() + FIRST_RANK_TIMEOUT_S
    while directory.read_failure() is None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _report(numbers: Mapping[str, float]) -> None:
    ray.train.report(dict(numbers))
