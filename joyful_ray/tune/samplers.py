"""Samplers choose the next config: at random, from a grid, or by optuna's TPE from all ended trials."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from joyful_ray.errors import ConfigError
from joyful_ray.tune.goals import Goal
from joyful_ray.tune.ranges import of_optuna
from joyful_ray.tune.search_state import Trial
from joyful_ray.tune.space import ATTEMPTS, Settings, Space

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution


class Sampler(Protocol):
    """Samples configs, numbered from 0."""

    def sample(self, number: int) -> Settings | None:
        """The config with this number; None if there are no more."""
        ...

    def observe(self, trials: Sequence[Trial]) -> None:
        """Observe the ended trials of one config."""
        ...


def build_sampler(space: Space, goals: Sequence[Goal], known: Sequence[Sequence[Trial]]) -> Sampler:
    """Build the sampler of a search.

    Args:
        space: the search space.
        goals: what the search optimises.
        known: ended trials, one group per config.
    """
    if space.search.algorithm == "optuna":
        sampler = TPESampler(space, goals, seed=space.search.seed + len(known))
        for trials in known:
            sampler.observe(trials)
        return sampler
    return GridSampler(space) if space.search.algorithm == "grid" else RandomSampler(space)


class RandomSampler:
    """Samples at random. A config depends only on the search's seed and its number, also after an interruption."""

    def __init__(self, space: Space) -> None:
        self._space = space

    def sample(self, number: int) -> Settings | None:
        """The config with this number."""
        return self._space.draw(number)

    def observe(self, trials: Sequence[Trial]) -> None:
        """Ignore it."""


class GridSampler:
    """Every combination once, in the order of the space."""

    def __init__(self, space: Space) -> None:
        self._configs = space.grid()

    def sample(self, number: int) -> Settings | None:
        """The config with this number."""
        return self._configs[number] if number < len(self._configs) else None

    def observe(self, trials: Sequence[Trial]) -> None:
        """Ignore it."""


class TPESampler:
    """optuna's TPE: settings near those of good trials become more likely; several goals give a Pareto front.

    Trials that were stopped early count with their score so far. Running trials count as bad, so that trials that
    run at the same time differ.
    """

    def __init__(self, space: Space, goals: Sequence[Goal], *, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(
                seed=seed, multivariate=True, group=True, constant_liar=True, n_startup_trials=8
            )
        self._space, self._goals = space, goals
        self._study = optuna.create_study(directions=["maximize"] * len(goals), sampler=sampler)
        self._asked: dict[str, list[optuna.trial.Trial]] = {}

    def sample(self, number: int) -> Settings | None:
        """The next config, given all trials that have ended."""
        problem = ""
        for _ in range(ATTEMPTS):
            asked = self._study.ask()
            settings = self._ask(asked)
            try:
                self._space.job_of(settings)
            except ConfigError as error:
                problem = str(error)
                self._tell(asked, None)
                continue
            self._asked.setdefault(_key(settings), []).append(asked)
            return settings
        raise ConfigError(f"search.space: none of {ATTEMPTS} samples is a valid combination; the last one: {problem}")

    def observe(self, trials: Sequence[Trial]) -> None:
        """Learn from the mean score over the trials of a config."""
        settings = trials[0].settings
        values = [sum(trial.score(goal) for trial in trials) / len(trials) for goal in self._goals]
        if any(trial.outcome == "failed" or trial.values() is None for trial in trials):
            values = []
        waiting = self._asked.get(_key(settings))
        if waiting:
            self._tell(waiting.pop(), values or None)
            return
        self._add(settings, values)

    def _ask(self, asked: optuna.trial.Trial) -> Settings:
        drawn: Settings = {}
        for path, kind in self._space.distributions().items():
            entry = self._space.ranges[path]
            # A range whose condition does not hold is not sampled.
            if path in self._space.complete({**drawn, path: None}):
                drawn[path] = of_optuna(entry, _suggest(asked, path, kind))
        return self._space.complete(drawn)

    def _tell(self, asked: optuna.trial.Trial, values: list[float] | None) -> None:
        import optuna

        self._study.tell(asked, values, state=None if values else optuna.trial.TrialState.FAIL)

    def _add(self, settings: Settings, values: list[float]) -> None:
        """Add a trial of an earlier session, or of another search."""
        import optuna

        found = self._space.known_values(settings)
        if not found or not values:
            return
        distributions = {path: kind for path, kind in self._space.distributions().items() if path in found}
        self._study.add_trial(optuna.trial.create_trial(params=found, distributions=distributions, values=values))


def _suggest(asked: optuna.trial.Trial, path: str, kind: BaseDistribution) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    match kind:
        case CategoricalDistribution():
            return asked.suggest_categorical(path, kind.choices)
        case IntDistribution():
            return asked.suggest_int(path, kind.low, kind.high, step=kind.step)
        case FloatDistribution():
            return asked.suggest_float(path, kind.low, kind.high, step=kind.step, log=kind.log)
    raise TypeError(f"no range is a {type(kind).__name__}")


def _key(settings: Settings) -> str:
    return repr(sorted(settings.items(), key=lambda item: item[0]))
