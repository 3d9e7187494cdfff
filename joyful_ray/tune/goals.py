"""Goals of a search: the scores of each task, and in which direction each is better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from joyful_ray.config import nearest
from joyful_ray.errors import ConfigError
from joyful_ray.records import SELECTS
from joyful_ray.schema import Task
from joyful_ray.search_settings import SearchConfig

GREATER: dict[Task, tuple[str, ...]] = {
    "single-label": ("weighted_f1", "accuracy", "macro_f1"),
    "multi-label": ("binary_weighted_f1", "weighted_f1", "accuracy", "macro_f1"),
    "regression": ("correlation", "concordance", "accuracy_7", "accuracy_2", "f1_2"),
}
LESS: dict[Task, tuple[str, ...]] = {
    "single-label": ("loss", "seconds"),
    "multi-label": ("loss", "seconds"),
    "regression": ("mae", "loss", "seconds"),
}


@dataclass(frozen=True)
class Goal:
    """One score that the search optimises: a dev score, or `seconds` of training.

    Attributes:
        sign: 1 if greater is better, -1 if smaller is better.
    """

    name: str
    sign: int

    def score(self, values: Mapping[str, float]) -> float:
        """The score with its sign chosen so that greater is better."""
        return self.sign * values[self.name]


def goals_of(search: SearchConfig, task: Task) -> list[Goal]:
    """The goals of a search. The first decides about early stopping and the winner.

    Raises:
        ConfigError: the task does not have this metric; the message has the nearest one.
    """
    names: Sequence[str] = search.metrics or [SELECTS[task]]
    known = [*GREATER[task], *LESS[task]]
    for name in names:
        if name not in known:
            raise ConfigError(f"search.metric: {task} has no {name}; {nearest(name, known)}")
    if names[0] == "seconds":
        raise ConfigError("search.metric: seconds cannot come first, because a dev score chooses the winner")
    return [Goal(name, 1 if name in GREATER[task] else -1) for name in names]
