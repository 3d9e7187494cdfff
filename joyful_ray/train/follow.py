"""Follows a run through its files, and sends what happens to callbacks."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from joyful_ray.errors import UserError
from joyful_ray.train.callbacks import CallbackList
from joyful_ray.train.checkpoint import latest_checkpoint, read_progress
from joyful_ray.train.run_directory import RunDirectory

POLL_S, REMOTE_POLL_S = 0.3, 3.0
LAST_POLLS = 3


@contextmanager
def following(directory: RunDirectory, callbacks: CallbackList) -> Iterator[None]:
    """Send new epochs and checkpoints to callbacks while the block runs, and what is left of them at its end."""
    if not callbacks:
        yield
        return
    follower = _Follower(directory, callbacks)
    thread = threading.Thread(target=follower.run, name="follow-run", daemon=True)
    thread.start()
    try:
        yield
    finally:
        follower.done.set()
        thread.join()


class _Follower:
    def __init__(self, directory: RunDirectory, callbacks: CallbackList) -> None:
        self.done = threading.Event()
        self._directory, self._callbacks = directory, callbacks
        self._pause_s = REMOTE_POLL_S if directory.location.is_remote else POLL_S
        newest = latest_checkpoint(directory.checkpoints)
        self._checkpoint = None if newest is None else newest.uri
        # The run trains every epoch after its newest checkpoint, also one whose line was written before.
        self._next_epoch = 0 if newest is None else read_progress(newest).next_epoch
        self._stale = {line.model_dump_json() for line in directory.metrics()}

    def run(self) -> None:
        while not self.done.wait(self._pause_s):
            self._try_poll()
        for _ in range(LAST_POLLS):
            if self._try_poll():
                return
            time.sleep(self._pause_s)

    def _try_poll(self) -> bool:
        try:
            self._poll()
        except UserError:
            # Storage may fail for a moment, or a file be half written; the next poll sees all that this one missed.
            return False
        return True

    def _poll(self) -> None:
        for metrics in self._directory.metrics():
            if metrics.epoch >= self._next_epoch and metrics.model_dump_json() not in self._stale:
                self._next_epoch = metrics.epoch + 1
                self._callbacks.epoch(metrics)
        newest = latest_checkpoint(self._directory.checkpoints) if self._callbacks.want_checkpoints else None
        if newest is not None and newest.uri != self._checkpoint:
            self._checkpoint = newest.uri
            self._callbacks.checkpoint(newest.uri)
