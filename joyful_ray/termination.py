"""SIGTERM, as a scheduler or a cluster sends it, ends a command like Ctrl-C: with one line, and ready to continue."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPT = signal.SIGUSR2
_received = threading.Event()
_last_words: list[str] = []


class Stopped(KeyboardInterrupt):
    """A run that was asked to stop has been saved.

    Args:
        place: where it stopped.
    """

    def __init__(self, place: str) -> None:
        super().__init__(place)
        # Typer replaces the exception on its way.
        _last_words.append(place)


def last_line(default: str) -> str:
    """The last line of an interrupted command: where a run stopped and was saved, or else the default."""
    return f"stopped at {_last_words[-1]}, and saved; the same command continues the run" if _last_words else default


def is_sigterm() -> bool:
    """Whether this process was asked to end by SIGTERM."""
    return _received.is_set()


@contextmanager
def stopping_softly() -> Iterator[Callable[[], bool]]:
    """Let the first SIGTERM only be noted in the block, which must look whether it came; a second one ends it.

    Yields:
        Whether SIGTERM came. Without `stop_on_sigterm`, nothing changes and it never came.
    """
    came = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        if came.is_set():
            _raise(number, frame)
        _received.set()
        came.set()

    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) is not _raise:
        yield lambda: False
        return
    signal.signal(signal.SIGTERM, note)
    try:
        yield came.is_set
    finally:
        signal.signal(signal.SIGTERM, _raise)


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
def ending_within(seconds: float, line: str) -> Iterator[None]:
    """End the process so long after Ctrl-C or SIGTERM in the block, even while native code holds the main thread.

    Nothing is tidied up then, so that the block must not start what outlives the process.

    Args:
        seconds: how long Python may take to leave the block by itself.
        line: printed at the end.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    receiving, sending = os.pipe()
    stderr = os.dup(2)  # the block may put another in its place
    os.set_blocking(sending, False)
    before, has_left = signal.set_wakeup_fd(sending, warn_on_full_buffer=False), threading.Event()

    def watch() -> None:
        while received := os.read(receiving, 1):
            if received[0] in (signal.SIGINT, signal.SIGTERM) and not has_left.wait(seconds):
                os.write(stderr, f"{line}\n".encode())
                os._exit(128 + received[0])

    watcher = threading.Thread(target=watch, name="end-within", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        has_left.set()
        signal.set_wakeup_fd(before)
        os.close(sending)
        watcher.join()
        os.close(receiving)
        os.close(stderr)


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
