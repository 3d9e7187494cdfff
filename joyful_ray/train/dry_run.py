"""A dry run: measures what steps, dev evaluation and checkpoints of a job cost, by running a few of each."""

from __future__ import annotations

import math
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import accumulate
from pathlib import Path
from typing import TypeVar

import torch
from torch import distributed

from joyful_ray.config import JobConfig
from joyful_ray.corpora.shards import Corpus
from joyful_ray.data.batch import Batch
from joyful_ray.data.loader import ResidentLoader, Work
from joyful_ray.data.plan import Step, draw_key, plan_epoch, plan_evaluation
from joyful_ray.data.prepare import CorpusInfo, corpus_info_of, survey
from joyful_ray.data.scope import step_rules
from joyful_ray.data.split_rows import SplitRows, split_rows
from joyful_ray.data.store import SplitStore
from joyful_ray.errors import TrainingError
from joyful_ray.schema import Split
from joyful_ray.storage import open_location
from joyful_ray.train.build import build_objective
from joyful_ray.train.checkpoint import write_checkpoint
from joyful_ray.train.diagnostics import diagnose
from joyful_ray.train.evaluate import evaluate
from joyful_ray.train.process_group import ProcessGroup, pick_device, use_cores
from joyful_ray.train.schedule import Progress
from joyful_ray.train.trainer import Trainer

Result = TypeVar("Result")
MEASURED_S, STEPS_PER_SAMPLE, MIN_SAMPLES, MAX_SAMPLES = 6.0, 4, 3, 12
EVALUATED_BATCHES = 6
SAMPLED_CONVERSATIONS = 4000
"""At most about this many conversations of each split are read; sizes come from the manifest."""


@dataclass(frozen=True)
class DryRun:
    """Measured cost of one of the job's workers, with as many of them in parallel as this machine has cores for.

    Attributes:
        processes: number of processes that ran in parallel.
        device: type of device that they ran on.
        parameters: number of parameters of the model.
        steps: number of steps that were timed.
        step_s, step_error_s: mean seconds per step, and the standard error of that mean.
        dev_s: seconds of one evaluation on dev.
        diagnose_s: seconds of one epoch's diagnostics.
        save_s: seconds to write one checkpoint to a local disk.
        start_s: seconds to start a process that has imported torch.
        prepare_s: seconds to read and encode the corpus.
        checkpoint_bytes, weights_bytes: size on storage.
        peak_memory_bytes: the largest resident memory of any process.
    """

    processes: int
    device: str
    parameters: int
    steps: int
    step_s: float
    step_error_s: float
    dev_s: float
    diagnose_s: float
    save_s: float
    start_s: float
    prepare_s: float
    checkpoint_bytes: int
    weights_bytes: int
    peak_memory_bytes: int


@dataclass(frozen=True)
class _PlannedSteps:
    """A loader of a few steps, split for as many workers as the job has, even if fewer run here."""

    store: SplitStore
    plan: list[Step]
    workers: int

    def steps(self, *, world_size: int) -> int:
        return len(self.plan)

    def epoch(self, epoch: int, *, rank: int, world_size: int, start: int = 0) -> Iterator[Work]:
        for step in self.plan[start:]:
            mine = step.of_rank(rank, self.workers, self.store.lengths)
            yield [(micro, self.store.batch(micro.conversations, draw_key=draw_key(0, epoch))) for micro in mine]

    def once(self, *, rank: int, world_size: int) -> Iterator[Batch]:
        return (batch for work in self.epoch(0, rank=rank, world_size=world_size) for _, batch in work)


