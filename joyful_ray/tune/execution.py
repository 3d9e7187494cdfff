"""Runs a search on Ray: prepares the corpus, runs the trials, then the confirmation."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import ray
from ray.tune.schedulers import FIFOScheduler

from joyful_ray.config import JobConfig, setting
from joyful_ray.data.ingest import ingest, store_bytes
from joyful_ray.data.prepare import CorpusInfo
from joyful_ray.data.ways import decided
from joyful_ray.train.on_ray.attempts import Attempts
from joyful_ray.train.on_ray.connection import can_grow, capacity, cluster_address, has_cores, ray_cluster
from joyful_ray.train.on_ray.start_watch import A_CORE, amounts, watching
from joyful_ray.train.schedule import lengthened
from joyful_ray.tune.confirm import planned
from joyful_ray.tune.distributed_trial import start_marker
from joyful_ray.tune.footprint import check_exploit, check_places, concurrent_trials, estimate_footprint
from joyful_ray.tune.ledger import Drawn
from joyful_ray.tune.samplers import build_sampler
from joyful_ray.tune.schedulers import PAUSING, ReplayingScheduler, replay_trials, scheduler_of
from joyful_ray.tune.search_context import Prepared, SearchContext, data_key
from joyful_ray.tune.search_setup import SearchSetup
from joyful_ray.tune.search_state import Trial
from joyful_ray.tune.searcher import LedgerWriter, Pruner, new_trials
from joyful_ray.tune.space import Space, job_with
from joyful_ray.tune.tuner import run_trials
from joyful_ray.wording import counted

Stage = Callable[[str], None]


def run_on_ray(setup: SearchSetup, writer: LedgerWriter, session: int, stage: Stage) -> int:
    """Run the trials of the search, then the confirmation runs.

    Args:
        setup: the checked search.
        writer: records what happens.
        session: number of this session.
        stage: called with a line before each stage.

    Returns:
        How many trials ran at a time.
    """
    search = setup.search
    _quiet()
    stage("starting Ray")
    with ray_cluster(_cluster_job(setup), dashboard=True):
        slots = concurrent_trials(search, capacity(), may_grow=can_grow())
        if not can_grow():
            check_places(search, ray.nodes())
        stage("preparing the corpus")
        cluster, began, before = setup.space.job.cluster, time.time(), _starts(writer)
        ended = {trial.name for trial in writer.state.own if trial.outcome is not None}
        with watching(cluster, A_CORE, has_started=has_cores, say=stage, started=began, starts_tasks=True):
            attempts = Attempts(cluster.max_failures, stage)
            context = attempts.run(lambda: _context(setup, slots, writer.state.added, stage))
        with watching(
            cluster,
            f"a trial with {amounts(search.cpus_per_trial, search.gpus_per_trial)}",
            has_started=lambda: _starts(writer) > before and _has_workers(writer, context, ended),
            say=stage,
            started=began,
            is_local=cluster_address(setup.space.job) is None,
        ):
            _search(setup, writer, context, session=session, slots=slots)
        if search.confirm is not None and writer.state.ranked(setup.goal):
            stage("confirming the best configs over fresh seeds")
            _confirm(setup, writer, context, session=session, slots=slots)
        Pruner(context).prune(writer.state)
    return slots


def _cluster_job(setup: SearchSetup) -> JobConfig:
    """The job whose workers tell how many cores and GPUs a trial needs."""
    search = setup.search
    settings: dict[str, Any] = {"cluster.workers": 0, "cluster.min_workers": None}
    if search.workers_per_trial > 1:
        settings |= {
            "cluster.workers": search.workers_per_trial,
            "cluster.cpus_per_worker": search.cpus_per_trial / search.workers_per_trial,
            "cluster.gpus_per_worker": search.gpus_per_trial / search.workers_per_trial,
        }
    return job_with(setup.space.job, settings)


def _starts(writer: LedgerWriter) -> int:
    """How often trials have started."""
    return sum(trial.starts for trial in list(writer.state.trials.values()))


def _has_workers(writer: LedgerWriter, context: SearchContext, ended: set[str]) -> bool:
    """Whether the workers of a trial run, or it has ended; a trial of several starts before them, and waits.

    Args:
        writer: knows the trials.
        context: knows their directories.
        ended: names of trials that had ended before.
    """
    if context.search.workers_per_trial == 1:
        return True
    mine = [trial for trial in list(writer.state.own) if trial.starts and trial.name not in ended]
    return any(trial.outcome is not None or start_marker(context.directory(trial.name)).exists() for trial in mine)


def _context(setup: SearchSetup, slots: int, added: int, stage: Stage) -> SearchContext:
    search = setup.search
    prepared = _prepare(setup)
    manifest = setup.corpus.manifest

    def info_of(job: JobConfig) -> CorpusInfo:
        return prepared[data_key(job, manifest)].corpus_info

    footprint = estimate_footprint(setup.space, info_of, slots=slots, trials=search.max_trials + added)
    if search.scheduler == "pbt":
        check_exploit(setup.space, info_of)
    stage(
        f"{counted(slots, 'trial')} at a time; models of up to {footprint.parameters:,} parameters; "
        f"at most {footprint.storage_bytes / 2**20:,.0f} MiB of models and checkpoints at a time"
    )
    return SearchContext(
        base=setup.space.job,
        search=search,
        home=setup.home.location,
        goal=setup.goal,
        corpus_hash=setup.corpus.hash,
        manifest=manifest,
        prepared=prepared,
        points=search.scheduler in PAUSING,
    )


def _search(setup: SearchSetup, writer: LedgerWriter, context: SearchContext, *, session: int, slots: int) -> None:
    search, state = setup.search, writer.state
    left_s = None if search.time_budget_s is None else search.time_budget_s - state.spent_s
    sampler = build_sampler(setup.space, setup.goals, _groups([trial for trial in state.searched if trial.outcome]))
    wanted = search.max_trials + state.added
    unfinished = [trial for trial in state.own if trial.outcome is None]
    most = len(unfinished) + max(wanted - len(state.own), 0)
    if not most or (left_s is not None and left_s <= 0):
        return
    epochs = max(
        lengthened(job.train, conversations=context.prepared_for(job).corpus_info.conversations).epochs
        for job in _ends(setup.space)
    )
    scheduler = scheduler_of(setup.space, epochs=epochs)
    known = (trial for trial in state.searched if trial.outcome in ("finished", "stopped"))
    replay_trials(scheduler, known, setup.goal)
    first_seed = setup.space.job.seed
    run_trials(
        context,
        writer,
        ReplayingScheduler(scheduler, state, pauses=search.scheduler in PAUSING),
        unfinished=unfinished,
        new=new_trials(writer, sampler, wanted=wanted, seeds=search.repeat.seeds, first_seed=first_seed),
        observe=sampler.observe,
        session=session,
        slots=slots,
        most=most,
        time_budget_s=left_s,
    )


def _confirm(setup: SearchSetup, writer: LedgerWriter, context: SearchContext, *, session: int, slots: int) -> None:
    confirm = setup.search.confirm
    assert confirm is not None
    wanted = planned(writer.state, setup.goal, top=confirm.top, seeds=confirm.seeds, first_seed=setup.space.job.seed)
    missing = [drawn for drawn in wanted if drawn.trial not in writer.state.trials]
    writer.write(*missing)
    names = {drawn.trial for drawn in wanted}
    unfinished = [trial for trial in writer.state.confirming if trial.outcome is None and trial.name in names]
    if unfinished:
        run_trials(
            replace(context, points=False),
            writer,
            FIFOScheduler(),
            unfinished=unfinished,
            new=_no_more,
            observe=lambda trials: None,
            session=session,
            slots=slots,
            most=len(unfinished),
            time_budget_s=None,
        )


def _no_more() -> Drawn | None:
    return None


def _prepare(setup: SearchSetup) -> dict[str, Prepared]:
    """The prepared corpus of every encoding that a trial can have, by its key, without the test split."""
    space, found = setup.space, dict[str, Prepared]()
    for job in [space.job, *(job_with(space.job, settings) for settings in _data_settings(space))]:
        key = data_key(job, setup.corpus.manifest)
        if key not in found:
            reading = decided(job, setup.corpus, setup.home.location.join("trials"), partial(store_bytes, job))
            found[key] = Prepared(*ingest(setup.corpus, reading, ("train", "dev")))
    return found


def _data_settings(space: Space) -> Iterator[dict[str, Any]]:
    """Every combination of values of the section `data` that a trial can have."""
    columns = {path: [value] for path, value in space.constants.items()}
    for path, entry in space.ranges.items():
        # A setting whose condition does not hold keeps the value of the job.
        columns[path] = [*(entry.choice or []), *([setting(space.job, path)] if entry.when is not None else [])]
    paths = [path for path in columns if path.startswith("data.")]
    for values in itertools.product(*(columns[path] for path in paths)):
        chosen = dict(zip(paths, values, strict=True))
        yield chosen | {path: chosen[other] for path, other in space.same.items() if path.startswith("data.")}


def _groups(trials: Sequence[Trial]) -> list[list[Trial]]:
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(trial.drawn.config, []).append(trial)
    return list(groups.values())


def _ends(space: Space) -> list[JobConfig]:
    """Jobs with the smallest and the largest number of epochs in the space."""
    entry = space.ranges.get("train.epochs")
    values = [] if entry is None else entry.choice or list(entry.bounds)
    base = job_with(space.job, space.constants)
    return [base, *(job_with(base, {"train.epochs": int(value)}) for value in values)]


def _quiet() -> None:
    """Turn off Ray Tune's own files and output; the ledger and the live table replace them."""
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
    os.environ.setdefault("TUNE_WARN_THRESHOLD_S", "60")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
