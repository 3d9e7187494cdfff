"""The training loop: plain PyTorch on one rank. It knows neither Ray nor where its micro-batches come from."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from joyful_ray.config import JobConfig
from joyful_ray.data.prepare import Facts
from joyful_ray.data.source import Source
from joyful_ray.errors import CheckpointError, TrainingError, UserError
from joyful_ray.records import EpochMetrics, RunRecord, Scores, versions
from joyful_ray.schema import Split
from joyful_ray.train.board import Board
from joyful_ray.train.bundle import write_bundle
from joyful_ray.train.calibration import fit_temperature
from joyful_ray.train.checkpoint import latest_checkpoint, prune_checkpoints
from joyful_ray.train.context import World
from joyful_ray.train.diagnose import warnings_from
from joyful_ray.train.directory import RunDirectory
from joyful_ray.train.evaluate import Keep, evaluate
from joyful_ray.train.learner import EpochNumbers, Learner
from joyful_ray.train.schedule import Progress


@dataclass(frozen=True)
class Assignment:
    """One run as a rank sees it.

    Attributes:
        sources: by split, made when asked for; `test` is asked once, at the end.
        workers: as the user asked; 0 is without Ray.
        started: epoch seconds at which the command began.
    """

    job: JobConfig
    facts: Facts
    sources: Mapping[Split, Callable[[], Source]]
    directory: RunDirectory
    workers: int
    started: float


def run(assignment: Assignment, world: World) -> RunRecord:
    """Train until dev stops getting better, then score the selected epoch on dev and, once, on test.

    Raises:
        TrainingError: on every rank, where a loss is not finite.
    """
    setup_s = time.time() - assignment.started
    learner = Learner(assignment.job, assignment.facts, world)
    progress = fit(assignment, world, learner)
    fit_s = time.time() - assignment.started - setup_s
    record = _select_and_score(assignment, world, learner, progress)
    peak = max(int(str(value)) for value in world.gather(peak_memory_bytes()))
    total_s = time.time() - assignment.started
    seconds = {"setup": setup_s, "fit": fit_s, "selection": total_s - setup_s - fit_s, "total": total_s}
    record = record.model_copy(update={"seconds": seconds, "peak_memory_bytes": peak})
    if world.is_first:
        assignment.directory.write_record(record)
    return record


def fit(assignment: Assignment, world: World, learner: Learner) -> Progress:
    """Epochs, each with its dev scores, checkpoint and report, from the last checkpoint to the end."""
    train, directory = assignment.job.train, assignment.directory
    progress = _resume(directory, learner, world)
    source, dev = assignment.sources["train"](), assignment.sources["dev"]()
    longest_s = 0.0
    with _board(directory, world, progress) as board:
        while not progress.is_done(train):
            _check_time(assignment, world, progress, longest_s)
            began = time.perf_counter()
            numbers = learner.train_epoch(source, progress)
            scores = _evaluate(assignment, world, learner, dev)
            _check_sound(numbers, scores, epoch=progress.next_epoch)
            before, progress = (
                progress,
                progress.after(
                    score=scores.selection,
                    dev_loss=scores.loss,
                    counts=learner.stage_of(progress.next_epoch) != "fusion",
                ),
            )
            metrics = EpochMetrics(
                **asdict(numbers),
                epoch=before.next_epoch,
                dev=scores,
                seconds=time.perf_counter() - began,
                utterances_per_second=assignment.facts.utterances / numbers.train_seconds,
                is_best=progress.best_epoch == before.next_epoch,
            )
            if board is not None:
                # The checkpoint comes last: an epoch that a crash cuts off here is made again, with its line.
                directory.add_metrics(metrics)
                board.epoch(metrics)
                _save(directory, learner, progress, keep=train.keep_checkpoints)
            world.report(report_of(metrics, is_last=progress.is_done(train)))
            longest_s = max(longest_s, time.perf_counter() - began)
    # The first rank may still be writing the last checkpoint, which the others are about to read.
    world.wait_for_all()
    return progress


def report_of(metrics: EpochMetrics, *, is_last: bool) -> dict[str, float]:
    """One epoch as plain numbers: what whoever started the run is told."""
    return {
        "epoch": metrics.epoch,
        "dev": metrics.dev.selection,
        "loss": metrics.losses["total"],
        "seconds": metrics.seconds,
        "is_best": float(metrics.is_best),
        "is_last": float(is_last),
        "dev/loss": metrics.dev.loss,
    } | {f"dev/{name}": value for name, value in metrics.dev.values.items()}


def _check_time(assignment: Assignment, world: World, progress: Progress, longest_s: float) -> None:
    """Begin no epoch that would end after `cluster.max_hours`; the first rank's clock decides for all."""
    limit = assignment.job.cluster.max_hours
    if limit is None:
        return
    left_s = assignment.started + 3600 * limit - time.time()
    is_over = torch.tensor(float(world.is_first and left_s < longest_s), device=world.device)
    if world.add(is_over) > 0:
        done = progress.next_epoch
        raise TrainingError(
            f"stopped after {done} of {assignment.job.train.epochs} epochs: another would end after cluster.max_hours "
            f"({limit:g}); " + ("the same command continues the run" if done else "raise it, nothing was trained")
        )


