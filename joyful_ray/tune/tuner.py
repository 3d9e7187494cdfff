"""Runs trials with Ray Tune: resources, concurrency, time budget, and Ray's own files."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from ray import tune
from ray.tune.schedulers import TrialScheduler

from joyful_ray.train.on_ray.connection import capacity
from joyful_ray.tune.footprint import CONTROLLER_CPUS
from joyful_ray.tune.ledger import Drawn
from joyful_ray.tune.schedulers import PAUSING
from joyful_ray.tune.search_context import SearchContext
from joyful_ray.tune.search_state import Trial
from joyful_ray.tune.searcher import LedgerCallback, LedgerSearcher, LedgerWriter, config_of
from joyful_ray.tune.trial import run_trial

CACHE = ".ray"


def run_trials(
    context: SearchContext,
    writer: LedgerWriter,
    scheduler: TrialScheduler,
    *,
    unfinished: Sequence[Trial],
    new: Callable[[], Drawn | None],
    observe: Callable[[Sequence[Trial]], None],
    session: int,
    slots: int,
    most: int,
    time_budget_s: float | None,
) -> None:
    """Run unfinished trials, then new ones, until there are no more or the time budget is spent.

    Args:
        context: what all trials share.
        writer: writes the ledger.
        scheduler: stops bad trials early.
        unfinished: trials that have not ended.
        new: samples the next trial.
        observe: called with the trials of a config once all of them have ended.
        session: number of this session.
        slots: trials at a time.
        most: largest number of trials.
        time_budget_s: seconds after which no more trials start; None is no limit.
    """
    cache = context.home.join(CACHE)
    cache.remove()
    # A limit on live trials would also count the paused ones.
    limit = None if context.search.scheduler in PAUSING and context.points else slots
    # Population-based training takes no search algorithm: its whole population is sampled at the start.
    population = _population(writer, unfinished, new) if context.search.scheduler == "pbt" and context.points else None
    trainable = tune.with_resources(tune.with_parameters(run_trial, context=context), _resources(context, slots))
    tuner = tune.Tuner(
        trainable,
        param_space=population or {},
        tune_config=tune.TuneConfig(
            search_alg=None if population else LedgerSearcher(writer, unfinished, new),
            scheduler=scheduler,
            num_samples=1 if population else most,
            max_concurrent_trials=limit,
            time_budget_s=time_budget_s,
            reuse_actors=context.search.workers_per_trial == 1 and not context.points,
            trial_name_creator=lambda trial: trial.config["trial"],
            trial_dirname_creator=lambda trial: trial.config["trial"],
        ),
        run_config=tune.RunConfig(
            name=f"session-{time.time_ns()}",
            storage_path=cache.uri,
            callbacks=[LedgerCallback(writer, context, session=session, observe=observe)],
            failure_config=tune.FailureConfig(max_failures=context.base.cluster.max_failures),
            verbose=0,
        ),
    )
    try:
        tuner.fit()
    finally:
        cache.remove()


def _population(writer: LedgerWriter, unfinished: Sequence[Trial], new: Callable[[], Drawn | None]) -> dict[str, Any]:
    """All trials as a grid search over their names."""
    configs = {trial.name: config_of(trial.drawn, trial.settings) for trial in unfinished}
    while (drawn := new()) is not None:
        writer.write(drawn)
        configs[drawn.trial] = config_of(drawn, drawn.settings)

    def of(spec: Any) -> dict[str, Any]:
        return configs[spec.config["trial"]]

    return {
        "trial": tune.grid_search(list(configs)),
        "settings": tune.sample_from(lambda spec: dict(of(spec)["settings"])),
        "seed": tune.sample_from(lambda spec: of(spec)["seed"]),
        "counts": False,
    }


def _resources(context: SearchContext, slots: int) -> dict[str, float]:
    search = context.search
    if search.workers_per_trial > 1:
        return {"cpu": CONTROLLER_CPUS}
    cpus = search.cpus_per_trial
    if context.points and search.max_concurrent is not None:
        # Paused trials cannot be counted, so each trial asks for its share of the cores instead.
        cpus = max(cpus, int(1000 * capacity().get("CPU", 0.0) / slots) / 1000)
    return {"cpu": cpus} | ({"gpu": search.gpus_per_trial} if search.gpus_per_trial else {})
