"""When a checkpoint in mid-epoch is due, and a thread that writes checkpoints while training goes on."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from joyful_ray.errors import StorageError, UserError
from joyful_ray.settings import TrainConfig
from joyful_ray.train.checkpoint import Snapshot, prune_checkpoints, write_checkpoint
from joyful_ray.train.run_directory import RunDirectory
from joyful_ray.train.schedule import Progress
from joyful_ray.train.step import NO_WISHES, Wishes

SAVING_S = 20.0
"""Seconds that a run may take to save after SIGTERM; most schedulers send SIGKILL after 30."""
ASK_S = 5.0
"""Seconds between two questions whether a machine is about to go."""
BEAT_S, REMOTE_BEAT_S = 1.0, 5.0
"""Seconds between two looks for a request to stop, and between two notes of how far the run is."""


class Saving:
    """Saves one run; the first rank decides and writes, and the others do nothing.

    Args:
        directory: the directory of the run.
        config: how often checkpoints are due.
        is_first: whether this rank writes.
        stop_requested: whether this process shall stop, such as after SIGTERM.
        ask: asks the cluster whether a machine of the run is about to go, on all ranks together; None if it cannot say.
        looks_for_request: whether another process may ask the run to stop, by a file.
    """

    def __init__(
        self,
        directory: RunDirectory,
        config: TrainConfig,
        *,
        is_first: bool,
        stop_requested: Callable[[], bool] = lambda: False,
        ask: Callable[[], bool] | None = None,
        looks_for_request: bool = False,
    ) -> None:
        self._directory, self._config, self._is_first = directory, config, is_first
        self._stop_requested, self._ask = stop_requested, ask
        self._looks_for_request, self._was_requested = looks_for_request, False
        self._steps = 0
        self._last_steps, self._last_time = 0, time.monotonic()
        self._last_asked, self._has_answered_notice = time.monotonic(), False
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="write-checkpoint") if is_first else None
        self._pending: Future[None] | None = None
        self._done = threading.Event()
        self._beat = threading.Thread(target=self._run_beat, name="beat", daemon=True) if is_first else None
        if self._beat is not None:
            self._beat.start()

    def wishes(self, step: int) -> Wishes:
        """What this rank wants after a step; only the first rank decides.

        Args:
            step: number of steps of the whole run before this one.
        """
        if not self._is_first:
            return NO_WISHES
        self._steps, now = step, time.monotonic()
        every, minutes = self._config.checkpoint_every_steps, self._config.checkpoint_every_minutes
        is_due = every is not None and step + 1 - self._last_steps >= every
        is_due |= minutes is not None and now - self._last_time >= 60 * minutes
        asks = self._ask is not None and now - self._last_asked >= ASK_S
        if asks:
            self._last_asked = now
        return Wishes(is_due or self.shall_stop, self.shall_stop, asks)

    def is_noticed(self) -> bool:
        """Whether a machine of the run is about to go, and no checkpoint has answered it; all ranks ask together."""
        if self._ask is None or not self._ask() or self._has_answered_notice:
            return False
        self._has_answered_notice = True
        return True

    @property
    def shall_stop(self) -> bool:
        """Whether this rank wants the run to stop."""
        return self._stop_requested() or self._was_requested

    def saved(self, step: int) -> None:
        """A checkpoint after so many steps of the whole run exists; the next one is due after another interval."""
        self._steps = self._last_steps = step
        self._last_time = time.monotonic()

    def write(self, snapshot: Snapshot, progress: Progress, *, step: int) -> None:
        """Write a checkpoint in the background, and remove the old ones; waits only for the one before.

        Raises:
            StorageError: the one before could not be written.
        """
        assert self._writer is not None
        self.wait()
        self._pending = self._writer.submit(self._write, snapshot, progress)
        self.saved(step)

    def wait(self) -> None:
        """Wait until everything is written.

        Raises:
            StorageError: it could not be written.
        """
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()

    def close(self) -> None:
        """End the threads."""
        self._done.set()
        if self._writer is not None:
            self._writer.shutdown()
        if self._beat is not None:
            self._beat.join()

    def _write(self, snapshot: Snapshot, progress: Progress) -> None:
        done, partial = progress.next_epoch, progress.partial
        place = (
            self._directory.checkpoint(done - 1) if partial is None else self._directory.checkpoint(done, partial.step)
        )
        write_checkpoint(place, snapshot, progress)
        if partial is None:
            latest = range(done - self._config.keep_checkpoints, done)
            prune_checkpoints(self._directory.checkpoints, keep={progress.best_epoch, *latest})
        else:
            prune_checkpoints(self._directory.checkpoints, keep=None, partial=place.name)

    def _run_beat(self) -> None:
        noted = -1
        while not self._done.wait(REMOTE_BEAT_S if self._directory.location.is_remote else BEAT_S):
            # A beat that storage loses costs nothing.
            with suppress(StorageError, UserError):
                if self._steps != noted:
                    noted = self._steps
                    self._directory.note_steps(noted)
                if self._looks_for_request and not self._was_requested:
                    self._was_requested = self._directory.stop_is_requested()


def steps_repeated(directory: RunDirectory, progress: Progress, *, steps_per_epoch: int) -> int:
    """How many steps behind the checkpoint an interrupted run was known to be, which are trained again."""
    with suppress(StorageError, json.JSONDecodeError, KeyError):
        return max(directory.noted_steps() - progress.steps(steps_per_epoch), 0)
    return 0
