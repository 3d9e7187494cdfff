"""SIGTERM, as a scheduler or a cluster sends it, ends a command like Ctrl-C: with one line, and ready to continue."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_received = threading.Event()


def exit_status() -> int:
    """The exit status of an interrupted command: 143 after SIGTERM, otherwise 130, that of Ctrl-C."""
    return 128 + (signal.SIGTERM if _received.is_set() else signal.SIGINT)


def stop_on_sigterm() -> None:
    """Let SIGTERM raise `KeyboardInterrupt` in the main thread; other threads cannot set this."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _raise)


@contextmanager
def keeping_sigterm() -> Iterator[None]:
    """Give SIGTERM its handler back after the block, in which a library may install one of its own."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if before is _raise:
        stop_on_sigterm()


def _raise(number: int, frame: FrameType | None) -> None:
    _received.set()
    raise KeyboardInterrupt
