"""Shows how much of a long work is done and how much time is left."""

from __future__ import annotations

from time import perf_counter
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from joyful_ray.console.progress import clock
from joyful_ray.console.screen import Screen
from joyful_ray.wording import counted

PAUSE_S = 5.0
"""Without a terminal, lines are at least this far apart."""
PAUSE_SHARE = 0.05
"""They also are at least this share of the elapsed time apart, so that a log of many hours stays short."""


class CountDisplay:
    """Counts what is done: a bar on a terminal, otherwise a line now and then. Short work prints nothing.

    Args:
        screen: where to print.
        verb: what is done, such as `predicted`.
        noun: what is counted, such as `shard`.
    """

    def __init__(self, screen: Screen, verb: str, noun: str) -> None:
        self._screen, self._verb, self._noun = screen, verb, noun
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("time left"),
            TimeRemainingColumn(),
            console=screen.console,
            transient=True,
            disable=not screen.console.is_terminal,
        )
        self._task = self._bar.add_task(f"{verb} {counted(2, noun).removeprefix('2 ')}", total=None)
        self._began_s = self._printed_s = perf_counter()
        self._before: int | None = None

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(self, done: int, total: int | None) -> None:
        """Show that more is done.

        Args:
            done: how many are done, including those of an earlier command.
            total: how many there are; None if that is unknown.
        """
        if self._before is None:
            self._before = done - 1
        self._bar.update(self._task, completed=done, total=total)
        now_s = perf_counter()
        pause_s = max(PAUSE_S, PAUSE_SHARE * (now_s - self._began_s))
        if self._screen.console.is_terminal or now_s - self._printed_s < pause_s:
            return
        self._printed_s = now_s
        if total is None:
            self._screen.say(f"{self._verb} {counted(done, self._noun)}")
            return
        left_s = (now_s - self._began_s) / (done - self._before) * (total - done)
        left = f", {clock(left_s)} left" if done < total else ""
        self._screen.say(f"{self._verb} {done:,} of {counted(total, self._noun)}{left}")
