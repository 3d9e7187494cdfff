"""A lock that allows one command at a time in a run's directory; a killed command does not block the next."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from joyful_ray.errors import CheckpointError
from joyful_ray.storage import Location

LOCK = "lock.json"


@contextmanager
def run_lock(directory: Location) -> Iterator[None]:
    """Lock a run's directory while a command works in it.

    A lock is taken over if its process has ended, or if it belongs to another machine, because there is no way to tell
    from here whether a process on another machine is alive.

    Raises:
        CheckpointError: another command on this machine works in the directory; the message has its process id.
    """
    place = directory.join(LOCK)
    holder = _holder(place)
    if holder is not None:
        raise CheckpointError(
            f"run {directory.name} is being trained by process {holder} on this machine; "
            f"wait for it, or give this run another --name (if that process is another program, remove {place.uri})"
        )
    place.write_text(json.dumps({"host": socket.gethostname(), "process": os.getpid()}))
    try:
        yield
    finally:
        if place.exists():
            place.remove()


def _holder(place: Location) -> int | None:
    """The id of the running process on this machine that holds the lock; None if there is none."""
    if not place.exists():
        return None
    try:
        content = json.loads(place.read_text())
        host, process = str(content["host"]), int(content["process"])
        if host != socket.gethostname():
            return None
        os.kill(process, 0)
    except (ValueError, TypeError, KeyError, ProcessLookupError):
        return None
    except PermissionError:
        pass
    return process
