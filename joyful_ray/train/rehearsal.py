"""What a step, a dev pass and a checkpoint of a job cost, by doing some of each as its workers would, side by side."""

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
from functools import reduce
from operator import add
from pathlib import Path
from typing import TypeVar

import torch
from torch import distributed

from joyful_ray.config import JobConfig
from joyful_ray.corpora.shards import Corpus
from joyful_ray.data.batch import Batch
from joyful_ray.data.encode import Survey
from joyful_ray.data.plan import Step, plan_epoch, plan_evaluation
from joyful_ray.data.prepare import Facts, facts_of, unscaled_encoding
from joyful_ray.data.reading import Reading, read_shard, readings
from joyful_ray.data.source import ResidentSource, Work
from joyful_ray.data.store import SplitStore
from joyful_ray.errors import TrainingError
from joyful_ray.schema import Split
from joyful_ray.storage import open_location
from joyful_ray.train.build import build_objective
from joyful_ray.train.context import World, pick_device, use_cores
from joyful_ray.train.diagnose import diagnose
from joyful_ray.train.evaluate import evaluate
from joyful_ray.train.learner import Learner
from joyful_ray.train.schedule import Progress

Found = TypeVar("Found")
MEASURED_S, STEPS_OF_A_PART, LEAST_PARTS, MOST_PARTS = 6.0, 4, 3, 12
EVALUATED_BATCHES = 6
SAMPLED_CONVERSATIONS = 4000
"""Of a large corpus this much of each split is read; sizes come from the manifest."""


