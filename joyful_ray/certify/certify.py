"""Shows on this machine that a job's answer does not depend on what happens to it: `joyful certify`."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from joyful_ray.certify.disturbances import KINDS, SAME_WORKERS, Disturber, Kind, repeats_allowed
from joyful_ray.certify.nodes import LocalNodes, local_nodes
from joyful_ray.config import JobConfig, resolve, to_yaml
from joyful_ray.errors import ConfigError, TrainingError
from joyful_ray.records import Certificate, DisturbedRun, EpochMetrics, versions
from joyful_ray.train.checkpoint import MODEL, read_tensors
from joyful_ray.train.launch import check_job
from joyful_ray.train.run_directory import RunDirectory
from joyful_ray.wording import counted

FILE = "certificate.json"
TOLERANCE = 1e-6
"""Largest relative difference of a loss where the number of workers has changed; such trials train in fp64.

In fp32, sums in another order differ in the seventh digit, which tips an activation over its kink now and then. A long
training amplifies that, whatever is right or wrong with the number of workers.
"""
Ingest = Literal["resident", "streaming"]
WAYS: tuple[tuple[str, Ingest, bool], ...] = (
    ("resident", "resident", False),
    ("streaming", "streaming", False),
    ("resident-other-workers", "resident", True),
    ("streaming-other-workers", "streaming", True),
)
"""Name of each trial, how it reads its corpus, and whether its number of workers changes on the way."""


class Trial(NamedTuple):
    """One way to run a job, undisturbed and disturbed."""

    name: str
    ingest: Ingest
    workers: tuple[int, ...]
    kinds: tuple[Kind, ...]


def trials_of(workers: int, disturbances: int, draw: random.Random, only: Sequence[str] = ()) -> list[Trial]:
    """The trials, with all disturbances shared out among them: in each, kinds come in a random order.

    Args:
        workers: number of workers at the start.
        disturbances: how many, over all trials.
        draw: decides the order.
        only: names of the trials to make; empty for all.

    Raises:
        ConfigError: there is no trial of such a name.
    """
    names = [name for name, _, _ in WAYS]
    if unknown := sorted(set(only) - set(names)):
        raise ConfigError(f"there is no trial {unknown[0]}; there are {', '.join(names)}")
    ways = [way for way in WAYS if not only or way[0] in only]
    trials = []
    for place, (name, ingest, is_changed) in enumerate(ways):
        count = disturbances // len(ways) + (place < disturbances % len(ways))
        numbers = (workers, 1, workers + 1) if is_changed else (workers,)
        kinds = _in_turn(KINDS if is_changed else SAME_WORKERS, count, draw)
        if count:
            trials.append(Trial(name, ingest, numbers, tuple(kinds)))
    return trials


def _in_turn(kinds: tuple[Kind, ...], count: int, draw: random.Random) -> list[Kind]:
    """Every kind before any comes again, in random orders."""
    chosen: list[Kind] = []
    while len(chosen) < count:
        chosen += draw.sample(kinds, len(kinds))
    return chosen[:count]


def certify(
    job: JobConfig,
    *,
    name: str | None = None,
    workers: int = 2,
    disturbances: int = 9,
    seed: int = 0,
    trials: Sequence[str] = (),
    watch: Callable[[str], None] = lambda line: None,
) -> tuple[Certificate, str]:
    """Train a job undisturbed and disturbed on a cluster of several nodes on this machine, and compare.

    Args:
        job: the settings; its storage is a local folder, and it should have many short epochs.
        name: of the folder in the storage; None is the job's name with `-certificate`.
        workers: number of workers.
        disturbances: how many, over all trials.
        seed: of what is done, and when.
        trials: names of the trials to make; empty for all four.
        watch: called with a line for each step.

    Returns:
        The certificate, and where it was written.

    Raises:
        UserError: the job cannot be used; nothing was started.
        TrainingError: a run that was not disturbed failed.
    """
    draw = random.Random(seed)
    plans = trials_of(workers, disturbances, draw, trials)
    corpus = check_job(job.model_copy(update={"cluster": job.cluster.model_copy(update={"workers": 0})}))
    directory = RunDirectory.of(job, name or f"{job.name}-certificate")
    if directory.location.is_remote:
        raise ConfigError(f"certify kills what it starts on this machine; storage {job.storage} must be a local folder")
    if directory.location.exists():  # also without a certificate: runs that were disturbed by chance prove nothing
        raise ConfigError(f"{directory.location.uri} exists; give this certificate another --name, or remove it")
    steps = -(-corpus.manifest.splits["train"].conversations // job.train.batch_conversations)
    runs = []
    with local_nodes(workers + 1, cpus=job.cluster.cpus_per_worker) as nodes:
        for trial in plans:
            runs.append(_certified(job, trial, directory, nodes, draw, watch, steps=steps))
    certificate = Certificate(
        fingerprint=job.fingerprint, corpus=corpus.hash, seed=seed, versions=versions(), runs=runs
    )
    place = directory.location.join(FILE)
    place.write_text(certificate.model_dump_json(indent=1))
    return certificate, place.uri


def _certified(
    job: JobConfig,
    trial: Trial,
    directory: RunDirectory,
    nodes: LocalNodes,
    draw: random.Random,
    watch: Callable[[str], None],
    *,
    steps: int,
) -> DisturbedRun:
    folder = Path(directory.location.uri) / trial.name
    folder.mkdir(parents=True, exist_ok=True)
    interval = job.train.checkpoint_every_steps or max(steps // 4, 1)
    tree = job.model_dump(mode="json")
    tree["storage"] = str(folder)
    tree["data"]["ingest"] = trial.ingest
    if len(trial.workers) > 1:
        tree["train"]["precision"] = "fp64"
    tree["train"] |= {"checkpoint_every_steps": interval, "keep_checkpoints": max(job.train.keep_checkpoints, 2)}
    tree["cluster"] |= {"max_failures": max(len(trial.kinds), 1), "workers": trial.workers[0]}
    used = resolve(tree)
    file = folder / "job.yaml"
    file.write_text(to_yaml(used))

    def disturber(name: str) -> Disturber:
        return Disturber(file, RunDirectory.of(used, name), nodes, trial.workers, draw, folder / f"{name}.log")

    watch(f"{trial.name}: the run without disturbance")
    undisturbed, disturbed = disturber("undisturbed"), disturber("disturbed")
    undisturbed.run([])
    problems = []
    try:
        disturbed.run(trial.kinds, watch=watch)
    except TrainingError as error:
        problems.append(str(error))
    return _compared(trial, undisturbed.directory, disturbed, problems, interval=interval, steps=steps)


def _compared(
    trial: Trial, undisturbed: RunDirectory, run: Disturber, problems: list[str], *, interval: int, steps: int
) -> DisturbedRun:
    record = run.directory.read_record()
    allowed = repeats_allowed(run.made, interval=interval, steps_per_epoch=steps)
    expected, found = undisturbed.metrics(), run.directory.metrics()
    has_changed = "other-workers" in run.made
    losses = _loss_difference(expected, found)
    weights = _weight_difference(undisturbed, run.directory) if record is not None else float("inf")
    same_seen = [line.seen for line in expected] == [line.seen for line in found]
    limit = TOLERANCE if has_changed else 0.0
    if len(run.made) < len(trial.kinds):
        problems.append(f"it ended after {len(run.made)} of {counted(len(trial.kinds), 'disturbance')}; add epochs")
    if losses > limit:
        problems.append(f"a loss differs by {losses:.1e}, more than {limit:g}")
    if weights and not has_changed:
        problems.append(f"a weight differs by {weights:.1e}")
    if not same_seen:
        problems.append("an epoch trained on other conversations")
    repeated = record.repeated_steps if record is not None else 0
    if repeated > allowed:
        problems.append(f"{counted(repeated, 'step')} were repeated, more than {allowed}")
    changes = run.made.count("other-workers")
    return DisturbedRun(
        name=trial.name,
        workers=[trial.workers[place % len(trial.workers)] for place in range(changes + 1)],
        ingest=trial.ingest,
        disturbances=list(run.made),
        resumes=record.resumes if record is not None else 0,
        repeated_steps=repeated,
        most_repeated_steps=allowed,
        loss_difference=losses,
        weight_difference=weights,
        is_exact=losses == weights == 0.0,
        has_seen_the_same=same_seen,
        problems=problems,
    )


def _loss_difference(expected: list[EpochMetrics], found: list[EpochMetrics]) -> float:
    """The largest relative difference of a term or of the loss on dev; infinite if an epoch is missing."""
    if len(expected) != len(found) or not expected:
        return float("inf")
    largest = 0.0
    for one, other in zip(expected, found, strict=True):
        pairs = [(one.losses[name], other.losses[name]) for name in one.losses]
        pairs.append((one.dev.loss, other.dev.loss))
        largest = max([largest, *(abs(a - b) / max(abs(a), 1e-9) for a, b in pairs)])
    return largest


def _weight_difference(expected: RunDirectory, found: RunDirectory) -> float:
    """The largest difference of a kept weight, relative to the largest of its tensor."""
    one, other = (read_tensors(directory.bundle.join(MODEL)) for directory in (expected, found))
    return max(
        float((values.double() - other[name].double()).abs().max() / values.double().abs().max().clamp(min=1e-9))
        if not torch.equal(values, other[name])
        else 0.0
        for name, values in one.items()
    )
