"""One trial: a run of the training loop inside a Ray Tune actor, in a directory from which it can continue."""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray import tune

from joyful_ray.config import JobConfig
from joyful_ray.data.loader import BatchLoader
from joyful_ray.errors import TrainingError, UserError
from joyful_ray.records import RunRecord
from joyful_ray.schema import Split
from joyful_ray.train.checkpoint import latest_checkpoint, read_progress
from joyful_ray.train.loop import run
from joyful_ray.train.loop_spec import RunSpec
from joyful_ray.train.process_group import ProcessGroup, pick_device, use_cores
from joyful_ray.train.run_directory import RunDirectory
from joyful_ray.train.schedule import lengthened
from joyful_ray.tune.dev_counts import has_dev_counts, write_dev_counts
from joyful_ray.tune.exploit import exploit
from joyful_ray.tune.hparams import write_hparams
from joyful_ray.tune.reporting import Reporter, Result
from joyful_ray.tune.search_context import Prepared, SearchContext
from joyful_ray.wording import counted

POINTER = "trial.json"
TRIALS = "trials"


def run_trial(config: dict[str, Any], context: SearchContext) -> None:
    """Train one config, and report each epoch to Ray Tune.

    Errors that would occur again are reported as a failure. Other errors are raised, so that Ray restarts the trial.

    Args:
        config: `settings` by path, `seed`, and `counts` (whether to write the counts for confirmation).
        context: what all trials share.
    """
    # After pbt copied a trial, its config has the name of the other one; only the context has its own.
    trial = tune.get_context().get_trial_name()
    directory = context.directory(trial)
    known = directory.read_failure()
    if known is not None:
        tune.report({"failure": known})
        return
    with _time_limit(context.search.trial_time_limit_s, directory):
        try:
            _train(trial, config, context, directory)
        except (TrainingError, UserError) as error:
            directory.write_failure(str(error))
            tune.report({"failure": str(error)})


def _train(trial: str, config: dict[str, Any], context: SearchContext, directory: RunDirectory) -> None:
    job = context.job(config["settings"], config["seed"])
    pointer = _pointer()
    extra: dict[str, Any] = {}
    if pointer is not None and pointer["trial"] != trial:
        exploit(context.directory(pointer["trial"]), directory, epoch=pointer["epoch"])
        extra = {"changed": {"source": pointer["trial"], "epoch": pointer["epoch"], "settings": config["settings"]}}
    send = _sender(trial, context)
    reporter = Reporter(context.goal, send, extra=extra)
    record = directory.read_record()
    if record is None:
        directory.begin(job, corpus_hash=context.corpus_hash)
    done = _epochs_done(directory) if record is None else record.epochs
    reported = pointer["epoch"] + 1 if pointer is not None else 0
    lines = [line for line in directory.metrics() if line.epoch < done]
    reporter.remember(line for line in lines if line.epoch < reported)
    reporter.replay(line for line in lines if line.epoch >= reported)
    prepared = context.prepared_for(job)
    if record is None:
        write_hparams(directory.location.join("tensorboard"), {**config["settings"], "seed": job.seed}, context.goal)
        if job.cluster.workers:
            from joyful_ray.tune.distributed_trial import train_on_workers

            record = train_on_workers(job, prepared, directory, reporter)
        else:
            record = _train_here(job, prepared, directory, reporter)
    if config.get("counts") and not has_dev_counts(directory):
        write_dev_counts(directory, _source(job, prepared, "dev"))
    if context.search.scheduler != "pbt":  # there, another trial may continue from it
        directory.checkpoints.remove()
    send(reporter.ending(_why(record, job, prepared)))


def _train_here(job: JobConfig, prepared: Prepared, directory: RunDirectory, reporter: Reporter) -> RunRecord:
    device = pick_device(job.train.device)
    use_cores(job.cluster.cpus_per_worker, device)

    def source_of(split: Split) -> Callable[[], BatchLoader]:
        return lambda: _source(job, prepared, split)

    spec = RunSpec(
        job=job,
        corpus_info=prepared.corpus_info,
        sources={split: source_of(split) for split in prepared.ingested},
        directory=directory,
        workers=0,
        started=time.time(),
        is_trial=True,
    )
    return run(spec, ProcessGroup(device=device, report=reporter))


def _source(job: JobConfig, prepared: Prepared, split: Split) -> BatchLoader:
    return prepared.ingested[split].source(job, prepared.corpus_info.encoding)


def _epochs_done(directory: RunDirectory) -> int:
    """Number of epochs before the last complete checkpoint, from which the run continues."""
    found = latest_checkpoint(directory.checkpoints)
    return 0 if found is None else read_progress(found).next_epoch


def _why(record: RunRecord, job: JobConfig, prepared: Prepared) -> str:
    if record.outcome == "finished":
        return f"all {counted(record.epochs, 'epoch')}"
    train = lengthened(job.train, conversations=prepared.corpus_info.conversations)
    return f"no better dev score for {counted(train.patience, 'epoch')}"


def _sender(trial: str, context: SearchContext) -> Callable[[Result], None]:
    def send(result: Result) -> None:
        if not context.points:
            tune.report(result)
            return
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, POINTER).write_text(json.dumps({"trial": trial, "epoch": result["epochs"] - 1}))
            tune.report(result, checkpoint=tune.Checkpoint.from_directory(folder))

    return send


def _pointer() -> dict[str, Any] | None:
    """The trial that this one continues from, and the epoch of its checkpoint."""
    checkpoint = tune.get_checkpoint()
    if checkpoint is None:
        return None
    with checkpoint.as_directory() as folder:
        return json.loads(Path(folder, POINTER).read_text())


@contextmanager
def _time_limit(seconds: float, directory: RunDirectory) -> Iterator[None]:
    """End this process if the trial takes longer, wherever it hangs."""

    def end() -> None:
        directory.write_failure(f"it took longer than {seconds:g} s (search.trial_time_limit_s)")
        os._exit(1)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
