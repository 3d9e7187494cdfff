"""Watches whether a run or a search starts, says what it waits for, and gives up after a limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from joyful_ray.errors import StorageError, TrainingError
from joyful_ray.settings import ClusterConfig
from joyful_ray.storage import Location
from joyful_ray.termination import interrupt, interruptible
from joyful_ray.train.on_ray.connection import full_disk, supply
from joyful_ray.wording import counted

FIRST_LINE_S, NEXT_LINES_S, POLL_S = 10.0, 60.0, 1.0
"""The first line comes after so many seconds, further ones at this distance."""


A_CORE = "a core to prepare the corpus with"


@contextmanager
def watching_start(
    cluster: ClusterConfig, marker: Location, *, say: Callable[[str], None], started: float, is_local: bool = False
) -> Iterator[None]:
    """`watching` until the first worker of a run has written `marker`, a file, when all workers run."""
    try:
        with watching(cluster, demand(cluster), has_started=marker.exists, say=say, started=started, is_local=is_local):
            yield
    finally:
        with suppress(StorageError):
            marker.remove()


@contextmanager
def watching(
    cluster: ClusterConfig,
    what: str,
    *,
    has_started: Callable[[], bool],
    say: Callable[[str], None],
    started: float,
    is_local: bool = False,
    starts_tasks: bool = False,
) -> Iterator[None]:
    """Say what a command waits for until it has started, and end the wait after its limit.

    Args:
        cluster: has the limits `start_timeout_s` and `max_hours`.
        what: what is waited for, in words.
        has_started: whether the wait is over.
        say: called with each line.
        started: Unix time at which the command started; `max_hours` counts from there.
        is_local: Ray was started for this command on this machine; its workers need no other node, but may start
            slowly, so that the first line comes later.
        starts_tasks: the block goes on to start processes on this machine after what is waited for has started.

    Raises:
        TrainingError: it did not start in time, or processes cannot start on this machine because a disk is full.
    """
    first_line_s = NEXT_LINES_S if is_local else FIRST_LINE_S
    watch = _StartWatch(cluster, what, has_started, say, started, first_line_s=first_line_s, starts_tasks=starts_tasks)
    watch.start()
    try:
        with interruptible():
            yield
    except KeyboardInterrupt as error:
        if watch.reason is not None:
            raise TrainingError(watch.reason) from error
        raise
    finally:
        watch.done.set()
        watch.join()


class _StartWatch(threading.Thread):
    def __init__(
        self,
        cluster: ClusterConfig,
        what: str,
        has_started: Callable[[], bool],
        say: Callable[[str], None],
        started: float,
        *,
        first_line_s: float,
        starts_tasks: bool,
    ) -> None:
        super().__init__(name="watch-start", daemon=True)
        self.done = threading.Event()
        self.reason: str | None = None
        self._starts_tasks = starts_tasks
        self._first_line_s, self._what, self._has_started = first_line_s, what, has_started
        self._cluster, self._say, self._command_began = cluster, say, started

    def run(self) -> None:
        """Wait for the start; interrupt the process if it does not come in time."""
        began, next_line, is_started = time.monotonic(), self._first_line_s, False
        while not self.done.wait(POLL_S):
            with suppress(StorageError):
                is_started = is_started or self._has_started()
            if is_started and not self._starts_tasks:
                return
            waited = time.monotonic() - began
            if waited >= next_line and not is_started:
                self._say(f"waiting {waited:.0f} s for {self._what}; {supply()}")
                next_line += NEXT_LINES_S
            self.reason = full_disk() or (None if is_started else self._limit_reached(waited))
            if self.reason is not None:
                interrupt()
                return

    def _limit_reached(self, waited: float) -> str | None:
        cluster = self._cluster
        if waited >= cluster.start_timeout_s:
            limit = f"cluster.start_timeout_s, {cluster.start_timeout_s:g} s"
        elif cluster.max_hours is not None and time.time() - self._command_began >= 3600 * cluster.max_hours:
            limit = f"cluster.max_hours, {cluster.max_hours:g}"
        else:
            return None
        return f"{self._what} did not start within {limit}; {supply()}"


def demand(cluster: ClusterConfig) -> str:
    """What a run asks for, in words."""
    each = amounts(cluster.cpus_per_worker, cluster.gpus_per_worker)
    return f"{counted(cluster.least_workers, 'worker')} with {each} each"


def amounts(cpus: float, gpus: float) -> str:
    """Cores and GPUs in words."""
    return f"{cpus:g} CPU" + (f" and {gpus:g} GPU" if gpus else "")
