"""What a job will take, before it is spent: size, time with its uncertainty, GPU-hours, money, and what would idle."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from joyful_ray.config import JobConfig
from joyful_ray.corpora.shards import Corpus, open_corpus
from joyful_ray.data.plan import cut_dev
from joyful_ray.data.prepare import task_of, widths_of
from joyful_ray.data.split_rows import split_rows
from joyful_ray.errors import ClusterError, ConfigError
from joyful_ray.train.dry_run import DryRun, dry_run
from joyful_ray.train.launch import cluster_address

RAY_START_S, RAY_START_IN_PROCESSES = 4.0, 3.5
"""Ray's start, workers included: some seconds of waiting, and about the work of starting so many torch processes."""
REPORT_S = 0.3
"""How long an epoch's report waits for Ray Train to look: its interval, which `launch.py` sets."""
LEAST_ERROR = 0.15
"""Share by which machines shared with others, and epochs among themselves, differ in any case."""
UNKNOWN_ERROR = 0.5
"""Share where the exchange between machines, or a machine of another kind, was not timed."""
SMALL_UTTERANCES = 64
OPTIMIZER_COPIES = 2


class Resources(BaseModel):
    """What there is to run on.

    Attributes:
        is_here: whether this process runs on it, so that what is timed here holds there.
    """

    model_config = ConfigDict(frozen=True)

    where: str
    nodes: int
    cpus: float
    gpus: float
    is_here: bool = True


class CostEstimate(BaseModel):
    """What a run would take.

    Attributes:
        model_bytes: a worker's weights, gradients, optimizer and averaged weights.
        worker_bytes: peak of a whole process in the rehearsal, with what it read of the corpus.
        corpus_bytes: encoded, in Ray's object store, once a node.
        storage_bytes: all that the run keeps: checkpoints, the best one, the bundle.
        hours: for all epochs; `earliest_hours` where no epoch after the first is better.
        error: share of `hours` by which the run may differ.
        gpu_hours: workers times GPUs times hours.
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
    steps_an_epoch: int
    epochs: int
    setup_s: float
    step_s: float
    epoch_s: float
    hours: float
    earliest_hours: float
    error: float
    gpu_hours: float
    money: float | None
    measured: str
    resources: Resources
    warnings: list[str]


def estimate_cost(job: JobConfig, *, address: str | None = None, price: float | None = None) -> CostEstimate:
    """Rehearse a job on this machine, look at what the cluster has, and add up.

    Args:
        address: of a cluster's job server; None plans for the cluster that this process is part of, or this machine.
        price: of one GPU for one hour.

    Raises:
        UserError: the job or its corpus is not as it must be, or the cluster does not answer.
    """
    if job.corpus is None:
        raise ConfigError("corpus is not set; name one in the job file or with --set corpus=PATH")
    corpus = open_corpus(job.corpus)
    task_of(corpus.manifest, job)
    widths_of(corpus.manifest, job)
    split_rows(corpus, job)
    resources = resources_of(job, address)
    return add_up(job, corpus, dry_run(job, corpus), resources, price=price)


def add_up(
    job: JobConfig, corpus: Corpus, measured: DryRun, resources: Resources, *, price: float | None = None
) -> CostEstimate:
    """From what was timed to what the run takes."""
    train, workers = job.train, max(job.cluster.workers, 1)
    conversations = _training_conversations(corpus, job)
    steps = math.ceil(conversations / train.batch_conversations)
    report_s = REPORT_S if job.cluster.workers else 0.0
    epoch_s = steps * measured.step_s + measured.dev_s + measured.diagnose_s + measured.save_s + report_s
    setup_s = measured.prepare_s
    if job.cluster.workers:
        setup_s += RAY_START_S + RAY_START_IN_PROCESSES * measured.start_s
    hours = (setup_s + train.epochs * epoch_s) / 3600
    gpus = workers * job.cluster.gpus_per_worker
    copies = 2 + OPTIMIZER_COPIES + (1 if train.ema_decay else 0)
    utterances = sum(entry.utterances for entry in corpus.manifest.splits.values())
    return CostEstimate(
        name=job.name,
        corpus=corpus.location.uri,
        workers=job.cluster.workers,
        parameters=measured.parameters,
        model_bytes=copies * measured.weights_bytes,
        worker_bytes=measured.peak_memory_bytes,
        corpus_bytes=4 * utterances * sum(widths_of(corpus.manifest, job).values()),
        storage_bytes=(train.keep_checkpoints + 1) * measured.checkpoint_bytes + measured.weights_bytes,
        conversations=conversations,
        steps_an_epoch=steps,
        epochs=train.epochs,
        setup_s=setup_s,
        step_s=measured.step_s,
        epoch_s=epoch_s,
        hours=hours,
        earliest_hours=(setup_s + min(train.patience + 1, train.epochs) * epoch_s) / 3600,
        error=_error(job, measured, resources),
        gpu_hours=gpus * hours,
        money=None if price is None else price * gpus * hours,
        measured=f"{measured.steps} steps on {measured.device}, {measured.processes} side by side on this machine",
        resources=resources,
        warnings=warnings_of(job, corpus, measured, resources, conversations=conversations, hours=hours),
    )


def _training_conversations(corpus: Corpus, job: JobConfig) -> int:
    splits = corpus.manifest.splits
    whole = splits["train"].conversations
    if "dev" in splits and splits["dev"].conversations:
        return whole
    return whole - len(cut_dev([str(n) for n in range(whole)], fraction=job.data.dev_fraction, seed=job.seed))


def _error(job: JobConfig, measured: DryRun, resources: Resources) -> float:
    of_steps = 2 * measured.step_error_s / measured.step_s
    is_timed = job.cluster.workers <= measured.processes and resources.is_here and not _lacks_gpu(job, measured)
    return math.hypot(LEAST_ERROR, of_steps, 0.0 if is_timed else UNKNOWN_ERROR)


def _lacks_gpu(job: JobConfig, measured: DryRun) -> bool:
    return job.cluster.gpus_per_worker > 0 and measured.device == "cpu"


def resources_of(job: JobConfig, address: str | None) -> Resources:
    """What there is: of a cluster by its job server, of the cluster of this process, or of this machine."""
    if address is not None:
        return _resources_by_http(address)
    joined = cluster_address(job)
    if joined is not None and job.cluster.workers:
        import ray

        from joyful_ray.train.launch import ray_cluster

        with ray_cluster(job):
            nodes = [node for node in ray.nodes() if node["Alive"]]
        return _summed(joined, [node["Resources"] for node in nodes])
    import torch

    return Resources(where="this machine", nodes=1, cpus=os.cpu_count() or 1, gpus=torch.cuda.device_count())


def _resources_by_http(address: str) -> Resources:
    import requests

    from joyful_ray.submit.connection import auth_headers, connect, job_server

    connect(address)
    url = job_server(address)
    answer = requests.get(f"{url}/api/v0/nodes?limit=10000", headers=auth_headers(), timeout=30)
    if answer.status_code != 200:
        raise ClusterError(f"{url} does not say what nodes it has (status {answer.status_code})")
    found = answer.json()["data"]["result"]["result"]
    nodes = [node["resources_total"] for node in found if node["state"] == "ALIVE"]
    return _summed(url, nodes).model_copy(update={"is_here": False})


def _summed(where: str, nodes: list[dict[str, float]]) -> Resources:
    return Resources(
        where=where,
        nodes=len(nodes),
        cpus=sum(node.get("CPU", 0.0) for node in nodes),
        gpus=sum(node.get("GPU", 0.0) for node in nodes),
    )


@dataclass(frozen=True)
class _Shape:
    """How a step is cut."""

    workers: int
    micro_batches: int
    utterances: float

    @property
    def idle_share(self) -> float:
        """Of the workers' time in a step, with micro-batches of equal cost."""
        rounds = math.ceil(self.micro_batches / self.workers)
        return 1.0 - self.micro_batches / (rounds * self.workers)


