"""Counts what a process asks of storage, whatever the storage is."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any

from joyful_ray.storage import Location

READS, WRITES = ("read_bytes", "read_children"), ("write_bytes", "create_bytes", "append_text")
OTHERS = ("exists", "is_dir", "list", "remove", "remove_children")


@dataclass
class StorageTraffic:
    """What was asked of storage.

    Attributes:
        calls: by name of the method of `Location`; a text is read and written by the methods for bytes.
        read: bytes.
        written: bytes.
    """

    calls: Counter[str] = field(default_factory=Counter)
    read: int = 0
    written: int = 0

    @property
    def total(self) -> int:
        """All calls."""
        return self.calls.total()


@contextmanager
def counting_storage() -> Iterator[StorageTraffic]:
    """Count the calls of all threads of this process while the block runs. A call within a call does not count."""
    found, inside, originals = StorageTraffic(), threading.local(), dict(vars(Location))

    def is_outer() -> bool:
        return not getattr(inside, "deep", False)

    def counted(name: str) -> Callable[..., Any]:
        original = originals[name]

        def call(self: Location, *arguments: Any) -> Any:
            if not is_outer():
                return original(self, *arguments)
            inside.deep = True
            try:
                answer = original(self, *arguments)
            finally:
                inside.deep = False
            found.calls[name] += 1
            if name in READS:
                found.read += len(answer) if name == "read_bytes" else sum(map(len, answer))
            elif name in WRITES:
                found.written += len(arguments[0])
            return answer

        return call

    @contextmanager
    def opened(self: Location, mode: str = "rb") -> Iterator[IO[Any]]:
        was_outer = is_outer()
        with originals["open"](self, mode) as file:
            yield file
            size = file.tell()
        if was_outer:
            found.calls["open"] += 1
            if mode.startswith("r"):
                found.read += size
            else:
                found.written += size

    try:
        for name in (*READS, *WRITES, *OTHERS):
            setattr(Location, name, counted(name))
        Location.open = opened  # type: ignore[method-assign, assignment]
        yield found
    finally:
        for name in (*READS, *WRITES, *OTHERS, "open"):
            setattr(Location, name, originals[name])
