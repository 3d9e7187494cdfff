"""Failures that a run survives: workers that are lost, and what leads them; each is said, up to `max_failures`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ray.exceptions import (
    NodeDiedError,
    ObjectLostError,
    OutOfDiskError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    WorkerCrashedError,
)
from ray.train.v2.api.callback import UserCallback
from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError

from joyful_ray.errors import TrainingError
from joyful_ray.train.on_ray.failure_cause import first_cause, first_of, root_of
from joyful_ray.train.on_ray.messages import tell_command

T = TypeVar("T")
LOST = (NodeDiedError, ObjectLostError, OutOfDiskError, OutOfMemoryError, RayActorError, WorkerCrashedError)


class SayFailures(UserCallback):
    """Tells the command why workers failed, if they start again. It runs beside Ray Train's controller.

    Args:
        most: failures that the run survives; -1 is any number.
    """

    def __init__(self, most: int) -> None:
        self._most, self._count = most, 0

    def after_exception(self, run_context: Any, worker_exceptions: Mapping[int, Exception]) -> None:
        """Ray calls it once for all ranks that have failed together."""
        self._count += 1
        if survives(self._count, self._most):
            tell_command(said(first_of(worker_exceptions), self._count, self._most))


class Attempts:
    """Does again what Ray has lost beside the workers themselves, such as their controller or a task of ingest.

    Where a node runs short of memory, Ray kills many of its processes at once, and which ones is a matter of chance.
    Ray Train counts the failures of workers itself, anew in each attempt; the losses counted here come on top.

    Args:
        most: how often something may be lost; -1 is without limit.
        say: called with a line for each loss that is survived.
    """

    def __init__(self, most: int, say: Callable[[str], None]) -> None:
        self._most, self._say, self._count = most, say, 0

    def run(self, work: Callable[[], T]) -> T:
        """What `work` returns, once nothing is lost in it.

        Raises:
            TrainingError: too much was lost, or Ray Train gave up; it names the first cause.
        """
        while True:
            try:
                return work()
            except (RayError, TrainingFailedError) as error:
                is_lost = is_loss(error)
                if not is_lost and not isinstance(error, TrainingFailedError):
                    raise
                cause = first_cause(error)
                self._count += is_lost
                if not is_lost or not survives(self._count, self._most):
                    raise TrainingError(cause) from error
            self._say(said(cause, self._count, self._most))


def is_loss(error: BaseException) -> bool:
    """Whether processes, nodes or objects were lost, and not counted by Ray Train as a failure of workers."""
    return not isinstance(error, WorkerGroupError) and isinstance(root_of(error), LOST)


def survives(count: int, most: int) -> bool:
    """Whether a run goes on after so many failures."""
    return most < 0 or count <= most


def said(cause: str, count: int, most: int) -> str:
    """What is said about a failure that a run survives."""
    limit = "" if most < 0 else f" of {most} that cluster.max_failures allows"
    return f"{cause}; failure {count}{limit}, the run continues from its last checkpoint"