def _check_sound(numbers: EpochNumbers, dev: Scores, *, epoch: int) -> None:
    """An epoch that cannot be judged ends the run; every rank has the same numbers, and stops with the others."""
    if not dev.utterances:
        raise TrainingError(f"epoch {epoch}: no utterance of dev is labeled; raise data.dev_fraction, or label some")
    values = numbers.losses | {"dev loss": dev.loss, "dev score": dev.selection}
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    if bad:
        verb = "is" if len(bad) == 1 else "are"
        raise TrainingError(
            f"epoch {epoch}: {', '.join(bad)} {verb} not finite; look for extreme features or labels in train and dev, "
            "or try a smaller train.learning_rate"
        )


def _resume(directory: RunDirectory, learner: Learner, world: World) -> Progress:
    found = latest_checkpoint(directory.checkpoints)
    try:
        progress = Progress() if found is None else learner.load(found)
    except UserError as error:
        raise CheckpointError(f"{error}; remove {found} to go on from the checkpoint before it") from None
    if world.is_first:
        directory.forget_from(progress.next_epoch)
    return progress


def _board(directory: RunDirectory, world: World, progress: Progress) -> AbstractContextManager[Board | None]:
    if not world.is_first:
        return nullcontext()
    return Board(directory.location.join("tensorboard"), first_epoch=progress.next_epoch)


def _save(directory: RunDirectory, learner: Learner, progress: Progress, *, keep: int) -> None:
    learner.save(directory.checkpoint(progress.next_epoch - 1), progress)
    latest = range(progress.next_epoch - keep, progress.next_epoch)
    prune_checkpoints(directory.checkpoints, keep={progress.best_epoch, *latest})


def _evaluate(
    assignment: Assignment,
    world: World,
    learner: Learner,
    source: Source,
    thresholds: Mapping[str, float] | None = None,
    keep: Keep | None = None,
) -> Scores:
    encoding = assignment.facts.encoding
    return evaluate(
        learner.evaluated,
        source.once(rank=world.rank, world=world.size),
        task=encoding.task,
        labels=list(encoding.labels),
        world=world,
        precision=assignment.job.train.precision,
        thresholds=thresholds,
        keep=keep,
    )


def _dev_and_temperature(assignment: Assignment, world: World, learner: Learner) -> tuple[Scores, float | None]:
    """Dev scores of the selected weights, and the temperature that fits their probabilities to dev."""
    encoding = assignment.facts.encoding
    scores: list[Tensor] = [torch.zeros(0, max(len(encoding.labels), 1))]
    labels: list[Tensor] = []

    def keep(scores_NK: Tensor, truth: Tensor) -> None:
        scores.append(scores_NK)
        labels.append(truth)

    dev = _evaluate(assignment, world, learner, assignment.sources["dev"](), keep=keep)
    truth = torch.cat(labels) if labels else torch.zeros(0)
    temperature = fit_temperature(
        torch.cat(scores), truth, task=encoding.task, add=lambda values: world.add(values.to(world.device)).cpu()
    )
    return dev, temperature


def _select_and_score(assignment: Assignment, world: World, learner: Learner, progress: Progress) -> RunRecord:
    job, facts, directory = assignment.job, assignment.facts, assignment.directory
    weights = learner.load_selected(directory.checkpoint(progress.best_epoch))
    dev, temperature = _dev_and_temperature(assignment, world, learner)
    test = None
    if "test" in assignment.sources:
        thresholds = {name: values["threshold"] for name, values in dev.per_label.items() if "threshold" in values}
        test = _evaluate(assignment, world, learner, assignment.sources["test"](), thresholds or None)
    if world.is_first:
        write_bundle(
            directory.bundle,
            job=job,
            facts=facts,
            weights=weights,
            dev=dev,
            epoch=progress.best_epoch,
            temperature=temperature,
        )
    return RunRecord(
        name=directory.location.name,
        outcome="finished" if progress.next_epoch >= job.train.epochs else "stopped-early",
        fingerprint=job.fingerprint,
        corpus=dict(facts.corpus) | {"dev_cut_conversations": len(facts.dev_cut)},
        config=job.model_dump(mode="json"),
        versions=versions(),
        parameters=sum(parameter.numel() for parameter in learner.model.parameters()),
        workers=assignment.workers,
        epochs=progress.next_epoch,
        selected_epoch=progress.best_epoch,
        test_reads=0 if test is None else 1,
        dev=dev,
        test=test,
        seconds={},
        peak_memory_bytes=0,
        warnings=warnings_of(dev) + warnings_from(_diagnostics(directory, progress)),
        locations={"bundle": directory.bundle.uri, "tensorboard": directory.location.join("tensorboard").uri},
    )


def _diagnostics(directory: RunDirectory, progress: Progress) -> dict[str, float]:
    return next((line.diagnostics for line in directory.metrics() if line.epoch == progress.best_epoch), {})


def warnings_of(dev: Scores) -> list[str]:
    """Failure signatures that the selected epoch's dev scores show."""
    if dev.confusion is None:
        return []
    predicted = [sum(row[k] for row in dev.confusion) for k in range(len(dev.labels))]
    return [
        f"{name} is never predicted on dev (it has {int(dev.per_label[name]['support'])} utterances there); "
        "try objective.class_weighting"
        for name, count in zip(dev.labels, predicted, strict=True)
        if count == 0 and dev.per_label[name]["support"]
    ]


def peak_memory_bytes() -> int:
    """The most memory that this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
