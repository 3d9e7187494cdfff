"""Shows a run while it trains: a line per epoch, and on a terminal a progress bar below them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from joyful_ray.console.screen import Screen
from joyful_ray.records import SELECTS
from joyful_ray.wording import metric_name

if TYPE_CHECKING:
    from joyful_ray.records import EpochMetrics

BAR_WIDTH = 20


class TrainingDisplay:
    """Shows one run, or the runs of several seeds: a line per epoch, and on a terminal a bar with the time left.

    The time left is an upper bound, because a run may stop before its last epoch.

    Args:
        screen: where to print.
        epochs: the most epochs that a run may have.
        seeds: the seeds of the runs, if there are several; lines then begin with the seed.
    """

    def __init__(self, screen: Screen, *, epochs: int, seeds: Sequence[int] = ()) -> None:
        self._screen, self._epochs = screen, epochs
        self._has_seeds, self._total = bool(seeds), epochs * max(len(seeds), 1)
        self._done: dict[int | None, int] = {}
        self._began_s, self._trained = 0.0, 0
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=BAR_WIDTH),
            MofNCompleteColumn(),
            TextColumn("epochs at most{task.fields[left]}"),
            console=screen.console,
            transient=True,
            disable=not screen.console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=self._total, left="")
        self._has_header = False

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def stage(self, text: str) -> None:
        """Print what happens now."""
        self._screen.say(text)

    def epoch(self, metrics: EpochMetrics) -> None:
        """Print the line of an epoch that has ended."""
        self._epoch(None, metrics)

    def epoch_of_seed(self, seed: int, metrics: EpochMetrics) -> None:
        """Print the line of an epoch of one of the seeds."""
        self._epoch(seed, metrics)

    def seed_ended(self, seed: int) -> None:
        """Count a seed as done, also if it stopped early."""
        self._done[seed] = self._epochs
        self._update()

    def _epoch(self, seed: int | None, metrics: EpochMetrics) -> None:
        if not self._trained:
            self._began_s = time.monotonic() - metrics.seconds
        self._trained += 1
        if metrics.max_epochs > self._epochs:  # train.min_steps has made the runs longer
            self._total, self._epochs = self._total // self._epochs * metrics.max_epochs, metrics.max_epochs
        self._done[seed] = metrics.epoch + 1
        score = SELECTS[metrics.dev.task]
        if not self._has_header:
            self._has_header = True
            self._screen.say(
                self._line(
                    "seed", "epoch", "loss", "dev loss", f"dev {metric_name(score)}", "seconds", "utt./s", "left"
                )
            )
        line = self._line(
            str(seed),
            f"{metrics.epoch + 1}/{self._epochs}",
            f"{metrics.losses['total']:.4f}",
            f"{metrics.dev.loss:.4f}",
            f"{metrics.dev.values[score]:.4f}",
            f"{metrics.seconds:.1f}",
            f"{metrics.utterances_per_second:,.0f}",
            clock(self._left_s()),
        )
        self._screen.say(line + ("  best" if metrics.is_best else ""), style="green" if metrics.is_best else None)
        for warning in metrics.warnings:
            self._screen.say(f"warning: {warning}", style="yellow")
        self._update()

    def _left_s(self) -> float:
        """Seconds that the remaining epochs take at the pace of those that this command has trained."""
        elapsed_s = time.monotonic() - self._began_s
        return elapsed_s / self._trained * (self._total - sum(self._done.values()))

    def _update(self) -> None:
        left = f", {clock(self._left_s())} left" if self._trained else ""
        description = "training" if self._trained else "starting"
        self._bar.update(self._task, description=description, completed=sum(self._done.values()), left=left)

    def _line(
        self, seed: str, epoch: str, loss: str, dev_loss: str, score: str, seconds: str, rate: str, left: str
    ) -> str:
        line = f"{epoch:>7}  {loss:>8}  {dev_loss:>8}  {score:>15}  {seconds:>7}"
        # The rate gives way to the seed, so that a line fits 80 columns.
        return f"{seed:>4}  {line}  {left:>8}" if self._has_seeds else f"{line}  {rate:>6}  {left:>8}"


def clock(seconds: float) -> str:
    """A duration as minutes and seconds, or hours, minutes and seconds: `0:42`, `1:02:33`."""
    minutes, rest = divmod(round(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
