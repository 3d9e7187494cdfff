"""Ray Tune's schedulers, as a search names them, told of the trials that the ledger knows."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ray.tune import schedulers
from ray.tune.schedulers import TrialScheduler

from joyful_ray.tune.goals import Goal
from joyful_ray.tune.ranges import rounded
from joyful_ray.tune.search_state import SearchState, Trial
from joyful_ray.tune.space import Space

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


class ReplayingScheduler(TrialScheduler):
    """Judges no epoch twice: one that the ledger holds was judged in an earlier sitting, and is only taken note of.

    A trial that goes on tells its earlier epochs again. With the rungs of the trials that went on beside it, a new
    scheduler would now stop it at a rung that it had passed.

    Args:
        pauses: whether trials may be put aside; the median rule would do so while it knows too few others.
    """

    def __init__(self, inner: TrialScheduler, state: SearchState, *, pauses: bool = False) -> None:
        super().__init__()
        self._inner, self._study, self._pauses = inner, state, pauses

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_inner"], name)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict) -> str:
        """The inner scheduler's decision, or to go on."""
        known = self._study.trials[str(trial)].epochs
        number, seconds = result.get("numbers/epoch"), result.get("numbers/seconds")
        was_judged = any(line.epoch == number and line.seconds == seconds for line in known)
        decision = self._inner.on_trial_result(tune_controller, trial, result)
        if decision == TrialScheduler.PAUSE and not self._pauses:
            return TrialScheduler.CONTINUE
        return TrialScheduler.CONTINUE if was_judged and decision == TrialScheduler.STOP else decision

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """The inner scheduler knows what it compares."""
        return True

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Passed on."""
        self._inner.on_trial_add(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Passed on."""
        self._inner.on_trial_error(tune_controller, trial)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict) -> None:
        """Passed on."""
        self._inner.on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Passed on."""
        self._inner.on_trial_remove(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any, **more: Any) -> Any:
        """Passed on."""
        return self._inner.choose_trial_to_run(tune_controller, **more)

    def debug_string(self) -> str:
        """Passed on."""
        return self._inner.debug_string()


def replay_trials(scheduler: TrialScheduler, trials: Iterable[Trial], goal: Goal) -> None:
    """Tell a new scheduler of ended trials, so that it compares with them (asha and median; others begin anew)."""
    if not isinstance(scheduler, schedulers.AsyncHyperBandScheduler | schedulers.MedianStoppingRule):
        return
    for trial in trials:
        known: Any = _Known(trial.name)
        controller: Any = NoOthers()
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


class NoOthers:
    """Ray Tune's controller, as long as nothing runs."""

    def get_live_trials(self) -> list[Any]:
        """None."""
        return []


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
