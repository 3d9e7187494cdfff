"""A search from the driver: checks before anything is spent, trials on Ray Tune, the winner confirmed and tested."""

from __future__ import annotations

import itertools
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from joyful_ray.config import JobConfig, setting
from joyful_ray.corpora.shards import Corpus, open_corpus
from joyful_ray.data.prepare import task_of, widths_of
from joyful_ray.data.split_rows import split_rows
from joyful_ray.errors import CheckpointError, ConfigError, TrainingError
from joyful_ray.records import SearchRecord
from joyful_ray.search_settings import SearchConfig
from joyful_ray.storage import open_location
from joyful_ray.train.launch import ray_cluster
from joyful_ray.train.lock import run_lock
from joyful_ray.tune.conclude import conclude
from joyful_ray.tune.confirm import planned
from joyful_ray.tune.goals import Goal, goals_of
from joyful_ray.tune.ledger import Drawn, Extended, Opened
from joyful_ray.tune.merge import merge_search
from joyful_ray.tune.samplers import build_sampler
from joyful_ray.tune.search_directory import SearchDirectory
from joyful_ray.tune.search_state import SearchState, Trial
from joyful_ray.tune.space import Space, job_with

Stage = Callable[[str], None]
Watch = Callable[[SearchState], None]


@dataclass(frozen=True)
class SearchSetup:
    """A search as far as it is known before Ray starts."""

    space: Space
    corpus: Corpus
    goals: list[Goal]
    home: SearchDirectory

    @property
    def search(self) -> SearchConfig:
        """How it searches."""
        return self.space.search

    @property
    def goal(self) -> Goal:
        """What decides about stopping and the winner."""
        return self.goals[0]


def setup(job: JobConfig, *, name: str | None = None) -> SearchSetup:
    """Check a search job against its corpus; nothing is spent.

    Raises:
        UserError: a setting, range, metric or the corpus is not as it must be.
    """
    space = Space.of(job)
    if job.corpus is None:
        raise ConfigError("corpus is not set; name one in the job file or with --set corpus=PATH")
    corpus = open_corpus(job.corpus)
    goals = goals_of(space.search, task_of(corpus.manifest, job))
    widths_of(corpus.manifest, job)
    split_rows(corpus, job)
    return SearchSetup(space, corpus, goals, SearchDirectory.of(job, name))


def search(
    job: JobConfig,
    *,
    name: str | None = None,
    add_trials: int = 0,
    merge: Sequence[str] = (),
    watch: Watch | None = None,
    stage: Stage = lambda text: None,
) -> SearchRecord:
    """Search to the record; an interrupted search of this name goes on from its ledger.

    Args:
        add_trials: to a search that has done what was asked; space and scheduler may have changed.
        merge: directories of searches over the same job and corpus, whose trials count as known.
        watch: called with the study after each event.
        stage: told what is being done.

    Raises:
        UserError: the job, corpus or directory is not as it must be; nothing has been spent.
        TrainingError: no trial came to a score.
    """
    planned_search = setup(job, name=name)
    home = planned_search.home
    for place in merge:
        SearchDirectory(open_location(place)).config()
    with run_lock(home.location):
        home.begin(job, corpus_hash=planned_search.corpus.hash, is_extended=add_trials > 0)
        from joyful_ray.tune.searcher import LedgerWriter

        writer = LedgerWriter(home.ledger, watch=watch)
        merged = sum(merge_search(place, job, planned_search.corpus.hash, writer) for place in merge)
        _check_open(planned_search, writer.state, add_trials=add_trials, merged=merged)
        if add_trials:
            writer.write(Extended(trials=add_trials))
        home.forget_record()
        began = time.time()
        session = len(writer.state.sessions)
        writer.write(
            Opened(
                session=session,
                fingerprint=planned_search.space.job.fingerprint,
                corpus=planned_search.corpus.hash,
                search=planned_search.search.model_dump(mode="json"),
                goals=[goal.name for goal in planned_search.goals],
            )
        )
        slots = _on_ray(planned_search, writer, session, stage)
        if not writer.state.ranked(planned_search.goal):
            raise TrainingError(_nothing(writer.state))
        stage("concluding")
        return conclude(
            planned_search.space,
            planned_search.corpus,
            planned_search.goal,
            home,
            writer,
            slots=slots,
            wall_seconds=time.time() - began,
        )