def warnings_of(
    job: JobConfig, corpus: Corpus, measured: DryRun, resources: Resources, *, conversations: int, hours: float
) -> list[str]:
    """What would idle, wait or be stopped."""
    train, cluster, workers = job.train, job.cluster, max(job.cluster.workers, 1)
    micro_batches = min(train.micro_batches, train.batch_conversations, conversations)
    entry = corpus.manifest.splits["train"]
    a_conversation = entry.utterances / max(entry.conversations, 1)
    shape = _Shape(workers, micro_batches, a_conversation * train.batch_conversations / micro_batches)
    found = []
    if train.micro_batches > micro_batches:
        found.append(
            f"a step has {min(train.batch_conversations, conversations)} conversations, which make {micro_batches} "
            f"micro-batches and not train.micro_batches ({train.micro_batches})"
        )
    if workers > micro_batches:
        found.append(
            f"{workers - micro_batches} of {workers} workers idle: a step has {micro_batches} micro-batches; ask for "
            f"{micro_batches} workers, or raise train.micro_batches"
        )
    elif shape.idle_share > 0.1:
        found.append(
            f"{shape.idle_share:.0%} of the workers' time idles: {micro_batches} micro-batches do not divide by "
            f"{workers} workers"
        )
    if shape.utterances < SMALL_UTTERANCES:
        found.append(
            f"a micro-batch holds about {shape.utterances:.0f} utterances; fixed costs outweigh it. Raise "
            "train.batch_conversations"
        )
    found += _resource_warnings(job, resources, workers)
    if cluster.max_hours is not None and cluster.max_hours < hours:
        found.append(
            f"cluster.max_hours ({cluster.max_hours:g}) is less than all epochs take; the same command continues then"
        )
    if _lacks_gpu(job, measured):
        found.append(
            "timed on a CPU, since no GPU is here: the run will be faster by far. joyful submit plan … --driver-gpus 1 "
            "times it on one"
        )
    elif workers > measured.processes:
        found.append(
            f"timed with {measured.processes} processes, not {workers}; each step exchanges "
            f"{measured.weights_bytes:,} bytes of gradients between workers, which was not timed between machines"
        )
    elif not resources.is_here:
        found.append("timed on this machine; its cluster may be faster or slower. joyful submit plan … times it there")
    return found


def _resource_warnings(job: JobConfig, resources: Resources, workers: int) -> list[str]:
    found: list[str] = []
    if not job.cluster.workers:
        return found
    for kind, each, there in (
        ("CPUs", job.cluster.cpus_per_worker, resources.cpus),
        ("GPUs", job.cluster.gpus_per_worker, resources.gpus),
    ):
        if workers * each > there:
            found.append(
                f"{workers} workers ask for {workers * each:g} {kind}, {resources.where} has {there:g} now; they wait "
                "until it grows"
            )
    if resources.gpus and not job.cluster.gpus_per_worker:
        found.append(f"{resources.where} has {resources.gpus:g} GPUs, and cluster.gpus_per_worker is 0")
    return found