def dry_run(job: JobConfig, corpus: Corpus) -> DryRun:
    """Run real steps of the job, in as many processes as it has workers but at most one per core (or GPU) here.

    Raises:
        UserError: the job does not fit the corpus.
        TrainingError: a process was killed.
    """
    workers = max(job.cluster.workers, 1)
    slots = torch.cuda.device_count() if _uses_gpu(job) else (os.cpu_count() or 1)
    processes = max(1, min(workers, slots))
    began = time.time()
    with tempfile.TemporaryDirectory() as folder:
        init_method = f"file://{folder}/init"
        context = multiprocessing.get_context("spawn")
        # Each process gets its own session, like Ray's workers: Linux divides the cores of a busy machine by session.
        with ProcessPoolExecutor(max_workers=processes, mp_context=context, initializer=os.setsid) as pool:
            futures = [
                pool.submit(_dry_run, job, corpus, (rank, processes), init_method, began) for rank in range(processes)
            ]
            try:
                runs = [future.result() for future in futures]
            except BrokenProcessPool:
                raise TrainingError(
                    "a process of the dry run was killed, probably because the machine ran out of memory"
                ) from None
    return replace(runs[0], peak_memory_bytes=max(run.peak_memory_bytes for run in runs))


def _uses_gpu(job: JobConfig) -> bool:
    return job.cluster.gpus_per_worker > 0 and torch.cuda.is_available()


def _dry_run(job: JobConfig, corpus: Corpus, rank_and_size: tuple[int, int], init_method: str, began: float) -> DryRun:
    from joyful_ray.train.loop import peak_memory_bytes

    start_s = time.time() - began
    rank, size = rank_and_size
    device = torch.device("cuda", rank) if _uses_gpu(job) else _device_without_ray(job)
    use_cores(job.cluster.cpus_per_worker, device)
    process_group = ProcessGroup(rank=rank, size=size, device=device)
    if size > 1:
        distributed.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            init_method=init_method,
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=job.cluster.collective_timeout_s),
        )
    try:
        prepare_s, (corpus_info, stores) = _timed(device, lambda: _sample(job, corpus))
        trainer = Trainer(_without_diagnostics(job), corpus_info, process_group)
        steps = _time_steps(job, trainer, stores["train"], process_group)
        dev_s = _time_dev(job, trainer, corpus_info, stores["dev"], process_group)
        diagnose_s = _time_diagnostics(job, trainer, corpus_info, stores["train"])
        save_s, checkpoint_bytes, weights_bytes = _time_saving(trainer)
    finally:
        if process_group.size > 1:
            distributed.destroy_process_group()
    share = _utterances(corpus, "dev", stores) / max(stores["dev"].utterances, 1)
    return DryRun(
        processes=process_group.size,
        device=str(device.type),
        parameters=sum(parameter.numel() for parameter in trainer.model.parameters()),
        steps=len(steps) * STEPS_PER_SAMPLE,
        step_s=statistics.fmean(steps),
        step_error_s=statistics.stdev(steps) / math.sqrt(len(steps)) if len(steps) > 1 else statistics.fmean(steps),
        dev_s=dev_s * share,
        diagnose_s=diagnose_s,
        save_s=save_s,
        start_s=start_s,
        prepare_s=prepare_s,
        checkpoint_bytes=checkpoint_bytes,
        weights_bytes=weights_bytes,
        peak_memory_bytes=peak_memory_bytes(),
    )


def _device_without_ray(job: JobConfig) -> torch.device:
    return pick_device(job.train.device) if job.cluster.workers == 0 else torch.device("cpu")


def _without_diagnostics(job: JobConfig) -> JobConfig:
    return job.model_copy(update={"train": job.train.model_copy(update={"diagnostics": False})})


def _sample(job: JobConfig, corpus: Corpus) -> tuple[CorpusInfo, dict[Split, SplitStore]]:
    """What is known of the corpus, and the first shards of `train` and `dev` (all shards of a small corpus)."""
    reading: dict[Split, SplitRows] = {
        split: rows.first_shards(_sampled_shards(rows))
        for split, rows in split_rows(corpus, job).items()
        if split != "test"
    }
    corpus_info = corpus_info_of(corpus, job, reading, survey(corpus, reading))
    encode = corpus_info.encoding.table
    tables = {split: [rows.read(shard) for shard in rows.shards] for split, rows in reading.items()}
    return corpus_info, {
        split: SplitStore([encode(table) for table in found if table.num_rows], corpus_info.encoding)
        for split, found in tables.items()
    }


