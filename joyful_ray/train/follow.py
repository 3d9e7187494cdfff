"""Follows a run through its files, and sends what happens to callbacks."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from joyful_ray.errors import CheckpointError, UserError
from joyful_ray.train.callbacks import Callback, CallbackList
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
        self._checkpoint, self._next_epoch = "", 0
        self._stale = {line.model_dump_json() for line in directory.metrics()}
        # The run reads the same files, and says what to do about a damaged one.
        with suppress(CheckpointError):
            newest = latest_checkpoint(directory.checkpoints)
            if newest is not None:
                # The run trains every epoch after its newest checkpoint, also one whose line was written before.
                self._checkpoint, self._next_epoch = newest.uri, read_progress(newest).next_epoch

    def run(self) -> None:
        while not self.done.wait(self._pause_s):
            # Storage may fail for a moment, or a file be half written; the next poll sees all that this one missed.
            with suppress(UserError):
                self._poll()
        for attempt in range(LAST_POLLS):
            time.sleep(self._pause_s if attempt else 0)
            try:
                self._poll()
            except UserError as error:
                missed = f"callbacks may have missed the last epochs: {error}"
            else:
                return
        self._callbacks.add_failure(missed)

    def _poll(self) -> None:
        for metrics in self._directory.metrics():
            if metrics.epoch >= self._next_epoch and metrics.model_dump_json() not in self._stale:
                self._next_epoch = metrics.epoch + 1
                self._callbacks.send("on_epoch_end", metrics)
        if not self._callbacks.has(Callback, "on_checkpoint"):  # looking for checkpoints costs requests to storage
            return
        newest = latest_checkpoint(self._directory.checkpoints)
        if newest is not None and newest.uri != self._checkpoint:
            self._checkpoint = newest.uri
            self._callbacks.send("on_checkpoint", newest.uri)
