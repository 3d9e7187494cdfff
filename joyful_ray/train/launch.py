"""A run from the driver: checks before anything is spent, then the loop in this process or on Ray Train workers."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from joyful_ray.config import JobConfig
from joyful_ray.corpora.shards import Corpus, open_corpus
from joyful_ray.data.prepare import prepare_here
from joyful_ray.data.source import ResidentSource
from joyful_ray.data.store import SplitStore
from joyful_ray.errors import ConfigError
from joyful_ray.records import EpochMetrics, RunRecord
from joyful_ray.train.context import World, pick_device
from joyful_ray.train.directory import RunDirectory
from joyful_ray.train.loop import Assignment, run

Watcher = Callable[[EpochMetrics], None]


def train(job: JobConfig, *, name: str | None = None, watch: Watcher | None = None) -> RunRecord:
    """Train one job to its record.

    Args:
        name: of the run; the job's own where None. An unfinished run of this name and job goes on.
        watch: called with each epoch's metrics as it ends.

    Raises:
        UserError: the job, corpus or run directory is not as it must be; nothing has been spent.
        TrainingError: the run began and cannot go on.
    """
    started = time.time()
    if job.corpus is None:
        raise ConfigError("corpus is not set; name one in the job file or with --set corpus=PATH")
    corpus = open_corpus(job.corpus)
    directory = RunDirectory.of(job, name)
    directory.begin(job, corpus_hash=corpus.hash)
    if job.cluster.workers == 0:
        return _train_here(job, corpus, directory, started=started, watch=watch)
    from joyful_ray.train.cluster import train_on_ray

    return train_on_ray(job, corpus, directory, started=started, watch=watch)


def _train_here(
    job: JobConfig, corpus: Corpus, directory: RunDirectory, *, started: float, watch: Watcher | None
) -> RunRecord:
    facts, stores = prepare_here(corpus, job)
    world = World(device=pick_device(job.train.device))
    assignment = Assignment(
        job=job,
        facts=facts,
        sources={split: _source(job, store) for split, store in stores.items()},
        directory=directory,
        workers=0,
        started=started,
    )
    return run(assignment, world)


def _source(job: JobConfig, store: SplitStore) -> Callable[[], ResidentSource]:
    return lambda: resident_source(job, store)


def resident_source(job: JobConfig, store: SplitStore) -> ResidentSource:
    """A split in memory, cut as the job says."""
    return ResidentSource(
        store,
        seed=job.seed,
        batch_conversations=job.train.batch_conversations,
        micro_batches=job.train.micro_batches,
        evaluation_utterances=job.train.evaluation_utterances,
    )
