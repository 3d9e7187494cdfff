"""Warns before a run if workers would be idle, would wait, or would be stopped."""

from __future__ import annotations

from joyful_ray.config import JobConfig
from joyful_ray.corpora.shards import Corpus
from joyful_ray.submit.resources import Resources
from joyful_ray.train.dry_run import DryRun
from joyful_ray.train.step_layout import StepLayout
from joyful_ray.wording import counted

SMALL_MICRO_BATCH_UTTERANCES = 64


def find_warnings(
    job: JobConfig, corpus: Corpus, measured: DryRun, resources: Resources, *, conversations: int, hours: float
) -> list[str]:
    """Return warnings about workers that would be idle, would wait, or would be stopped."""
    train, cluster, workers = job.train, job.cluster, max(job.cluster.workers, 1)
    layout = StepLayout.of(job, conversations)
    micro_batches, passes = layout.micro_batches, layout.micro_batches or min(workers, max(layout.units, 1))
    entry = corpus.manifest.splits["train"]
    utterances = entry.utterances / max(entry.conversations, 1) * layout.conversations / passes
    warnings = []
    if micro_batches is not None and train.micro_batches > micro_batches:
        warnings.append(
            f"a step has {counted(layout.conversations, 'conversation')}, enough for "
            f"{counted(micro_batches, 'micro-batch')} instead of the {train.micro_batches} of train.micro_batches"
        )
    warnings += layout.warnings()
    if utterances < SMALL_MICRO_BATCH_UTTERANCES:
        warnings.append(
            f"a worker has only about {utterances:.0f} utterances in a pass, so fixed costs dominate; increase "
            "train.batch_conversations"
        )
    warnings += _resource_warnings(job, resources, workers)
    if cluster.max_hours is not None and cluster.max_hours < hours:
        warnings.append(
            f"cluster.max_hours ({cluster.max_hours:g}) is less than all epochs take; run the same command again to "
            "continue"
        )
    if lacks_gpu(job, measured):
        warnings.append(
            "measured on a CPU because this machine has no GPU; the run will be much faster. To measure on a GPU: "
            "joyful submit plan … --driver-gpus 1"
        )
    elif workers > measured.processes:
        warnings.append(
            f"measured with {counted(measured.processes, 'process')} instead of {workers}; each step also sends "
            f"{measured.weights_bytes:,} bytes of gradients between workers, which was not measured between machines"
        )
    elif not resources.is_local:
        warnings.append(
            "measured on this machine; the cluster may be faster or slower. To measure there: joyful submit plan …"
        )
    return warnings


def _resource_warnings(job: JobConfig, resources: Resources, workers: int) -> list[str]:
    warnings: list[str] = []
    if not job.cluster.workers:
        return warnings
    for kind, per_worker, available in (
        ("CPU", job.cluster.cpus_per_worker, resources.cpus),
        ("GPU", job.cluster.gpus_per_worker, resources.gpus),
    ):
        if workers * per_worker > available:
            warnings.append(
                f"{counted(workers, 'worker')} need {counted(workers * per_worker, kind)}, but {resources.where} has "
                f"{available:g}; the run waits until it has more"
            )
    if resources.gpus and not job.cluster.gpus_per_worker:
        warnings.append(
            f"{resources.where} has {counted(resources.gpus, 'GPU')}, but cluster.gpus_per_worker is 0, so the run "
            "does not use GPUs"
        )
    return warnings


def lacks_gpu(job: JobConfig, measured: DryRun) -> bool:
    """Whether the run uses GPUs, but the dry run could not."""
    return job.cluster.gpus_per_worker > 0 and measured.device == "cpu"