def _on_ray(setup: SearchSetup, writer: Any, session: int, stage: Stage) -> int:
    """Run the trials of the search, then those that confirm; gives how many ran at a time."""
    search = setup.search
    cluster: dict[str, Any] = {"cluster.workers": 0}
    if search.workers_per_trial > 1:
        cluster = {
            "cluster.workers": search.workers_per_trial,
            "cluster.cpus_per_worker": search.cpus_per_trial / search.workers_per_trial,
            "cluster.gpus_per_worker": search.gpus_per_trial / search.workers_per_trial,
        }
    _quiet()
    stage("starting Ray")
    with ray_cluster(job_with(setup.space.job, cluster), dashboard=True):
        import ray

        from joyful_ray.tune.footprint import check_exploit, concurrent_trials, estimate_footprint
        from joyful_ray.tune.schedulers import PAUSING, ReplayingScheduler, replay_trials, scheduler_of
        from joyful_ray.tune.searcher import new_trials, prune_trials
        from joyful_ray.tune.trial import Shared
        from joyful_ray.tune.tuner import run_trials

        slots = concurrent_trials(search, ray.available_resources())
        stage("preparing the corpus")
        prepared = _prepare(setup)
        corpus_info = next(iter(prepared.values())).corpus_info
        size = estimate_footprint(setup.space, corpus_info, slots=slots, trials=search.max_trials + writer.state.added)
        if search.scheduler == "pbt":
            check_exploit(setup.space, corpus_info)
        home = setup.home.location
        shared = Shared(
            setup.space.job, search, home, setup.goal, setup.corpus.hash, prepared, search.scheduler in PAUSING
        )
        stage(
            f"{slots} trials at a time; models of up to {size.parameters:,} parameters; "
            f"at most {size.storage_bytes / 2**20:,.0f} MiB of models and checkpoints at a time"
        )
        left = None if search.time_budget_s is None else search.time_budget_s - writer.state.spent_s
        groups = _groups([trial for trial in writer.state.searched if trial.outcome])
        draws = build_sampler(setup.space, setup.goals, groups)
        wanted = search.max_trials + writer.state.added
        unfinished = [trial for trial in writer.state.own if trial.outcome is None]
        todo = len(unfinished) + max(wanted - len(writer.state.own), 0)
        if todo and (left is None or left > 0):
            epochs = max(setting(job, "train.epochs") for job in _ends(setup.space))
            scheduler = scheduler_of(setup.space, epochs=epochs)
            replay_trials(
                scheduler,
                (trial for trial in writer.state.searched if trial.outcome in ("finished", "stopped")),
                setup.goal,
            )
            first_seed = setup.space.job.seed
            run_trials(
                shared,
                writer,
                ReplayingScheduler(scheduler, writer.state, pauses=search.scheduler in PAUSING),
                unfinished=unfinished,
                new=new_trials(writer, draws, wanted=wanted, seeds=search.repeat.seeds, first_seed=first_seed),
                learned=draws.ended,
                session=session,
                slots=slots,
                most=todo,
                time_budget_s=left,
            )
        if search.confirm is not None and writer.state.ranked(setup.goal):
            stage("confirming the best configs over fresh seeds")
            _confirm(setup, writer, shared, session=session, slots=slots)
        prune_trials(writer.state, shared)
    return slots


