"""Starts a run: checks it before using any resources, then trains in this process or on Ray Train workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from joyful_ray.config import JobConfig
from joyful_ray.corpora.shards import Corpus, open_corpus
from joyful_ray.data.here import REFIT_STREAMED, loaders_here
from joyful_ray.data.prepare import task_of, widths_of
from joyful_ray.data.split_rows import split_rows
from joyful_ray.data.ways import decided, free_memory
from joyful_ray.errors import ConfigError, TrainingError
from joyful_ray.records import EpochMetrics, RunRecord
from joyful_ray.schema import SPLITS, Split
from joyful_ray.train.callbacks import Callback, CallbackList, RunInfo, WatchEpochs
from joyful_ray.train.component_check import check_components
from joyful_ray.train.follow import following
from joyful_ray.train.lock import run_lock
from joyful_ray.train.logs import command_log, copying_at_end
from joyful_ray.train.loop import run
from joyful_ray.train.loop_spec import RunSpec
from joyful_ray.train.on_ray.connection import (
    check_machine,
    cluster_address,
    controller_logs,
    has_cores,
    ray_cluster,
)
from joyful_ray.train.on_ray.start_watch import A_CORE, watching, watching_start
from joyful_ray.train.process_group import ProcessGroup, pick_device, use_cores
from joyful_ray.train.run_directory import RunDirectory

Watch = Callable[[EpochMetrics], None]
TRAIN_AND_DEV: tuple[Split, ...] = ("train", "dev")


def train(
    job: JobConfig,
    *,
    name: str | None = None,
    watch: Watch | None = None,
    callbacks: Sequence[Callback] = (),
    reads_test: bool = True,
    take_over: bool = False,
    stage: Callable[[str], None] = lambda text: None,
) -> RunRecord:
    """Train one job and return its record.

    Args:
        job: the settings.
        name: name of the run; None takes the job's name. An unfinished run with this name and these settings continues.
        watch: called with each epoch's metrics soon after the epoch ends.
        callbacks: receive the events of the run, in this process.
        take_over: take the run from a command on another machine, without watching whether it still works.
        stage: called with a line before a long wait.
        reads_test: score the selected epoch on test, if the corpus has a test split; a study reads it later.

    Raises:
        UserError: the job, corpus or run directory cannot be used; nothing was started.
        TrainingError: the run started and failed, or it finished and a callback failed.
    """
    started = time.time()
    corpus = check_job(job)
    directory = RunDirectory.of(job, name)
    with run_lock(directory.location, take_over=take_over, waiting=stage):
        is_resumed = directory.begin(job, corpus_hash=corpus.hash)
        run = RunInfo(directory.location.name, job, directory.location.uri, is_resumed)
        events = CallbackList([*([WatchEpochs(watch)] if watch is not None else []), *callbacks], run, base=Callback)
        events.begin("on_train_begin")
        try:
            with following(directory, events), command_log(directory.logs, stage) as say:
                splits = SPLITS if reads_test else TRAIN_AND_DEV
                if job.cluster.workers == 0:
                    record = _train_here(job, corpus, directory, started, splits)
                else:
                    record = _train_on_ray(job, corpus, directory, started, splits, say)
        except BaseException as error:
            events.send("on_exception", error)
            raise
    events.send("on_train_end", record)
    events.check(f"the run is complete in {run.uri}")
    return record


def check_job(job: JobConfig, corpus: Corpus | None = None) -> Corpus:
    """Check everything about a job that can be checked before resources are used, and open its corpus.

    Args:
        job: the settings.
        corpus: the job's corpus, if it is open already; opening checks all its files.

    Raises:
        UserError: the job or the corpus cannot be used.
    """
    if job.search is not None:
        raise ConfigError(
            f"job {job.name} is a search: run it with joyful search, or train its own settings with --set search=null"
        )
    if job.study is not None:
        raise ConfigError(
            f"job {job.name} is a study: run it with joyful study, or train its own settings with --set study=null"
        )
    if job.transfer is not None and job.corpus is None:
        raise ConfigError(
            f"job {job.name} compares corpora: run it with joyful transfer, or name one with --set corpus="
        )
    if job.corpus is None:
        raise ConfigError("corpus is not set; name one in the job file or with --set corpus=PATH")
    corpus = open_corpus(job.corpus) if corpus is None else corpus
    task_of(corpus.manifest, job)
    widths_of(corpus.manifest, job)
    split_rows(corpus, job)
    check_components(job, corpus)
    if job.cluster.workers == 0:
        pick_device(job.train.device)
    else:
        check_gpus(job.cluster.gpus_per_worker, "cluster.gpus_per_worker")
        check_machine(job)
    return corpus


def check_gpus(gpus: float, setting: str) -> None:
    """Check that each worker of a run gets one whole GPU, or none.

    Raises:
        ConfigError: workers would share a GPU, which NCCL refuses, or a worker would leave GPUs idle.
    """
    if gpus not in (0, 1):
        reason = "NCCL refuses two workers on one GPU" if gpus < 1 else "a worker uses one GPU, and the others idle"
        raise ConfigError(f"{setting} gives {gpus:g} GPUs to each worker, but {reason}; use 1, and choose the workers")


def _train_here(
    job: JobConfig, corpus: Corpus, directory: RunDirectory, started: float, splits: Sequence[Split]
) -> RunRecord:
    reading = decided(job, corpus, directory.checkpoints, free_memory)
    corpus_info, sources, both = loaders_here(corpus, reading, splits)
    spec = RunSpec(
        job=job,
        corpus_info=corpus_info,
        sources=sources,
        directory=directory,
        workers=0,
        started=started,
        both=both,
    )
    device = pick_device(job.train.device)
    use_cores(job.cluster.cpus_per_worker, device)
    return run(spec, ProcessGroup(device=device))


def _train_on_ray(
    job: JobConfig,
    corpus: Corpus,
    directory: RunDirectory,
    started: float,
    splits: Sequence[Split],
    stage: Callable[[str], None],
) -> RunRecord:
    with ray_cluster(job), copying_at_end(directory.logs, controller_logs):
        from joyful_ray.data.ingest import are_resident, ingest, store_bytes
        from joyful_ray.train.on_ray.attempts import Attempts
        from joyful_ray.train.on_ray.trainer import fit, ray_trainer
        from joyful_ray.train.on_ray.worker import idle_workers

        reading = decided(job, corpus, directory.checkpoints, lambda: store_bytes(job))
        attempts = Attempts(job.cluster.max_failures, stage)
        with watching(job.cluster, A_CORE, has_started=has_cores, say=stage, started=started, starts_tasks=True):
            corpus_info, ingested = attempts.run(lambda: ingest(corpus, reading, splits))
        if job.train.refit and not are_resident(ingested.values()):
            raise ConfigError(REFIT_STREAMED)
        for warning in idle_workers(job, corpus_info, ingested):
            stage(f"warning: {warning}")
        marker = directory.location.join(".ray", f"started-{time.time_ns()}")
        config = {
            "job": job,
            "corpus_info": corpus_info,
            "ingested": ingested,
            "directory": directory,
            "started": started,
            "marker": marker,
        }

        def attempt() -> None:
            fit(ray_trainer(job.cluster, config, storage=directory.location.join(".ray").uri), directory, marker)

        directory.forget_stop()
        is_local = cluster_address(job) is None
        with watching_start(job.cluster, marker, say=stage, started=started, is_local=is_local):
            attempts.run(attempt)
    return written_record(directory)


def written_record(directory: RunDirectory) -> RunRecord:
    """The record that the workers have written.

    Raises:
        TrainingError: they have failed, or ended without one.
    """
    failure = directory.read_failure()
    if failure is not None:
        raise TrainingError(failure)
    record = directory.read_record()
    if record is None:
        raise TrainingError(f"the workers ended without a record in {directory.location.uri}")
    return record