@dataclass(frozen=True)
class Rehearsal:
    """Seconds as one of the job's workers spends them, with as many of them at work at once as this machine has cores.

    Attributes:
        processes: that worked side by side.
        device: what they ran on.
        steps: how many were timed.
        step_s, step_error_s: mean seconds of a step and the standard error of that mean.
        dev_s: one pass over dev.
        diagnose_s: an epoch's diagnostics.
        save_s: one checkpoint to a local disk.
        start_s: from nothing to a process that has imported torch.
        prepare_s: reading and encoding the corpus.
        checkpoint_bytes, weights_bytes: on storage.
        peak_memory_bytes: of one process.
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
class _Part:
    """Some steps of an epoch, cut for as many workers as the job has, whoever of them is here."""

    store: SplitStore
    planned: list[Step]
    workers: int

    def steps(self, *, world: int) -> int:
        return len(self.planned)

    def epoch(self, epoch: int, *, rank: int, world: int) -> Iterator[Work]:
        for step in self.planned:
            yield [(micro, self.store.batch(micro.conversations)) for micro in step.of_rank(rank, self.workers)]

    def once(self, *, rank: int, world: int) -> Iterator[Batch]:
        return (batch for work in self.epoch(0, rank=rank, world=world) for _, batch in work)


def rehearse(job: JobConfig, corpus: Corpus) -> Rehearsal:
    """Run real steps of the job in as many processes as it has workers, but no more than this machine has cores.

    Raises:
        UserError: the job does not fit the corpus.
        TrainingError: a process ended before it was done.
    """
    workers = max(job.cluster.workers, 1)
    room = torch.cuda.device_count() if _wants_gpu(job) else (os.cpu_count() or 1)
    processes = max(1, min(workers, room))
    began = time.time()
    with tempfile.TemporaryDirectory() as folder:
        meeting = f"file://{folder}/meeting"
        context = multiprocessing.get_context("spawn")
        # Each a session of its own, as Ray's workers are: Linux shares a busy machine's cores by session.
        with ProcessPoolExecutor(max_workers=processes, mp_context=context, initializer=os.setsid) as pool:
            parts = [
                pool.submit(_rehearse, job, corpus, (rank, processes), meeting, began) for rank in range(processes)
            ]
            try:
                found = [part.result() for part in parts]
            except BrokenProcessPool:
                raise TrainingError("a rehearsing process was killed, as happens where memory runs out") from None
    return replace(found[0], peak_memory_bytes=max(each.peak_memory_bytes for each in found))


def _wants_gpu(job: JobConfig) -> bool:
    return job.cluster.gpus_per_worker > 0 and torch.cuda.is_available()


def _rehearse(job: JobConfig, corpus: Corpus, place: tuple[int, int], meeting: str, began: float) -> Rehearsal:
    from joyful_ray.train.loop import peak_memory_bytes

    start_s = time.time() - began
    rank, size = place
    device = torch.device("cuda", rank) if _wants_gpu(job) else _device_without_ray(job)
    use_cores(job.cluster.cpus_per_worker, device)
    world = World(rank=rank, size=size, device=device)
    if size > 1:
        distributed.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            init_method=meeting,
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=job.cluster.collective_timeout_s),
        )
    try:
        prepare_s, (facts, stores) = _timed(device, lambda: _sample(job, corpus))
        learner = Learner(_without_diagnostics(job), facts, world)
        steps = _time_steps(job, learner, stores["train"], world)
        dev_s = _time_dev(job, learner, facts, stores["dev"], world)
        diagnose_s = _time_diagnostics(job, learner, facts, stores["train"])
        save_s, checkpoint_bytes, weights_bytes = _time_saving(learner)
    finally:
        if world.size > 1:
            distributed.destroy_process_group()
    share = _utterances(corpus, "dev", stores) / max(stores["dev"].utterances, 1)
    return Rehearsal(
        processes=world.size,
        device=str(device.type),
        parameters=sum(parameter.numel() for parameter in learner.model.parameters()),
        steps=len(steps) * STEPS_OF_A_PART,
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


def _sample(job: JobConfig, corpus: Corpus) -> tuple[Facts, dict[Split, SplitStore]]:
    """Facts and stores of the first shards of `train` and `dev`, of all of them where the corpus is small."""
    reading: dict[Split, Reading] = {
        split: _first_shards(corpus, how) for split, how in readings(corpus, job).items() if split != "test"
    }
    tables = {split: [how.choose(read_shard(uri)) for uri in how.uris] for split, how in reading.items()}
    plain = unscaled_encoding(corpus.manifest, job)
    facts = facts_of(corpus, job, reading, reduce(add, (Survey.of(t, plain) for t in tables["train"] if t.num_rows)))
    encode = facts.encoding.table
    return facts, {
        split: SplitStore([encode(table) for table in rows if table.num_rows], facts.encoding)
        for split, rows in tables.items()
    }


def _first_shards(corpus: Corpus, reading: Reading) -> Reading:
    split: Split = "train" if reading.keep is not None else reading.split
    read, taken = 0, 0
    for shard in corpus.manifest.splits[split].shards:
        taken, read = taken + 1, read + shard.rows
        if read >= SAMPLED_CONVERSATIONS:
            break
    return replace(reading, uris=reading.uris[:taken])


def _utterances(corpus: Corpus, split: Split, stores: Mapping[Split, SplitStore]) -> int:
    entry = corpus.manifest.splits.get(split)
    return entry.utterances if entry is not None and entry.conversations else stores[split].utterances


def _time_steps(job: JobConfig, learner: Learner, store: SplitStore, world: World) -> list[float]:
    """Seconds a step, of several parts of an epoch; the first part, which also allocates, is left out."""
    train, workers = job.train, max(job.cluster.workers, 1)
    plan = plan_epoch(
        store.lengths,
        seed=job.seed,
        epoch=0,
        batch_conversations=train.batch_conversations,
        micro_batches=train.micro_batches,
    )
    progress = Progress(next_epoch=train.fusion_epochs if train.stages == "two-phase" else 0)

    def of_part(start: int) -> float:
        steps = [plan[(start + index) % len(plan)] for index in range(STEPS_OF_A_PART)]
        numbers = learner.train_epoch(_Part(store, steps, workers), progress)
        return numbers.train_seconds / STEPS_OF_A_PART

    of_part(0)
    mean = float(world.add(torch.tensor(of_part(0), dtype=torch.float64, device=world.device))) / world.size
    parts = min(max(int(MEASURED_S / max(mean * STEPS_OF_A_PART, 1e-6)), LEAST_PARTS), MOST_PARTS)
    # Spread over the epoch, of which no two steps cost the same.
    return [of_part(index * len(plan) // parts) for index in range(parts)]


def _time_dev(job: JobConfig, learner: Learner, facts: Facts, store: SplitStore, world: World) -> float:
    """Seconds of a pass over the dev conversations that were read, of which some batches are evaluated."""
    workers = max(job.cluster.workers, 1)
    mine = plan_evaluation(store.lengths, utterances=job.train.evaluation_utterances)[world.rank :: workers]

    def some() -> object:
        return evaluate(
            learner.evaluated,
            (store.batch(conversations) for conversations in mine[:EVALUATED_BATCHES]),
            task=facts.encoding.task,
            labels=list(facts.encoding.labels),
            world=world,
            precision=job.train.precision,
        )

    seconds, _ = _timed(world.device, some)
    return seconds * len(mine) / max(len(mine[:EVALUATED_BATCHES]), 1)


def _time_diagnostics(job: JobConfig, learner: Learner, facts: Facts, store: SplitStore) -> float:
    if not job.train.diagnostics:
        return 0.0
    micro, batch = next(iter(ResidentSource.of(job, store).epoch(0, rank=0, world=1)))[0]
    device = learner.world.device
    objective = build_objective(job, facts).to(device)
    seconds, _ = _timed(device, lambda: diagnose(learner.model, objective, batch.to(device), seed=micro.seed))
    return seconds


def _time_saving(learner: Learner) -> tuple[float, int, int]:
    with tempfile.TemporaryDirectory() as folder:
        place = open_location(folder).join("checkpoint")
        seconds, _ = _timed(learner.world.device, lambda: learner.save(place, Progress(next_epoch=1)))
        sizes = {path.name: path.stat().st_size for path in Path(place.path).iterdir()}
    return seconds, sum(sizes.values()), sizes["model.safetensors"]


def _timed(device: torch.device, work: Callable[[], Found]) -> tuple[float, Found]:
    began = time.perf_counter()
    found = work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began, found