def _confirm(setup: SearchSetup, writer: Any, shared: Any, *, session: int, slots: int) -> None:
    from dataclasses import replace

    from ray.tune.schedulers import FIFOScheduler

    from joyful_ray.tune.tuner import run_trials

    confirm = setup.search.confirm
    assert confirm is not None
    wanted = planned(writer.state, setup.goal, top=confirm.top, seeds=confirm.seeds, first_seed=setup.space.job.seed)
    missing = [drawn for drawn in wanted if drawn.trial not in writer.state.trials]
    writer.write(*missing)
    names = {drawn.trial for drawn in wanted}
    unfinished = [trial for trial in writer.state.confirming if trial.outcome is None and trial.name in names]
    if unfinished:
        run_trials(
            replace(shared, points=False),
            writer,
            FIFOScheduler(),
            unfinished=unfinished,
            new=_no_more,
            learned=lambda trials: None,
            session=session,
            slots=slots,
            most=len(unfinished),
            time_budget_s=None,
        )


def _no_more() -> Drawn | None:
    return None


def _prepare(setup: SearchSetup) -> dict[str, Any]:
    """The corpus for each choice of what is read from it, without the test split."""
    from joyful_ray.data.ingest import ingest
    from joyful_ray.tune.trial import Prepared, data_key

    paths = [path for path in (*setup.space.ranges, *setup.space.constants) if path.startswith("data.")]
    columns = [
        setup.space.ranges[path].choice or [] if path in setup.space.ranges else [setup.space.constants[path]]
        for path in paths
    ]
    jobs = [setup.space.job] + [
        job_with(setup.space.job, dict(zip(paths, values, strict=True))) for values in itertools.product(*columns)
    ]
    found: dict[str, Any] = {}
    for job in jobs:
        if data_key(job) not in found:
            widths_of(setup.corpus.manifest, job)
            found[data_key(job)] = Prepared(*ingest(setup.corpus, job, ("train", "dev")))
    return found


def _check_open(setup: SearchSetup, state: SearchState, *, add_trials: int, merged: int) -> None:
    """See that there is something to do, and that trials are only added to a search that is done."""
    name, wanted = setup.home.location.name, setup.search.max_trials + state.added
    unfinished = [trial for trial in state.own if trial.outcome is None]
    budget = setup.search.time_budget_s
    is_spent = budget is not None and state.spent_s >= budget
    is_drawn = len(state.own) >= wanted or (setup.search.algorithm == "grid" and bool(state.own) and not unfinished)
    is_done = is_spent or (is_drawn and not unfinished)
    if add_trials and state.sessions and not is_done:
        left = len(unfinished) + max(wanted - len(state.own), 0)
        raise CheckpointError(
            f"search {name} has {left} of its {wanted} trials to do; finish it without --add-trials first"
        )
    if add_trials and is_spent:
        raise CheckpointError(f"search {name} has spent its search.time_budget_s {budget:g}; raise it to add trials")
    if is_done and not add_trials and not merged and setup.home.read_record() is not None:
        more = "raise search.time_budget_s" if is_spent else "add to it with --add-trials N"
        raise CheckpointError(f"search {name} is finished with {len(state.own)} trials; {more}, or see joyful report")


def _groups(trials: Sequence[Trial]) -> list[list[Trial]]:
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(trial.drawn.config, []).append(trial)
    return list(groups.values())


def _ends(space: Space) -> list[JobConfig]:
    """Jobs with the fewest and the most epochs that the space allows."""
    entry = space.ranges.get("train.epochs")
    values = [] if entry is None else entry.choice or list(entry.bounds)
    base = job_with(space.job, space.constants)
    return [base, *(job_with(base, {"train.epochs": int(value)}) for value in values)]


def _nothing(state: SearchState) -> str:
    reasons = Counter(trial.reason for trial in state.own if trial.outcome == "failed")
    most = reasons.most_common(1)
    why = f"; {most[0][1]} failed with: {most[0][0]}" if most else "; search.time_budget_s may be too short"
    return f"none of {len(state.own)} trials came to a score{why}"


def _quiet() -> None:
    """Ray Tune writes no files and no words of its own; ours are the ledger and the table."""
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
    os.environ.setdefault("TUNE_WARN_THRESHOLD_S", "60")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
