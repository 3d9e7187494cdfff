"""The training loop of one rank, in plain PyTorch; it depends neither on Ray nor on where its batches come from."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, replace

import torch
from torch import Tensor

from joyful_ray.data.loader import BatchLoader
from joyful_ray.errors import CheckpointError, UserError
from joyful_ray.records import EpochMetrics, RunRecord, Scores, versions
from joyful_ray.termination import stopping_softly
from joyful_ray.train.bundle import write_bundle
from joyful_ray.train.calibration import fit_temperature
from joyful_ray.train.checkpoint import newest_intact, read_checkpoint
from joyful_ray.train.diagnostics import warnings_from
from joyful_ray.train.epoch_checks import check_finite, check_stop, check_time
from joyful_ray.train.evaluate import Keep, evaluate
from joyful_ray.train.failed_step import keeping_failed_step
from joyful_ray.train.loop_spec import RunSpec
from joyful_ray.train.process_group import ProcessGroup
from joyful_ray.train.rank_times import slow_ranks
from joyful_ray.train.refit import refit
from joyful_ray.train.run_directory import RunDirectory
from joyful_ray.train.saving import Saving, steps_repeated
from joyful_ray.train.schedule import Progress
from joyful_ray.train.tensorboard import TensorBoardWriter
from joyful_ray.train.trainer import Trainer
from joyful_ray.wording import counted


def run(spec: RunSpec, process_group: ProcessGroup) -> RunRecord:
    """Train until dev stops improving, then score the selected epoch on dev and, once, on test.

    Raises:
        TrainingError: on every rank, if a loss is not finite.
    """
    setup_s = time.time() - spec.started
    trainer = Trainer(spec.job, spec.corpus_info, process_group)
    progress = fit(spec, process_group, trainer)
    fit_s = time.time() - spec.started - setup_s
    record = _select_and_score(spec, process_group, trainer, progress)
    peak = max(int(str(value)) for value in process_group.all_gather(peak_memory_bytes()))
    total_s = time.time() - spec.started
    seconds = {"setup": setup_s, "fit": fit_s, "selection": total_s - setup_s - fit_s, "total": total_s}
    record = record.model_copy(update={"seconds": seconds, "peak_memory_bytes": peak})
    if process_group.is_first:
        spec.directory.write_record(record)
    return record


def fit(spec: RunSpec, process_group: ProcessGroup, trainer: Trainer) -> Progress:
    """Train epoch by epoch from the last checkpoint, each with dev scores, a checkpoint and a report.

    Raises:
        Stopped: the run was asked to stop; it has been saved.
    """
    train, directory = spec.train, spec.directory
    source, dev = spec.sources["train"](), spec.sources["dev"]()
    progress, steps = _resume(directory, trainer, process_group, source), source.steps(world_size=process_group.size)
    longest_s, slow_before = 0.0, set[int]()
    with _saving(spec, process_group) as saving, _tensorboard(directory, process_group, progress) as tensorboard:
        saving.saved(progress.steps(steps))
        while True:
            check_stop(process_group, progress, saving)
            if progress.is_done(train):
                break
            check_time(spec, process_group, progress, saving, longest_s=longest_s)
            began = time.perf_counter()
            with keeping_failed_step(spec, process_group, trainer, epoch=progress.next_epoch):
                numbers = trainer.train_epoch(source, progress, saving)
            scores = _evaluate(spec, process_group, trainer, dev)
            check_finite(numbers, scores, number=progress.next_epoch + 1)
            before, progress = (
                progress,
                progress.after(
                    score=scores.selection,
                    dev_loss=scores.loss,
                    counts=trainer.stage_of(progress.next_epoch) != "fusion",
                ),
            )
            slow = slow_ranks(numbers.ranks, steps=steps)
            metrics = EpochMetrics(
                **asdict(numbers),
                epoch=before.next_epoch,
                max_epochs=train.epochs,
                dev=scores,
                seconds=time.perf_counter() - began,
                utterances_per_second=spec.corpus_info.utterances / numbers.train_seconds,
                is_best=progress.best_epoch == before.next_epoch,
                warnings=[line for rank, line in slow.items() if rank not in slow_before],
            )
            slow_before |= slow.keys()
            if tensorboard is not None:
                # The checkpoint comes last: after a crash before it, the epoch runs again and rewrites its line.
                directory.add_metrics(metrics)
                tensorboard.epoch(metrics)
                saving.write(trainer.snapshot(is_copy=True), progress, step=progress.steps(steps))
            if spec.is_trial:
                saving.wait()
            process_group.report(report_of(metrics, is_last=progress.is_done(train)))
            longest_s = max(longest_s, time.perf_counter() - began)
        saving.wait()
    # The first rank may still be writing the last checkpoint, which the other ranks are about to read.
    process_group.barrier()
    return progress


def report_of(metrics: EpochMetrics, *, is_last: bool) -> dict[str, float]:
    """One epoch as plain numbers for Ray Train and Ray Tune; `epoch` is counted from 0."""
    return {
        "epoch": metrics.epoch,
        "dev": metrics.dev.selection,
        "loss": metrics.losses["total"],
        "seconds": metrics.seconds,
        "is_best": float(metrics.is_best),
        "is_last": float(is_last),
        "dev/loss": metrics.dev.loss,
    } | {f"dev/{name}": value for name, value in metrics.dev.values.items()}


@contextmanager
def _saving(spec: RunSpec, process_group: ProcessGroup) -> Iterator[Saving]:
    with stopping_softly() as was_asked:
        saving = Saving(
            spec.directory,
            spec.train,
            is_first=process_group.is_first,
            stop_requested=was_asked,
            ask=spec.ask,
            looks_for_request=spec.workers > 0,
        )
        try:
            yield saving
        finally:
            saving.close()


def _resume(directory: RunDirectory, trainer: Trainer, process_group: ProcessGroup, source: BatchLoader) -> Progress:
    """Load the latest intact checkpoint, which the first rank reads for all, so that no rank takes another one."""
    content = process_group.from_first(lambda: newest_intact(directory.checkpoints))
    progress = Progress()
    if content is not None:
        try:
            progress = trainer.load(content)
        except UserError as error:
            raise CheckpointError(f"{error}; remove {content.uri} to continue from the checkpoint before it") from None
    if process_group.is_first:
        repeated = steps_repeated(directory, progress, steps_per_epoch=source.steps(world_size=process_group.size))
        if content is not None or repeated:
            progress = replace(
                progress, resumes=progress.resumes + 1, repeated_steps=progress.repeated_steps + repeated
            )
        directory.drop_metrics_from(progress.next_epoch)
    return progress


def _tensorboard(
    directory: RunDirectory, process_group: ProcessGroup, progress: Progress
) -> AbstractContextManager[TensorBoardWriter | None]:
    if not process_group.is_first:
        return nullcontext()
    return TensorBoardWriter(directory.location.join("tensorboard"), first_epoch=progress.next_epoch)


def _evaluate(
    spec: RunSpec,
    process_group: ProcessGroup,
    trainer: Trainer,
    source: BatchLoader,
    thresholds: Mapping[str, float] | None = None,
    keep: Keep | None = None,
) -> Scores:
    encoding = spec.corpus_info.encoding
    return evaluate(
        trainer.evaluated,
        source.once(rank=process_group.rank, world_size=process_group.size),
        task=encoding.task,
        labels=list(encoding.labels),
        process_group=process_group,
        precision=spec.job.train.precision,
        thresholds=thresholds,
        keep=keep,
    )


def _dev_and_temperature(spec: RunSpec, process_group: ProcessGroup, trainer: Trainer) -> tuple[Scores, float | None]:
    """Dev scores of the selected weights, and the temperature that calibrates their probabilities on dev."""
    encoding = spec.corpus_info.encoding
    scores: list[Tensor] = [torch.zeros(0, max(len(encoding.labels), 1))]
    labels: list[Tensor] = []

    def keep(scores_NK: Tensor, truth: Tensor) -> None:
        scores.append(scores_NK)
        labels.append(truth)

    dev = _evaluate(spec, process_group, trainer, spec.sources["dev"](), keep=keep)
    truth = torch.cat(labels) if labels else torch.zeros(0)
    temperature = fit_temperature(
        torch.cat(scores),
        truth,
        task=encoding.task,
        add=lambda values: process_group.all_reduce(values.to(process_group.device)).cpu(),
    )
    return dev, temperature


def _select_and_score(spec: RunSpec, process_group: ProcessGroup, trainer: Trainer, progress: Progress) -> RunRecord:
    job, corpus_info, directory = spec.job, spec.corpus_info, spec.directory
    place, file = directory.checkpoint(progress.best_epoch), trainer.selected_file
    selected = process_group.from_first(lambda: read_checkpoint(place, (file,)))
    assert selected is not None
    weights = trainer.load_selected(selected)
    dev, temperature = _dev_and_temperature(spec, process_group, trainer)
    refit_epochs = progress.best_epoch + 1 if job.train.refit else 0
    if refit_epochs:
        trainer, weights = refit(spec, process_group, epochs=refit_epochs)
    test = None
    if "test" in spec.sources:
        thresholds = {name: values["threshold"] for name, values in dev.per_label.items() if "threshold" in values}
        test = _evaluate(spec, process_group, trainer, spec.sources["test"](), thresholds or None)
    if process_group.is_first:
        write_bundle(
            directory.bundle,
            job=job,
            corpus_info=corpus_info,
            weights=weights,
            dev=dev,
            epoch=progress.best_epoch,
            temperature=temperature,
        )
    return RunRecord(
        name=directory.location.name,
        outcome="finished" if progress.next_epoch >= spec.train.epochs else "stopped-early",
        fingerprint=job.fingerprint,
        corpus=dict(corpus_info.corpus) | {"dev_cut_conversations": len(corpus_info.dev_cut)},
        config=job.model_dump(mode="json"),
        versions=versions(),
        components=job.component_hashes(),
        parameters=sum(parameter.numel() for parameter in trainer.model.parameters()),
        workers=spec.workers,
        epochs=progress.next_epoch,
        selected_epoch=progress.best_epoch,
        refit_epochs=refit_epochs,
        resumes=progress.resumes,
        repeated_steps=progress.repeated_steps,
        test_reads=0 if test is None else 1,
        dev=dev,
        test=test,
        seconds={},
        peak_memory_bytes=0,
        warnings=[*spec.warnings, *warnings_of(dev), *_warnings_of_epochs(directory, progress)],
        locations={"bundle": directory.bundle.uri, "tensorboard": directory.location.join("tensorboard").uri},
    )


def _warnings_of_epochs(directory: RunDirectory, progress: Progress) -> list[str]:
    """What any epoch has warned of, and what the diagnostics of the selected one show."""
    lines = directory.metrics()
    diagnostics = next((line.diagnostics for line in lines if line.epoch == progress.best_epoch), {})
    return [warning for line in lines for warning in line.warnings] + warnings_from(diagnostics)


def warnings_of(dev: Scores) -> list[str]:
    """Warnings about failures that the selected epoch's dev scores show."""
    if dev.confusion is None:
        return []
    predicted = [sum(row[k] for row in dev.confusion) for k in range(len(dev.labels))]
    return [
        f"{name} is never predicted on dev (it has {counted(int(dev.per_label[name]['support']), 'utterance')} there); "
        "try objective.class_weighting"
        for name, count in zip(dev.labels, predicted, strict=True)
        if count == 0 and dev.per_label[name]["support"]
    ]


def peak_memory_bytes() -> int:
    """The largest resident memory that this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
