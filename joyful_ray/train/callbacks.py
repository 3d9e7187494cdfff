"""Callbacks: what other programs, such as experiment trackers, learn of a run while it trains.

Callbacks run in the driver process, never on workers, so they are the same with Ray workers and without Ray.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from joyful_ray.errors import ConfigError, TrainingError, UserError

if TYPE_CHECKING:
    from joyful_ray.config import JobConfig
    from joyful_ray.records import EpochMetrics, RunRecord


@dataclass(frozen=True)
class RunInfo:
    """The run that a callback receives events of.

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
    """Base class of callbacks for runs. Override the events that you need; the others do nothing.

    A resumed run reports only the epochs that it trains itself. If an event raises an error, that callback receives no
    more events, and the run continues to its end. Then the command fails with an error that names the callback, but
    the files of the run are complete. An error in `on_train_begin` stops the command before training.

    Example:
        class PrintBest(joyful_ray.Callback):
            def on_epoch_end(self, run, metrics):
                if metrics.is_best:
                    print(run.name, metrics.epoch + 1, metrics.dev.values)

        joyful_ray.train("jobs/demo.yaml", callbacks=[PrintBest()])
    """

    def on_train_begin(self, run: RunInfo) -> None:
        """Training is about to start; all checks have passed.

        Args:
            run: name, settings and folder of the run.
        """

    def on_epoch_end(self, run: RunInfo, metrics: EpochMetrics) -> None:
        """An epoch ended.

        Args:
            run: name, settings and folder of the run.
            metrics: losses, dev scores and times of the epoch; `metrics.epoch` counts from 0.
        """

    def on_checkpoint(self, run: RunInfo, uri: str) -> None:
        """A checkpoint is complete. If epochs are very short, some are not reported, but the last always is.

        Args:
            run: name, settings and folder of the run.
            uri: folder of the checkpoint. It is deleted later, unless it is the best or one of the last
                `train.keep_checkpoints`.
        """

    def on_train_end(self, run: RunInfo, record: RunRecord) -> None:
        """The run is finished: record and bundle are written.

        Args:
            run: name, settings and folder of the run.
            record: scores, selected epoch (from 0) and everything else that `record.json` holds.
        """

    def on_exception(self, run: RunInfo, error: BaseException) -> None:
        """The run stopped with an error or was interrupted. `on_train_end` is not called.

        Args:
            run: name, settings and folder of the run.
            error: what stopped it; KeyboardInterrupt after Ctrl-C.
        """


class CallbackList:
    """Sends events to callbacks, and remembers the first error of each.

    Args:
        callbacks: in the order in which they receive events.
        subject: the run or search; first argument of every event.
        base: the class from which each callback derives.

    Raises:
        ConfigError: a callback derives from another class.
    """

    def __init__(self, callbacks: Iterable[Any], subject: Any, *, base: type[Any]) -> None:
        self._callbacks, self._subject = list(callbacks), subject
        for callback in self._callbacks:
            if not isinstance(callback, base):
                raise ConfigError(f"callback {callback!r} is not an instance of joyful_ray.{base.__name__}")
        self._failures: list[str] = []
        self._cause: BaseException | None = None

    def __bool__(self) -> bool:
        return bool(self._callbacks)

    def has(self, base: type, event: str) -> bool:
        """Whether any callback overrides an event of its base class."""
        return any(getattr(type(callback), event) is not getattr(base, event) for callback in self._callbacks)

    def begin(self, event: str) -> None:
        """Send the first event. An error ends the command, and `on_exception` goes to all that have begun.

        Raises:
            TrainingError: naming the callback that failed; a UserError is passed on as it is.
        """
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            self._callbacks.append(callback)
            try:
                getattr(callback, event)(self._subject)
            except BaseException as error:
                self.send("on_exception", error)
                if isinstance(error, UserError) or not isinstance(error, Exception):
                    raise
                raise TrainingError(_failure(callback, event, error)) from error

    def send(self, event: str, *arguments: Any) -> None:
        """Send an event; a callback that raises an error receives no more of them."""
        for callback in list(self._callbacks):
            try:
                getattr(callback, event)(self._subject, *arguments)
            except (Exception, SystemExit) as error:  # whatever a user's code can raise must not end a healthy run
                self._callbacks.remove(callback)
                self.add_failure(_failure(callback, event, error), error)

    def add_failure(self, message: str, cause: BaseException | None = None) -> None:
        """Note something that `check` reports at the end."""
        self._failures.append(message)
        self._cause = self._cause or cause

    def check(self, outcome: str) -> None:
        """Report the callbacks that failed.

        Args:
            outcome: what the message says of the work itself.

        Raises:
            TrainingError: naming each callback that failed, with its first error.
        """
        if self._failures:
            raise TrainingError(f"{'; '.join(self._failures)}; {outcome}") from self._cause


def _failure(callback: Any, event: str, error: BaseException) -> str:
    return f"callback {type(callback).__name__}.{event} failed: {type(error).__name__}: {error}"


def load_callback(path: str, base: type[Any] = Callback) -> Any:
    """Import a callback's class, and make one.

    Args:
        path: `my_package.module:Class`; the class is called without arguments.
        base: the class that it must derive from.

    Raises:
        ConfigError: the class cannot be imported or called, or derives from another class.
    """
    from joyful_ray.components import PATTERN, load_component

    if not re.fullmatch(PATTERN, path):
        raise ConfigError(f"--callback {path!r} is not of the form my_package.module:Class")
    kind = load_component(path, "callback")
    if not issubclass(kind, base):
        raise ConfigError(f"callback {path} does not derive from joyful_ray.{base.__name__}")
    try:
        return kind()
    except TypeError as error:
        raise ConfigError(f"callback {path} needs arguments ({error}); derive a class that needs none") from None


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
