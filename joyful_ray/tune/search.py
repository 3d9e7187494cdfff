"""Runs a search: checks before any resources are used, trials on Ray Tune, confirmation, and the test score."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from joyful_ray.config import JobConfig
from joyful_ray.errors import CheckpointError, TrainingError
from joyful_ray.records import SearchRecord
from joyful_ray.storage import open_location
from joyful_ray.train.callbacks import CallbackList
from joyful_ray.train.lock import run_lock
from joyful_ray.tune.callbacks import SearchCallback, SearchInfo, TrialEvents
from joyful_ray.tune.conclude import conclude
from joyful_ray.tune.ledger import Extended, Opened
from joyful_ray.tune.merge import merge_search
from joyful_ray.tune.search_directory import SearchDirectory
from joyful_ray.tune.search_setup import SearchSetup, setup
from joyful_ray.tune.search_state import SearchState
from joyful_ray.wording import counted

if TYPE_CHECKING:
    from joyful_ray.tune.searcher import LedgerWriter

Stage = Callable[[str], None]
Watch = Callable[[SearchState], None]


def search(
    job: JobConfig,
    *,
    name: str | None = None,
    add_trials: int = 0,
    merge: Sequence[str] = (),
    watch: Watch | None = None,
    stage: Stage = lambda text: None,
    callbacks: Sequence[SearchCallback] = (),
    take_over: bool = False,
) -> SearchRecord:
    """Run a search and return its record. An interrupted search with this name continues from its ledger.

    Args:
        job: the settings, with a section `search`.
        name: name of the search; None takes the job's name.
        add_trials: number of trials to add to a finished search; space and scheduler may have changed.
        merge: folders of searches with the same job and corpus, whose trials count as known.
        watch: called with the state of the search after each event.
        stage: called with a line before each stage.
        callbacks: receive the events of the search, in this process.
        take_over: take the search from a command on another machine, without watching whether it still works.

    Raises:
        UserError: the job, the corpus or the folder of the search cannot be used; nothing was started.
        TrainingError: no trial has a score, or the search finished and a callback failed.
    """
    checked = setup(job, name=name)
    home = checked.home
    for place in merge:
        SearchDirectory(open_location(place)).config()
    with run_lock(home.location, take_over=take_over, waiting=stage):
        home.begin(job, corpus_hash=checked.corpus.hash, is_extended=add_trials > 0)
        from joyful_ray.tune.searcher import LedgerWriter

        writer = LedgerWriter(home.ledger, watch=watch)
        is_resumed = bool(writer.state.sessions)
        merged = sum(merge_search(place, job, checked.corpus.hash, writer) for place in merge)
        _check_open(checked, writer.state, add_trials=add_trials, merged=merged)
        info = SearchInfo(home.location.name, job, home.location.uri, is_resumed)
        events = CallbackList(callbacks, info, base=SearchCallback)
        events.begin("on_search_begin")
        writer.listen(TrialEvents(events, writer.state).update)
        try:
            record = _run(checked, writer, add_trials=add_trials, stage=stage)
        except BaseException as error:
            events.send("on_exception", error)
            raise
    events.send("on_search_end", record)
    events.check(f"the search is complete in {home.location.uri}")
    return record


def _run(checked: SearchSetup, writer: LedgerWriter, *, add_trials: int, stage: Stage) -> SearchRecord:
    """Run one session of a search."""
    from joyful_ray.tune.execution import run_on_ray

    if add_trials:
        writer.write(Extended(trials=add_trials))
    checked.home.forget_record()
    began = time.time()
    session = _open_session(checked, writer)
    slots = run_on_ray(checked, writer, session, stage)
    if not writer.state.ranked(checked.goal):
        raise TrainingError(_nothing(writer.state))
    stage("concluding")
    return conclude(
        checked.space,
        checked.corpus,
        checked.goal,
        checked.home,
        writer,
        slots=slots,
        wall_seconds=time.time() - began,
    )


def _open_session(checked: SearchSetup, writer: LedgerWriter) -> int:
    """Record that a session starts; returns its number."""
    session = len(writer.state.sessions)
    writer.write(
        Opened(
            session=session,
            fingerprint=checked.space.job.fingerprint,
            corpus=checked.corpus.hash,
            search=checked.search.model_dump(mode="json"),
            goals=[goal.name for goal in checked.goals],
        )
    )
    return session


def _check_open(setup: SearchSetup, state: SearchState, *, add_trials: int, merged: int) -> None:
    """Check that there is something to do, and that trials are only added to a finished search."""
    name, wanted = setup.home.location.name, setup.search.max_trials + state.added
    unfinished = [trial for trial in state.own if trial.outcome is None]
    budget = setup.search.time_budget_s
    is_spent = budget is not None and state.spent_s >= budget
    is_drawn = len(state.own) >= wanted or (setup.search.algorithm == "grid" and bool(state.own) and not unfinished)
    is_done = is_spent or (is_drawn and not unfinished)
    if add_trials and state.sessions and not is_done:
        left = len(unfinished) + max(wanted - len(state.own), 0)
        raise CheckpointError(
            f"search {name} has {left} of its {counted(wanted, 'trial')} left; finish it without --add-trials first"
        )
    if add_trials and is_spent:
        raise CheckpointError(f"search {name} has spent its search.time_budget_s {budget:g}; raise it to add trials")
    if is_done and not add_trials and not merged and setup.home.read_record() is not None:
        more = "raise search.time_budget_s" if is_spent else "add to it with --add-trials N"
        raise CheckpointError(f"search {name} is finished with {len(state.own)} trials; {more}, or see joyful report")


def _nothing(state: SearchState) -> str:
    reasons = Counter(trial.reason for trial in state.own if trial.outcome == "failed")
    most = reasons.most_common(1)
    why = f"; {most[0][1]} failed with: {most[0][0]}" if most else "; search.time_budget_s may be too short"
    return f"none of {len(state.own)} trials has a score{why}"
