"""Values of a search range: drawn, listed, checked, and as optuna takes them. No torch, no ray."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from joyful_ray.errors import ConfigError
from joyful_ray.search_settings import RangeConfig

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

INNER = 0.381966
"""A place inside each range that is also checked, which no whole number of a small range has."""


def as_optuna(entry: RangeConfig, value: Any) -> Any:
    """A value of a setting as optuna takes it."""
    return json.dumps(value) if entry.kind == "choice" else value


def of_optuna(entry: RangeConfig, value: Any) -> Any:
    """A value from optuna as a value of a setting."""
    return json.loads(value) if entry.kind == "choice" else rounded(value)


def rounded(value: Any) -> Any:
    """A number with six digits, which is readable and is written to a file without loss."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def draw_value(entry: RangeConfig, random: np.random.Generator) -> Any:
    """One random value of a range."""
    if entry.kind == "choice":
        assert entry.choice is not None
        return entry.choice[int(random.integers(len(entry.choice)))]
    low, high = entry.bounds
    if entry.kind == "log":
        return rounded(min(max(math.exp(random.uniform(math.log(low), math.log(high))), low), high))
    if entry.kind == "int" or entry.step is not None:
        values = all_values(entry)
        return values[int(random.integers(len(values)))]
    return rounded(float(random.uniform(low, high)))


def all_values(entry: RangeConfig) -> list[Any]:
    """All values of a finite range; both ends of any other."""
    if entry.kind == "choice":
        return list(entry.choice or [])
    low, high = entry.bounds
    if entry.kind == "int":
        return list(range(int(low), int(high) + 1, int(entry.step or 1)))
    if entry.step is not None:
        return [rounded(low + entry.step * place) for place in range(int((high - low) / entry.step + 1e-9) + 1)]
    return [low, high]


def grid_values(path: str, entry: RangeConfig) -> list[Any]:
    """All values of a range for a grid search.

    Raises:
        ConfigError: the range has no step.
    """
    if entry.kind == "log" or (entry.kind == "uniform" and entry.step is None):
        way = "a choice" if entry.kind == "log" else "a step, or a choice"
        raise ConfigError(f"search.space.{path}: grid cannot try every value of {entry.kind}; give {way}")
    return all_values(entry)


def probe_values(entry: RangeConfig) -> Iterator[Any]:
    """Values on which the range of a setting is checked: all of them, or both ends and a place inside."""
    yield from all_values(entry)
    if entry.is_number and entry.kind != "int" and entry.step is None:
        low, high = entry.bounds
        yield low + INNER * (high - low)


def distribution(entry: RangeConfig) -> BaseDistribution:
    """A range as an optuna distribution."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if entry.kind == "choice":
        return CategoricalDistribution([json.dumps(value) for value in entry.choice or []])
    low, high = entry.bounds
    if entry.kind == "int":
        return IntDistribution(
            int(low), int(high) - (int(high) - int(low)) % int(entry.step or 1), step=int(entry.step or 1)
        )
    last = all_values(entry)[-1]
    return FloatDistribution(low, last, log=entry.kind == "log", step=entry.step)


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a value, as optuna takes it, is in a range."""
    try:
        return bool(distribution._contains(distribution.to_internal_repr(value)))
    except (ValueError, TypeError):
        return False
