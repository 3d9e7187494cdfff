"""Shows a search while it runs: a line per trial, and on a terminal a live table of the running trials below them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from joyful_ray.console.progress import clock
from joyful_ray.console.screen import Screen
from joyful_ray.report.tables import word
from joyful_ray.wording import counted, metric_name

if TYPE_CHECKING:
    from joyful_ray.search_settings import SearchConfig
    from joyful_ray.tune.goals import Goal
    from joyful_ray.tune.search_state import SearchState, Trial

SHOWN = 8
OUTCOMES = ("running", "finished", "stopped", "failed")


class SearchDisplay:
    """Shows trials by outcome, the best one so far, and the time left.

    The time left is an estimate from the trials that have ended since the command began; a time budget limits it.

    Args:
        screen: where to print.
        search: settings of the search.
        goal: the goal that decides which trial is best.
        epochs: the most epochs that a trial may have, unless the search varies them.
    """

    def __init__(self, screen: Screen, search: SearchConfig, goal: Goal, *, epochs: int) -> None:
        self._screen, self._search, self._goal, self._epochs = screen, search, goal, epochs
        self._state: SearchState | None = None
        self._ended: set[str] | None = None
        self._began_s, self._stage = time.monotonic(), "checking"
        self._role, self._role_began_s, self._role_ended = "search", self._began_s, 0
        self._live = Live(get_renderable=self._picture, console=screen.console, refresh_per_second=2, transient=True)

    def __enter__(self) -> Self:
        if self._screen.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()

    def stage(self, text: str) -> None:
        """Show what happens now."""
        self._stage = text
        if not self._screen.console.is_terminal:
            self._screen.say(text)

    def state(self, state: SearchState) -> None:
        """Show what has changed: trials that have ended get a line each."""
        self._state = state
        ended = {trial.name for trial in state.trials.values() if trial.outcome}
        if self._ended is None:
            self._ended = ended
            self._count_from(state)
            if ended:
                self._screen.say(f"continues with {counted(len(ended), 'trial')} that ended before")
            return
        if state.confirming and self._role == "search":
            self._role = "confirm"
            self._count_from(state)
        for name in sorted(ended - self._ended):
            self._say_ended(state.trials[name], state)
        self._ended = ended

    def _count_from(self, state: SearchState) -> None:
        """Measure the pace from now on."""
        self._role_began_s = time.monotonic()
        self._role_ended = _number_ended(self._trials(state))

    def _trials(self, state: SearchState) -> list[Trial]:
        """The trials of the current stage: of the search, or the confirmation runs."""
        return state.own if self._role == "search" else state.confirming

    def _total(self, state: SearchState) -> int:
        planned = self._search.max_trials + state.added if self._role == "search" else 0
        return max(planned, len(self._trials(state)))

    def _left_s(self, state: SearchState) -> float | None:
        """Estimated seconds until all trials of the stage have ended; None before the first has ended."""
        ended = _number_ended(self._trials(state))
        if ended == self._role_ended:
            return None
        pace_s = (time.monotonic() - self._role_began_s) / (ended - self._role_ended)
        left_s = pace_s * (self._total(state) - ended)
        if self._search.time_budget_s is not None and self._role == "search":
            left_s = min(left_s, max(self._search.time_budget_s - state.spent_s, 0.0))
        return left_s

    def _say_ended(self, trial: Trial, state: SearchState) -> None:
        values, left_s = trial.values(), self._left_s(state)
        parts = [
            f"{trial.name:<6} {trial.outcome:<8}",
            "" if values is None else f"{metric_name(self._goal.name)} {values[self._goal.name]:.4f}",
            counted(len(trial.epochs), "epoch"),
            f"{_number_ended(self._trials(state))}/{self._total(state)} done",
            "" if left_s is None else f"{clock(left_s)} left",
            trial.reason if trial.outcome == "failed" else "",
        ]
        line = "  ".join(part for part in parts if part)
        best = state.best(self._goal)
        is_best = trial.drawn.role == "search" and best is not None and best.name == trial.name
        style = "green" if is_best else "red" if trial.outcome == "failed" else None
        self._screen.say(line + ("  best" if is_best else ""), style=style)

    def _picture(self) -> Group:
        lines: list[Any] = [Text(f"{self._stage}  ({clock(time.monotonic() - self._began_s)})")]
        state = self._state
        if state is not None and state.trials:
            lines += [Text(line, style="bold") for line in self._summary(state)]
            lines.append(self._table([trial for trial in state.trials.values() if _is_running(trial)]))
        return Group(*lines)

    def _summary(self, state: SearchState) -> list[str]:
        trials = self._trials(state)
        counts: Counter[str] = Counter(
            trial.outcome or "running" for trial in trials if trial.outcome or _is_running(trial)
        )
        kind = "trial" if self._role == "search" else "confirmation run"
        parts = [f"{counts[outcome]} {outcome}" for outcome in OUTCOMES if counts[outcome]]
        parts.append(f"of {counted(self._total(state), kind)}")
        left_s = self._left_s(state)
        if left_s is not None:
            parts.append(f"{clock(left_s)} left")
        lines = [", ".join(parts)]
        best = state.best(self._goal)
        values = None if best is None else best.values()
        if best is not None and values is not None:
            lines.append(f"best dev {metric_name(self._goal.name)} {values[self._goal.name]:.4f} (trial {best.name})")
        return lines

    def _table(self, running: list[Trial]) -> Table:
        """The running trials. Settings are cut if the screen is narrow; numbers never are."""
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for name in ("trial", "epoch", f"dev {metric_name(self._goal.name)}", "time"):
            table.add_column(name, justify="left" if name == "trial" else "right", no_wrap=True)
        table.add_column("settings")
        for trial in running[:SHOWN]:
            values = trial.values()
            table.add_row(
                trial.name,
                f"{len(trial.epochs)}/{trial.settings.get('train.epochs', self._epochs)}",
                "" if values is None else f"{values[self._goal.name]:.4f}",
                clock(trial.seconds),
                Text(_short_settings(trial.settings), no_wrap=True, overflow="ellipsis"),
            )
        if len(running) > SHOWN:
            table.add_row(f"and {len(running) - SHOWN} more")
        return table


def _number_ended(trials: Collection[Trial]) -> int:
    return sum(trial.outcome is not None for trial in trials)


def _is_running(trial: Trial) -> bool:
    return trial.outcome is None and trial.starts > 0


def _short_settings(settings: Mapping[str, Any]) -> str:
    """Settings in one line: `learning_rate=0.001, window_past=6`. A name that is not unique keeps its whole path."""
    counts = Counter(path.rpartition(".")[2] for path in settings)
    names = {path: last if counts[last := path.rpartition(".")[2]] == 1 else path for path in settings}
    return ", ".join(f"{names[path]}={word(value)}" for path, value in settings.items())
