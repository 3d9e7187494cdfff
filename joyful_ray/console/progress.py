"""A run as it goes on: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from joyful_ray.console.screen import Screen, metric_name

if TYPE_CHECKING:
    from joyful_ray.records import EpochMetrics

SELECTED_BY = {"single-label": "weighted_f1", "multi-label": "weighted_f1", "regression": "mae"}


class TrainingDisplay:
    """A run as it goes on: a growing table with a line an epoch, and below it a bar where there is a terminal.

    Args:
        epochs: how many there may be.
    """

    def __init__(self, screen: Screen, *, epochs: int) -> None:
        self._screen = screen
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=screen.console,
            transient=True,
            disable=not screen.console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=epochs)
        self._has_header = False

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def stage(self, text: str) -> None:
        """What is being done now, before the first epoch and after the last."""
        self._bar.update(self._task, description=text)
        if not self._screen.console.is_terminal:
            self._screen.say(text)

    def epoch(self, metrics: EpochMetrics) -> None:
        """One epoch is over."""
        score = SELECTED_BY[metrics.dev.task]
        if not self._has_header:
            self._has_header = True
            self._screen.say(_epoch_line("epoch", "loss", "dev loss", f"dev {metric_name(score)}", "s", "utterances/s"))
        line = _epoch_line(
            str(metrics.epoch),
            f"{metrics.losses['total']:.4f}",
            f"{metrics.dev.loss:.4f}",
            f"{metrics.dev.values[score]:.4f}",
            f"{metrics.seconds:.1f}",
            f"{metrics.utterances_per_second:,.0f}",
        )
        self._screen.say(line + ("  best" if metrics.is_best else ""), style="green" if metrics.is_best else None)
        self._bar.update(self._task, description="training", completed=metrics.epoch + 1)


def _epoch_line(epoch: str, loss: str, dev_loss: str, score: str, seconds: str, rate: str) -> str:
    return f"{epoch:>5}  {loss:>9}  {dev_loss:>9}  {score:>15}  {seconds:>6}  {rate:>12}"