def _sampled_shards(reading: SplitRows) -> int:
    """How many of the first shards have `SAMPLED_CONVERSATIONS`, whichever split these belong to."""
    ends = accumulate(shard.rows for shard in reading.shards)
    return sum(end < SAMPLED_CONVERSATIONS for end in ends) + 1


def _utterances(corpus: Corpus, split: Split, stores: Mapping[Split, SplitStore]) -> int:
    entry = corpus.manifest.splits.get(split)
    return entry.utterances if entry is not None and entry.conversations else stores[split].utterances


def _time_steps(job: JobConfig, trainer: Trainer, store: SplitStore, process_group: ProcessGroup) -> list[float]:
    """Seconds per step, in several samples spread over an epoch; a first sample, which also allocates, is discarded."""
    train, workers = job.train, max(job.cluster.workers, 1)
    plan = plan_epoch(store.lengths, step_rules(job), seed=job.seed, epoch=0)
    progress = Progress(next_epoch=train.fusion_epochs if train.stages == "two-phase" else 0)

    def time_sample(start: int) -> float:
        steps = [plan[(start + index) % len(plan)] for index in range(STEPS_PER_SAMPLE)]
        numbers = trainer.train_epoch(_PlannedSteps(store, steps, workers), progress)
        return numbers.train_seconds / STEPS_PER_SAMPLE

    time_sample(0)
    mean = (
        float(process_group.all_reduce(torch.tensor(time_sample(0), dtype=torch.float64, device=process_group.device)))
        / process_group.size
    )
    samples = min(max(int(MEASURED_S / max(mean * STEPS_PER_SAMPLE, 1e-6)), MIN_SAMPLES), MAX_SAMPLES)
    # The samples are spread over the epoch because steps differ in cost.
    return [time_sample(index * len(plan) // samples) for index in range(samples)]


def _time_dev(
    job: JobConfig, trainer: Trainer, corpus_info: CorpusInfo, store: SplitStore, process_group: ProcessGroup
) -> float:
    """Seconds to evaluate the dev conversations that were read, extrapolated from a few batches."""
    workers = max(job.cluster.workers, 1)
    mine = plan_evaluation(store.lengths, utterances=job.train.evaluation_utterances)[process_group.rank :: workers]

    def evaluate_some() -> object:
        return evaluate(
            trainer.evaluated,
            (store.batch(conversations) for conversations in mine[:EVALUATED_BATCHES]),
            task=corpus_info.encoding.task,
            labels=list(corpus_info.encoding.labels),
            process_group=process_group,
            precision=job.train.precision,
        )

    seconds, _ = _timed(process_group.device, evaluate_some)
    return seconds * len(mine) / max(len(mine[:EVALUATED_BATCHES]), 1)


def _time_diagnostics(job: JobConfig, trainer: Trainer, corpus_info: CorpusInfo, store: SplitStore) -> float:
    if not job.train.diagnostics:
        return 0.0
    micro, batch = next(iter(ResidentLoader.of(job, store).epoch(0, rank=0, world_size=1)))[0]
    device = trainer.process_group.device
    objective = build_objective(job, corpus_info).to(device)
    seconds, _ = _timed(device, lambda: diagnose(trainer.model, objective, batch.to(device), seed=micro.seed))
    return seconds


def _time_saving(trainer: Trainer) -> tuple[float, int, int]:
    with tempfile.TemporaryDirectory() as folder:
        location = open_location(folder).join("checkpoint")

        def save() -> None:
            write_checkpoint(location, trainer.snapshot(), Progress(next_epoch=1))

        seconds, _ = _timed(trainer.process_group.device, save)
        sizes = {path.name: path.stat().st_size for path in Path(location.path).iterdir()}
    return seconds, sum(sizes.values()), sizes["model.safetensors"]


def _timed(device: torch.device, work: Callable[[], Result]) -> tuple[float, Result]:
    began = time.perf_counter()
    result = work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began, result
