"""SIGTERM, as a scheduler or a cluster sends it, ends a command like Ctrl-C: with one line, and ready to continue."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPT = signal.SIGUSR2
_received = threading.Event()


def exit_status() -> int:
    """The exit status of an interrupted command: 143 after SIGTERM, otherwise 130, that of Ctrl-C."""
    return 128 + (signal.SIGTERM if _received.is_set() else signal.SIGINT)


def stop_on_sigterm() -> None:
    """Let SIGTERM raise `KeyboardInterrupt` in the main thread; other threads cannot set this."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _raise)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C and `interrupt` raise `KeyboardInterrupt` in the block, which must be in the main thread.

    An earlier run of Ray may have left a handler of Ctrl-C that does something else. A process that ignores Ctrl-C, as
    a command in the background of a script does, goes on ignoring it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    replaced = {INTERRUPT: signal.signal(INTERRUPT, signal.default_int_handler)}
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        replaced[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in replaced.items():
            signal.signal(number, handler)


def interrupt() -> None:
    """Interrupt the block of `interruptible` from another thread; nothing happens if the main thread is not in one."""
    if signal.getsignal(INTERRUPT) is signal.default_int_handler:
        os.kill(os.getpid(), INTERRUPT)


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
