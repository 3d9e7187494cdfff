"""Builds the scheduler of a search, and replays the trials of earlier sessions to it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ray.tune import schedulers
from ray.tune.schedulers import TrialScheduler

from joyful_ray.components import build_component, is_component
from joyful_ray.errors import ConfigError
from joyful_ray.tune.goals import Goal
from joyful_ray.tune.ranges import rounded
from joyful_ray.tune.search_state import SearchState, Trial
from joyful_ray.tune.space import Space

EPOCHS, SCORE = "epochs", "score"
PAUSING = ("hyperband", "pbt")
"""Schedulers that pause trials and resume them."""


def scheduler_of(space: Space, *, epochs: int) -> TrialScheduler:
    """Build the scheduler of a search. Every one compares the best dev score so far after the same number of epochs.

    Args:
        space: the search space, with the settings of the search.
        epochs: largest number of epochs of a trial.

    Raises:
        ConfigError: a scheduler of the user cannot be built, or is not one of Ray Tune's.
    """
    # Some results have no score: epochs of the fusion phase, and failures.
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"
    search = space.search
    common: dict[str, Any] = {"time_attr": EPOCHS, "metric": SCORE, "mode": "max"}
    if is_component(search.scheduler):
        own = build_component(search.scheduler, "scheduler", search.scheduler_options)
        built = own.build(**common, max_epochs=epochs)
        if not isinstance(built, TrialScheduler):
            raise ConfigError(f"{search.scheduler}.build returned a {type(built).__name__}, not a Ray Tune scheduler")
        return built
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
        case _:
            return schedulers.FIFOScheduler()


class ReplayingScheduler(TrialScheduler):
    """Judges no epoch twice: epochs in the ledger were judged in an earlier session, and are only recorded.

    A continued trial reports its earlier epochs again. Compared with trials that continued at the same time, a new
    scheduler could stop it at a rung that it had already passed.

    Args:
        inner: the scheduler that decides.
        state: the state of the search.
        pauses: whether trials may pause; the median rule would pause them while it knows too few others.
    """

    def __init__(self, inner: TrialScheduler, state: SearchState, *, pauses: bool = False) -> None:
        super().__init__()
        self._inner, self._state, self._pauses = inner, state, pauses

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_inner"], name)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict) -> str:
        """The decision of the inner scheduler, or to continue."""
        known = self._state.trials[str(trial)].epochs
        number, seconds = result.get("numbers/epoch"), result.get("numbers/seconds")
        was_judged = any(line.epoch == number and line.seconds == seconds for line in known)
        decision = self._inner.on_trial_result(tune_controller, trial, result)
        if decision == TrialScheduler.PAUSE and not self._pauses:
            return TrialScheduler.CONTINUE
        return TrialScheduler.CONTINUE if was_judged and decision == TrialScheduler.STOP else decision

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Nothing: the inner scheduler is already configured."""
        return True

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Forward to the inner scheduler."""
        self._inner.on_trial_add(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Forward to the inner scheduler."""
        self._inner.on_trial_error(tune_controller, trial)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict) -> None:
        """Forward to the inner scheduler."""
        self._inner.on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Forward to the inner scheduler."""
        self._inner.on_trial_remove(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any, **more: Any) -> Any:
        """Forward to the inner scheduler."""
        return self._inner.choose_trial_to_run(tune_controller, **more)

    def debug_string(self) -> str:
        """Forward to the inner scheduler."""
        return self._inner.debug_string()


def replay_trials(scheduler: TrialScheduler, trials: Iterable[Trial], goal: Goal) -> None:
    """Replay ended trials to a new scheduler, so that it compares with them (asha and median; others start again)."""
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
    """The part of a trial that these schedulers read."""

    trial_id: str


class NoOthers:
    """Stands for Ray Tune's controller while nothing runs."""

    def get_live_trials(self) -> list[Any]:
        """No trials."""
        return []


class _Keep:
    """After pbt changed settings: numbers return to their ranges, and settings that must be equal stay equal."""

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
