"""The state of a search, computed from the events of its ledger: trials with their epochs, and the best of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from joyful_ray.tune.goals import Goal
from joyful_ray.tune.ledger import (
    AnyEvent,
    Changed,
    Drawn,
    Ended,
    Epoch,
    Extended,
    Opened,
    Outcome,
    Restarted,
    Started,
    Tested,
)


@dataclass
class Trial:
    """One config with one seed.

    Attributes:
        epochs: one entry per epoch, in order.
        outcome: None until the trial has ended.
        restarts: why it restarted, each time.
    """

    drawn: Drawn
    settings: dict[str, Any]
    epochs: list[Epoch] = field(default_factory=list)
    starts: int = 0
    restarts: list[str] = field(default_factory=list)
    outcome: Outcome | None = None
    reason: str = ""
    sources: list[Changed] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Name of the trial and of its folder."""
        return self.drawn.trial

    @property
    def seconds(self) -> float:
        """Wall time of all epochs."""
        return math.fsum(line.seconds for line in self.epochs)

    @property
    def selected(self) -> Epoch | None:
        """The epoch that the trial selected on dev."""
        return next((line for line in reversed(self.epochs) if line.is_best), None)

    def values(self) -> dict[str, float] | None:
        """Dev scores of the selected epoch, and `seconds` of training; None before the first epoch."""
        selected = self.selected
        return None if selected is None else dict(selected.dev) | {"seconds": self.seconds}

    def score(self, goal: Goal) -> float:
        """Its score for a goal, greater is better; minus infinity before the first epoch."""
        values = self.values()
        return -math.inf if values is None else goal.score(values)

    def curve(self, goal: Goal) -> list[tuple[int, float]]:
        """(epochs done, best score so far) after each epoch, as schedulers see it."""
        points: list[tuple[int, float]] = []
        best = None
        for line in self.epochs:
            best = goal.score(line.dev) if line.is_best else best
            if best is not None:
                points.append((line.epoch + 1, best))
        return points


@dataclass
class SearchState:
    """The state of a search."""

    trials: dict[str, Trial] = field(default_factory=dict)
    sessions: list[Opened] = field(default_factory=list)
    added: int = 0
    tests: list[Tested] = field(default_factory=list)
    spent_s: float = 0.0
    _last: float = 0.0

    @classmethod
    def of(cls, events: Iterable[AnyEvent]) -> SearchState:
        """Compute the state from events."""
        state = cls()
        for event in events:
            state.apply(event)
        return state

    def apply(self, event: AnyEvent) -> None:
        """Update the state with one event."""
        self._count_time(event)
        match event:
            case Opened():
                self.sessions.append(event)
            case Extended():
                self.added += event.trials
            case Drawn():
                self.trials[event.trial] = Trial(event, dict(event.settings))
            case Started():
                self.trials[event.trial].starts += 1
            case Epoch():
                trial = self.trials[event.trial]
                trial.epochs = [line for line in trial.epochs if line.epoch < event.epoch] + [event]
            case Changed():
                self._changed(event)
            case Restarted():
                self.trials[event.trial].restarts.append(event.reason)
            case Ended():
                trial = self.trials[event.trial]
                trial.outcome, trial.reason = event.outcome, event.reason
            case Tested():
                self.tests.append(event)

    @property
    def searched(self) -> list[Trial]:
        """Trials of the search, including those of merged searches, without confirmation runs."""
        return [trial for trial in self.trials.values() if trial.drawn.role == "search"]

    @property
    def own(self) -> list[Trial]:
        """Trials that were sampled by this search."""
        return [trial for trial in self.searched if trial.drawn.origin is None]

    @property
    def confirming(self) -> list[Trial]:
        """The confirmation runs."""
        return [trial for trial in self.trials.values() if trial.drawn.role == "confirm"]

    def ranked(self, goal: Goal) -> list[tuple[str, list[Trial], float]]:
        """Configs, the best first: name, trials and mean score.

        A config counts once all its trials have ended. Finished ones come before those that were stopped early.
        """
        configs: dict[str, list[Trial]] = {}
        for trial in self.searched:
            configs.setdefault(trial.drawn.config, []).append(trial)
        rows = []
        for name, trials in configs.items():
            trial_scores = [trial.score(goal) for trial in trials]
            if all(trial.outcome in ("finished", "stopped") for trial in trials) and all(
                map(math.isfinite, trial_scores)
            ):
                is_whole = all(trial.outcome == "finished" for trial in trials)
                rows.append((is_whole, statistics.fmean(trial_scores), name, trials))
        rows.sort(key=lambda row: (not row[0], -row[1], row[2]))
        return [(name, trials, score) for _, score, name, trials in rows]

    def best(self, goal: Goal) -> Trial | None:
        """The best trial so far, ended or not."""
        found = [trial for trial in self.searched if math.isfinite(trial.score(goal))]
        return max(found, key=lambda trial: trial.score(goal), default=None)

    def keepers(self, goal: Goal, count: int) -> set[str]:
        """Trials whose models are kept: the best ones, the best run of each confirmed config, and unfinished ones."""
        ended = [trial for trial in self.searched if trial.outcome == "finished" and trial.drawn.origin is None]
        best: Sequence[Trial] = sorted(ended, key=lambda trial: -trial.score(goal))[:count]
        leading = [trial for _, trials, _ in self.ranked(goal)[:1] for trial in trials]
        running = [trial for trial in self.trials.values() if trial.outcome is None]
        return {trial.name for trial in [*best, *leading, *running, *self._confirmed_best(goal)]}

    def _confirmed_best(self, goal: Goal) -> list[Trial]:
        """The best run of each confirmed config on dev; all of its runs until the last one has ended."""
        configs: dict[str, list[Trial]] = {}
        for trial in self.confirming:
            configs.setdefault(trial.drawn.config, []).append(trial)
        kept: list[Trial] = []
        for trials in configs.values():
            is_open = any(trial.outcome is None for trial in trials)
            kept += trials if is_open else [max(trials, key=lambda trial: trial.score(goal))]
        return kept

    def _changed(self, event: Changed) -> None:
        trial, source = self.trials[event.trial], self.trials[event.source]
        trial.settings = dict(event.settings)
        trial.epochs = [
            line.model_copy(update={"trial": trial.name}) for line in source.epochs if line.epoch <= event.epoch
        ]
        trial.sources.append(event)

    def _count_time(self, event: AnyEvent) -> None:
        """Add the wall time between two events of one session if the second belongs to a trial of the search."""
        trial = self.trials.get(getattr(event, "trial", ""))
        if trial is not None and trial.drawn.role == "search" and not isinstance(event, Opened):
            self.spent_s += max(event.at - self._last, 0.0)
        self._last = event.at
