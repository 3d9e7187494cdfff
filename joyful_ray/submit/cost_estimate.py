"""Predicts what a run needs: memory, storage, time with its uncertainty, GPU hours and cost, and what would be idle."""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict

from joyful_ray.config import JobConfig
from joyful_ray.corpora.shards import Corpus, open_corpus
from joyful_ray.data.plan import cut_dev
from joyful_ray.data.prepare import task_of, widths_of
from joyful_ray.data.split_rows import split_rows
from joyful_ray.data.ways import resident_bytes
from joyful_ray.errors import ConfigError
from joyful_ray.submit.cost_warnings import find_warnings, lacks_gpu
from joyful_ray.submit.resources import Resources, resources_of
from joyful_ray.train.dry_run import DryRun, dry_run
from joyful_ray.train.schedule import lengthened
from joyful_ray.wording import counted

RAY_START_S, RAY_START_IN_PROCESSES = 4.0, 3.5
"""Ray's start with its workers: seconds of waiting, plus the time of starting this many processes with torch."""
REPORT_S = 0.3
"""How long the report of an epoch waits for Ray Train: the polling interval that `launch.py` sets."""
MIN_RELATIVE_ERROR = 0.15
"""Epochs differ by at least this much, and so do machines that are shared with others."""
UNMEASURED_RELATIVE_ERROR = 0.5
"""Added if the communication between machines, or the kind of machine, was not measured."""
OPTIMIZER_COPIES = 2


class CostEstimate(BaseModel):
    """What a run needs.

    Attributes:
        name, corpus: the name of the run and the URI of its corpus.
        workers: Ray workers; 0 means one process without Ray.
        parameters: trainable parameters of the model.
        model_bytes: weights, gradients, optimizer state and EMA weights of one worker.
        worker_bytes: peak memory of a whole process in the dry run, including the part of the corpus that it read.
        corpus_bytes: the encoded corpus in Ray's object store, on each node.
        storage_bytes: everything that the run stores: checkpoints, the best one, and the bundle.
        conversations: conversations used for training.
        steps_per_epoch, epochs: how many.
        setup_s, step_s, epoch_s: seconds to start, per step and per epoch.
        hours: time for all epochs.
        earliest_hours: time if no epoch after the first is better.
        error: by what fraction of `hours` the run may differ.
        gpu_hours: workers times GPUs per worker times hours.
        cost: price of the GPU hours; None without a price.
        measured: what was measured, and where.
        resources: the machine or cluster that the run would use.
        warnings: what would be idle, wait or be stopped.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    corpus: str
    workers: int
    parameters: int
    model_bytes: int
    worker_bytes: int
    corpus_bytes: int
    storage_bytes: int
    conversations: int
    steps_per_epoch: int
    epochs: int
    setup_s: float
    step_s: float
    epoch_s: float
    hours: float
    earliest_hours: float
    error: float
    gpu_hours: float
    cost: float | None
    measured: str
    resources: Resources
    warnings: list[str]


def estimate_cost(job: JobConfig, *, address: str | None = None, price: float | None = None) -> CostEstimate:
    """Time a dry run on this machine, look up the cluster's resources, and predict what the run needs.

    Args:
        job: the job; its corpus must be set.
        address: address of a job server; by default, the cluster that this process belongs to, or this machine.
        price: price of one GPU for one hour, in any currency.

    Raises:
        UserError: the job or its corpus is invalid, or the cluster does not answer.
    """
    if job.corpus is None:
        raise ConfigError("corpus is not set; name one in the job file or with --set corpus=PATH")
    corpus = open_corpus(job.corpus)
    task_of(corpus.manifest, job)
    widths_of(corpus.manifest, job)
    split_rows(corpus, job)
    resources = resources_of(job, address)
    return cost_from_dry_run(job, corpus, dry_run(job, corpus), resources, price=price)


def cost_from_dry_run(
    job: JobConfig, corpus: Corpus, measured: DryRun, resources: Resources, *, price: float | None = None
) -> CostEstimate:
    """Predict what a whole run needs from the times of a dry run."""
    workers, conversations = max(job.cluster.workers, 1), _training_conversations(corpus, job)
    train = lengthened(job.train, conversations=conversations)
    steps = math.ceil(conversations / train.batch_conversations)
    report_s = REPORT_S if job.cluster.workers else 0.0
    epoch_s = steps * measured.step_s + measured.dev_s + measured.diagnose_s + measured.save_s + report_s
    setup_s = measured.prepare_s
    if job.cluster.workers:
        setup_s += RAY_START_S + RAY_START_IN_PROCESSES * measured.start_s
    hours = (setup_s + train.epochs * epoch_s) / 3600
    gpus = workers * job.cluster.gpus_per_worker
    copies = 2 + OPTIMIZER_COPIES + (1 if train.ema_decay else 0)
    return CostEstimate(
        name=job.name,
        corpus=corpus.location.uri,
        workers=job.cluster.workers,
        parameters=measured.parameters,
        model_bytes=copies * measured.weights_bytes,
        worker_bytes=measured.peak_memory_bytes,
        corpus_bytes=resident_bytes(corpus, job),
        storage_bytes=(train.keep_checkpoints + 1) * measured.checkpoint_bytes + measured.weights_bytes,
        conversations=conversations,
        steps_per_epoch=steps,
        epochs=train.epochs,
        setup_s=setup_s,
        step_s=measured.step_s,
        epoch_s=epoch_s,
        hours=hours,
        earliest_hours=(setup_s + min(train.patience + 1, train.epochs) * epoch_s) / 3600,
        error=_relative_error(job, measured, resources),
        gpu_hours=gpus * hours,
        cost=None if price is None else price * gpus * hours,
        measured=_measured_text(measured),
        resources=resources,
        warnings=find_warnings(job, corpus, measured, resources, conversations=conversations, hours=hours),
    )


def _measured_text(measured: DryRun) -> str:
    processes = counted(measured.processes, "process") + (" side by side" if measured.processes > 1 else "")
    return f"{counted(measured.steps, 'step')} on {measured.device}, {processes} on this machine"


def _training_conversations(corpus: Corpus, job: JobConfig) -> int:
    splits = corpus.manifest.splits
    count = splits["train"].conversations
    if job.data.folds is not None:
        whole = count + (splits["dev"].conversations if "dev" in splits else 0)
        return whole - len(range(job.data.fold, whole, job.data.folds))
    if "dev" in splits and splits["dev"].conversations:
        return count
    return count - len(cut_dev([str(n) for n in range(count)], fraction=job.data.dev_fraction, seed=job.seed))


def _relative_error(job: JobConfig, measured: DryRun, resources: Resources) -> float:
    step_error = 2 * measured.step_error_s / measured.step_s
    is_measured = job.cluster.workers <= measured.processes and resources.is_local and not lacks_gpu(job, measured)
    return math.hypot(MIN_RELATIVE_ERROR, step_error, 0.0 if is_measured else UNMEASURED_RELATIVE_ERROR)
