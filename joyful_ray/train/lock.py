"""A lease on a run's directory: one command at a time works in it, on whatever machine.

The holder renews `lock.json` every few seconds. A command on the same machine knows at once whether the holder's
process is alive. From another machine it watches the file: a lease that is renewed is alive, whatever the clocks say,
and one that is not has lapsed and is taken over.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from joyful_ray.errors import CheckpointError, StorageError
from joyful_ray.storage import Location
from joyful_ray.termination import interrupt, interruptible

LOCK = "lock.json"
RENEW_S = 10.0
WATCH_S, POLL_S = 25.0, 1.0
"""A lease that is not renewed for `WATCH_S` has lapsed."""


@dataclass(frozen=True)
class _Lease:
    """The content of `lock.json`; `token` is that of one holder, `renewals` grows."""

    host: str
    process: int
    token: str = ""
    renewals: int = 0

    @property
    def is_mine(self) -> bool:
        """Whether its process would run on this machine."""
        return self.host == socket.gethostname()

    def is_alive(self) -> bool:
        """Whether its process runs on this machine."""
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return True


@contextmanager
def run_lock(
    directory: Location, *, take_over: bool = False, waiting: Callable[[str], None] = lambda line: None
) -> Iterator[None]:
    """Hold the lease on a run's directory while a command works in it.

    A lease is taken over if its process on this machine has ended, or if its holder on another machine does not renew
    it. A holder that finds its lease taken over is interrupted, and ends without another change to the directory.

    Args:
        directory: the run's directory.
        take_over: take the lease from a holder on another machine without watching it.
        waiting: called with a line before a lease of another machine is watched.

    Raises:
        CheckpointError: another command works in the directory, or the lease was taken over meanwhile.
    """
    place = directory.join(LOCK)
    _check_free(place, directory.name, take_over=take_over, waiting=waiting)
    lease = _Lease(socket.gethostname(), os.getpid(), secrets.token_hex(8))
    if not place.create_bytes(_content(lease)):
        raise CheckpointError(f"another command began to work in {directory.uri} at this moment; try again")
    renewal = _Renewal(place, lease)
    renewal.start()
    try:
        with interruptible():
            yield
    except BaseException as error:
        if renewal.is_lost.is_set():
            raise _taken_over(place, directory.name) from error
        raise
    finally:
        renewal.stop()
    if renewal.is_lost.is_set():
        raise _taken_over(place, directory.name)


def _check_free(place: Location, name: str, *, take_over: bool, waiting: Callable[[str], None]) -> None:
    """Wait until no other command holds the lease, and remove what a dead one left.

    Raises:
        CheckpointError: another command holds it.
    """
    lease = _read(place)
    if lease is not None and lease.is_mine and lease.is_alive():
        raise CheckpointError(
            f"run {name} is being trained by process {lease.process} on this machine; wait for it, or give this run "
            f"another --name (if that process is another program, remove {place.uri})"
        )
    if lease is not None and not lease.is_mine and not take_over:
        waiting(f"{lease.host} holds the lease on run {name}; watching for {WATCH_S:g} s whether it still works")
        if _is_renewed(place, lease):
            raise CheckpointError(
                f"run {name} is being trained by process {lease.process} on {lease.host}; wait for it, give this run "
                "another --name, or take it from there with --take-over"
            )
    if _read(place) == lease:  # else another command has just taken it
        place.remove()


def _is_renewed(place: Location, lease: _Lease) -> bool:
    deadline = time.monotonic() + WATCH_S
    while time.monotonic() < deadline:
        time.sleep(POLL_S)
        found = _read(place)
        if found != lease:
            return found is not None
    return False


class _Renewal(threading.Thread):
    """Renews a lease, and interrupts the process if it was taken over."""

    def __init__(self, place: Location, lease: _Lease) -> None:
        super().__init__(name="renew-lease", daemon=True)
        self._place, self._lease = place, lease
        self._done, self.is_lost = threading.Event(), threading.Event()

    def run(self) -> None:
        """Renew until the lease is given back or lost; a failure of storage does not lose it."""
        while not self._done.wait(RENEW_S):
            with suppress(StorageError):
                found = _read(self._place)
                if found is None or found.token != self._lease.token:
                    self.is_lost.set()
                    interrupt()
                    return
                self._lease = replace(self._lease, renewals=self._lease.renewals + 1)
                self._place.write_bytes(_content(self._lease))

    def stop(self) -> None:
        """End the thread, and give the lease back. What fails here hides no other error."""
        self._done.set()
        self.join()
        with suppress(StorageError):
            found = _read(self._place)
            if found is not None and found.token == self._lease.token:
                self._place.remove()


def _taken_over(place: Location, name: str) -> CheckpointError:
    found = None
    with suppress(StorageError):
        found = _read(place)
    by = f"process {found.process} on {found.host}" if found is not None else "a command that has ended"
    return CheckpointError(f"run {name} was taken over by {by}; nothing more was written from here")


def _content(lease: _Lease) -> bytes:
    return json.dumps(asdict(lease)).encode()


def _read(place: Location) -> _Lease | None:
    """The lease; None if there is none, or the file is damaged."""
    try:
        content: Any = json.loads(place.read_bytes()) if place.exists() else None
        if not isinstance(content, dict):
            return None
        token, renewals = content.get("token", ""), content.get("renewals", 0)
        return _Lease(str(content["host"]), int(content["process"]), str(token), int(renewals))
    except (ValueError, TypeError, KeyError):
        return None
