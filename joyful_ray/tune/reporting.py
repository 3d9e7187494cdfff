"""Reports from a trial to its search: the best score so far after each epoch, and how the trial ended. No ray."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from joyful_ray.records import EpochMetrics
from joyful_ray.train.loop import report_of
from joyful_ray.tune.goals import Goal

Result = dict[str, Any]


class Reporter:
    """Converts the metrics of the training loop to results that schedulers compare.

    The last epoch is reported together with the ending, after everything is written: a scheduler that stopped the
    trial before could lose its record.

    Args:
        goal: the score that the search optimises.
        send: receives a result: `epochs` done, `score` (best so far, greater is better), `numbers` of the epoch.
        extra: is added to the first result.
    """

    def __init__(self, goal: Goal, send: Callable[[Result], None], *, extra: Mapping[str, Any] | None = None) -> None:
        self.goal, self._send = goal, send
        self._extra = dict(extra or {})
        self._score: float | None = None
        self._held: Result | None = None
        self._last: Result = {}

    def remember(self, lines: Iterable[EpochMetrics]) -> None:
        """Note epochs that were reported before."""
        for line in lines:
            self._result(report_of(line, is_last=False))

    def replay(self, lines: Iterable[EpochMetrics]) -> None:
        """Report the epochs of an earlier session again, so that a new scheduler knows them."""
        for line in lines:
            self._tell(self._result(report_of(line, is_last=False)))

    def __call__(self, numbers: Mapping[str, float]) -> None:
        """Report one epoch."""
        result = self._result(numbers)
        if numbers["is_last"]:
            self._held = result
        else:
            self._tell(result)

    def ending(self, reason: str) -> Result:
        """The last result: the last epoch, and why the trial ended."""
        return {**self._extra, **(self._held or self._last), "ending": reason}

    def _tell(self, result: Result) -> None:
        self._send({**self._extra, **result})
        self._extra = {}

    def _result(self, numbers: Mapping[str, float]) -> Result:
        if numbers["is_best"]:
            self._score = self.goal.score(dev_of(numbers))
        self._last = {"epochs": int(numbers["epoch"]) + 1, "numbers": dict(numbers)}
        if self._score is not None:
            self._last["score"] = self._score
        return self._last


def dev_of(numbers: Mapping[str, float]) -> dict[str, float]:
    """The dev scores among an epoch's numbers."""
    return {name.removeprefix("dev/"): value for name, value in numbers.items() if name.startswith("dev/")}
