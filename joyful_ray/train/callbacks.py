"""Callbacks: what other programs, such as experiment trackers, learn of a run while it trains.

Callbacks run in the driver process, never on workers, so they are the same with Ray workers and without Ray.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from joyful_ray.errors import TrainingError

if TYPE_CHECKING:
    from joyful_ray.config import JobConfig
    from joyful_ray.records import EpochMetrics, RunRecord


@dataclass(frozen=True)
class RunInfo:
    """The run that a callback hears of.

    Attributes:
        name: name of the run.
        job: its resolved settings.
        uri: folder of the run.
        is_resumed: whether it continues an earlier, unfinished run.
    """

    name: str
    job: JobConfig
    uri: str
    is_resumed: bool = False


class Callback:
    """Base class of callbacks. Override the events that you need; each does nothing by default.

    A resumed run reports only the epochs that it trains itself. If an event raises an error, that callback receives no
    more events, the run goes on to its end, and the command then fails with an error that names the callback; the files
    of the run are complete. An error in `on_train_begin` stops the command before training.

    Example:
        class PrintBest(joyful_ray.Callback):
            def on_epoch_end(self, run, metrics):
                if metrics.is_best:
                    print(run.name, metrics.epoch + 1, metrics.dev.values)

        joyful_ray.train("jobs/demo.yaml", callbacks=[PrintBest()])
    """

    def on_train_begin(self, run: RunInfo) -> None:
        """Training is about to start; all checks have passed."""

    def on_epoch_end(self, run: RunInfo, metrics: EpochMetrics) -> None:
        """An epoch ended. `metrics.epoch` counts from 0."""

    def on_checkpoint(self, run: RunInfo, uri: str) -> None:
        """A checkpoint is complete. If epochs are very short, some checkpoints may be skipped, but not the last."""

    def on_train_end(self, run: RunInfo, record: RunRecord) -> None:
        """The run is finished: record and bundle are written."""

    def on_exception(self, run: RunInfo, error: BaseException) -> None:
        """The run stopped with an error or was interrupted. `on_train_end` is not called."""


class CallbackList:
    """Sends events to several callbacks, and remembers the first error of each.

    Args:
        callbacks: in the order in which they receive events.
        run: the run that they hear of.
    """

    def __init__(self, callbacks: Sequence[Callback], run: RunInfo) -> None:
        self._callbacks, self._run = list(callbacks), run
        self._failed: list[str] = []
        self._cause: BaseException | None = None

    def __bool__(self) -> bool:
        return bool(self._callbacks)

    @property
    def want_checkpoints(self) -> bool:
        """Whether any callback listens to checkpoints, which cost requests to storage."""
        return any(type(callback).on_checkpoint is not Callback.on_checkpoint for callback in self._callbacks)

    def begin(self) -> None:
        """Send `on_train_begin`; an error ends the command."""
        for callback in self._callbacks:
            callback.on_train_begin(self._run)

    def epoch(self, metrics: EpochMetrics) -> None:
        """Send `on_epoch_end`."""
        for callback in list(self._callbacks):
            with self._caught(callback, "on_epoch_end"):
                callback.on_epoch_end(self._run, metrics)

    def checkpoint(self, uri: str) -> None:
        """Send `on_checkpoint`."""
        for callback in list(self._callbacks):
            with self._caught(callback, "on_checkpoint"):
                callback.on_checkpoint(self._run, uri)

    def exception(self, error: BaseException) -> None:
        """Send `on_exception`."""
        for callback in list(self._callbacks):
            with self._caught(callback, "on_exception"):
                callback.on_exception(self._run, error)

    def end(self, record: RunRecord) -> None:
        """Send `on_train_end`, then raise if any callback failed during the run.

        Raises:
            TrainingError: naming the callbacks that failed, each with its first error.
        """
        for callback in list(self._callbacks):
            with self._caught(callback, "on_train_end"):
                callback.on_train_end(self._run, record)
        if self._failed:
            raise TrainingError(f"{'; '.join(self._failed)}; the run is complete in {self._run.uri}") from self._cause

    @contextmanager
    def _caught(self, callback: Callback, event: str) -> Iterator[None]:
        """Keep an error of a user's callback away from the run."""
        try:
            yield
        except Exception as error:  # whatever a user's code can raise must not end a healthy run
            self._callbacks.remove(callback)
            self._failed.append(f"callback {type(callback).__name__}.{event} failed: {type(error).__name__}: {error}")
            self._cause = self._cause or error


class WatchEpochs(Callback):
    """Calls a function with the metrics of each epoch.

    Args:
        watch: the function.
    """

    def __init__(self, watch: Callable[[EpochMetrics], None]) -> None:
        self._watch = watch

    def on_epoch_end(self, run: RunInfo, metrics: EpochMetrics) -> None:
        """Call the function."""
        self._watch(metrics)
