"""Ray Tune's schedulers, as a search names them, told of the trials that the ledger knows."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ray.tune import schedulers
from ray.tune.schedulers import TrialScheduler

from joyful_ray.search_settings import SearchConfig
from joyful_ray.tune.goals import Goal
from joyful_ray.tune.space import Space, rounded
from joyful_ray.tune.study import Trial

EPOCHS, SCORE = "epochs", "score"
PAUSING = ("hyperband", "pbt")
"""Schedulers that put trials aside and take them up again."""


def scheduler_of(space: Space, *, epochs: int) -> TrialScheduler:
    """The scheduler that a search names; all compare the best dev score so far, at the same number of epochs.

    Args:
        epochs: the most that a trial may run.
    """
    # Some results hold no score: an epoch that does not count, a failure.
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"
    search = space.search
    common: dict[str, Any] = {"time_attr": EPOCHS, "metric": SCORE, "mode": "max"}
    match search.scheduler:
        case "asha":
            return schedulers.ASHAScheduler(
                **common,
                max_t=max(epochs, search.grace_epochs),
                grace_period=search.grace_epochs,
                reduction_factor=search.reduction_factor,
                stop_last_trials=False,
            )
        case "median":
            return schedulers.MedianStoppingRule(
                **common, grace_period=search.grace_epochs, min_samples_required=search.min_trials
            )
        case "hyperband":
            return schedulers.HyperBandScheduler(
                **common, max_t=epochs, reduction_factor=search.reduction_factor, stop_last_trials=False
            )
        case "pbt":
            return schedulers.PopulationBasedTraining(
                **common,
                perturbation_interval=search.perturb_epochs,
                hyperparam_mutations={"settings": _mutations(space)},
                custom_explore_fn=_Keep(space),
                require_attrs=False,
                log_config=False,
            )
        case "none":
            return schedulers.FIFOScheduler()


def teach(scheduler: TrialScheduler, trials: Iterable[Trial], goal: Goal) -> None:
    """Tell a new scheduler of ended trials, so that it compares with them (asha and median; others begin anew)."""
    if not isinstance(scheduler, schedulers.AsyncHyperBandScheduler | schedulers.MedianStoppingRule):
        return
    for trial in trials:
        known: Any = _Known(trial.name)
        controller: Any = None
        points = trial.curve(goal)
        if not points:
            continue
        scheduler.on_trial_add(controller, known)
        for epochs, score in points:
            scheduler.on_trial_result(controller, known, {EPOCHS: epochs, SCORE: score})
        scheduler.on_trial_complete(controller, known, {EPOCHS: points[-1][0], SCORE: points[-1][1]})


@dataclass(frozen=True)
class _Known:
    """What these schedulers look at in a trial."""

    trial_id: str


class _Keep:
    """After pbt changed settings: numbers go back into their ranges, and equal settings stay equal."""

    def __init__(self, space: Space) -> None:
        self._space = space

    def __call__(self, config: dict[str, Any]) -> dict[str, Any]:
        settings: dict[str, Any] = dict(config["settings"])
        for path, entry in self._space.ranges.items():
            if entry.is_number:
                low, high = entry.bounds
                value = min(max(settings[path], low), high)
                settings[path] = round(value) if entry.kind == "int" else rounded(float(value))
        return config | {"settings": self._space.complete(settings)}


def _mutations(space: Space) -> dict[str, Any]:
    from ray import tune

    found: dict[str, Any] = {}
    for path, entry in space.ranges.items():
        match entry.kind:
            case "choice":
                found[path] = list(entry.choice or [])
            case "int":
                found[path] = tune.randint(int(entry.bounds[0]), int(entry.bounds[1]) + 1)
            case "log":
                found[path] = tune.loguniform(*entry.bounds)
            case _:
                found[path] = tune.uniform(*entry.bounds)
    return found
