"""Checks that a location can be written, read and cleaned up."""

from __future__ import annotations

import itertools
import time
import uuid
from dataclasses import dataclass

from joyful_ray.errors import StorageError
from joyful_ray.storage.location import open_location


@dataclass(frozen=True)
class ProbeTimings:
    """Seconds that a small object took to write, read and remove."""

    uri: str
    write_s: float
    read_s: float
    remove_s: float


def probe(uri: str) -> ProbeTimings:
    """Write, read and remove a small object below `uri`.

    Raises:
        StorageError: one of the three failed; the message says which and why.
    """
    location = open_location(uri)
    existed = location.exists()
    target = location.join(f".joyful-probe-{uuid.uuid4().hex}")
    data = uuid.uuid4().bytes * 64
    marks = [time.perf_counter()]
    target.write_bytes(data)
    marks.append(time.perf_counter())
    found = target.read_bytes()
    marks.append(time.perf_counter())
    target.remove()
    marks.append(time.perf_counter())
    if found != data:
        raise StorageError(f"{location.uri} returned other bytes ({len(found)}) than were written ({len(data)})")
    if not existed and not location.is_remote:
        location.remove()
    write_s, read_s, remove_s = (after - before for before, after in itertools.pairwise(marks))
    return ProbeTimings(location.uri, write_s, read_s, remove_s)
