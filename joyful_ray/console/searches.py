"""A search as it goes on, and what it came to."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from joyful_ray.console.runs import show_scores
from joyful_ray.console.screen import Screen, metric_name, show_locations

if TYPE_CHECKING:
    from joyful_ray.records import SearchRecord
    from joyful_ray.search_settings import SearchConfig
    from joyful_ray.tune.goals import Goal
    from joyful_ray.tune.search_state import SearchState, Trial

SHOWN = 8
STATES = ("running", "finished", "stopped", "failed")


class SearchDisplay:
    """One live table on a terminal: trials by state, the best so far, time and budget left; elsewhere a line a trial.

    Args:
        trials: how many there will be.
    """

    def __init__(self, screen: Screen, search: SearchConfig, goal: Goal, *, trials: int) -> None:
        self._screen, self._search, self._goal, self._trials = screen, search, goal, trials
        self._study: SearchState | None = None
        self._ended: set[str] | None = None
        self._began, self._stage = time.monotonic(), "checking"
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
        """What is being done now."""
        self._stage = text
        if not self._screen.console.is_terminal:
            self._screen.say(text)

    def state(self, state: SearchState) -> None:
        """Something happened."""
        self._study = state
        ended = {trial.name for trial in state.trials.values() if trial.outcome}
        if self._ended is None:
            self._ended = ended
            if ended:
                self._screen.say(f"{len(ended)} trials are known")
            return
        for name in sorted(ended - self._ended):
            self._say_ended(state.trials[name], state)
        self._ended = ended

    def _say_ended(self, trial: Trial, state: SearchState) -> None:
        words = f"{trial.name:<8} {trial.outcome:<8} {self._value(trial)}"
        words += f"  {len(trial.epochs):>3} epochs, {trial.seconds:5.0f} s"
        words += f"  {trial.reason}" if trial.outcome == "failed" else ""
        best = state.best(self._goal)
        if trial.drawn.role == "search" and best is not None:
            done = sum(1 for each in state.own if each.outcome)
            words += f"  {done} of {self._wanted(state)} done, best {self._value(best)} ({best.name})"
        is_best = best is not None and best.name == trial.name
        self._screen.say(words, style="green" if is_best else "red" if trial.outcome == "failed" else None)

    def _wanted(self, state: SearchState) -> int:
        return max(self._search.max_trials + state.added, len(state.own))

    def _value(self, trial: Trial) -> str:
        values = trial.values()
        return "  --  " if values is None else f"{values[self._goal.name]:.4f}"

    def _picture(self) -> Group:
        lines: list[Any] = [Text(f"{self._stage}  ({_clock(time.monotonic() - self._began)})")]
        state = self._study
        if state is not None and state.trials:
            running = [trial for trial in state.trials.values() if trial.outcome is None and trial.starts]
            counts: Counter[str] = Counter(
                trial.outcome or "running" for trial in state.own if trial.outcome or trial.starts
            )
            best = state.best(self._goal)
            words = [f"{counts[state]} {state}" for state in STATES if counts[state]]
            words.append(f"of {self._wanted(state)} trials")
            if best is not None:
                words.append(f"best dev {metric_name(self._goal.name)} {self._value(best)} ({best.name})")
            if self._search.time_budget_s is not None:
                words.append(f"{_clock(max(self._search.time_budget_s - state.spent_s, 0.0))} of the budget left")
            lines.append(Text(", ".join(words), style="bold"))
            lines.append(self._table(running))
        return Group(*lines)

    def _table(self, running: list[Trial]) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for name in ("trial", "epoch", f"dev {metric_name(self._goal.name)}", "s", "settings"):
            table.add_column(name, justify="left" if name in ("trial", "settings") else "right", no_wrap=True)
        for trial in running[:SHOWN]:
            table.add_row(
                trial.name,
                str(len(trial.epochs)),
                self._value(trial),
                f"{trial.seconds:.0f}",
                settings_line(trial.settings),
            )
        if len(running) > SHOWN:
            table.add_row(f"and {len(running) - SHOWN} more")
        return table


def show_search(screen: Screen, record: SearchRecord) -> None:
    """What a search came to."""
    screen.say()
    if record.candidates:
        rows = [
            [
                row.config,
                f"{row.mean:.4f} ± {row.deviation:.4f}",
                "" if row.difference is None else f"{row.difference:+.4f}",
                "" if row.low is None or row.high is None else f"{row.low:+.4f} to {row.high:+.4f}",
                settings_line(row.settings),
            ]
            for row in record.candidates
        ]
        header = ["config", f"dev {metric_name(record.metric)}", "against default", "interval", "settings"]
        screen.table(header, rows, title=f"Confirmed over {len(record.candidates[0].seeds)} fresh seeds")
        screen.say()
    if record.test is not None:
        show_scores(screen, {"test": record.test})
        screen.say()
    counts = ", ".join(f"{count} {outcome}" for outcome, count in record.trials.items())
    screen.say(
        f"{record.name}: {sum(record.trials.values())} trials ({counts}), {record.epochs} epochs, "
        f"{_clock(record.wall_seconds)} with {record.slots} at a time"
    )
    reads = "once" if record.test_reads == 1 else f"{record.test_reads} times"
    screen.say(f"chosen by {record.chosen_by}: {record.chosen}; {record.verdict}; test was read {reads}", style="bold")
    screen.say(f"  {settings_line(record.settings)}")
    for warning in record.warnings:
        screen.say(f"warning: {warning}", style="yellow")
    show_locations(screen, record.locations)


def settings_line(settings: Mapping[str, Any]) -> str:
    """Settings in one line."""
    return ", ".join(
        f"{path}={value:g}" if isinstance(value, float) else f"{path}={value}" for path, value in settings.items()
    )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
