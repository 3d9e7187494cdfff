"""Copies the logs of a command and of its workers into the folder of the run, where they outlive the cluster.

A log is copied while it grows, so that of a worker that is killed only the last seconds are missing.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from joyful_ray.errors import StorageError
from joyful_ray.storage import Location
from joyful_ray.version import __version__

COPY_S = 20.0
MOST_BYTES = 1_000_000
"""Of a longer log, so many bytes at its end are copied."""


def log_name(what: str) -> str:
    """Name of a log: it begins with the time (UTC), so that the log of an earlier attempt stays."""
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{what}.log"


@contextmanager
def copying_own_log(folder: Location, what: str) -> Iterator[None]:
    """Copy what this process prints into files, as Ray's workers do, while the block runs.

    Args:
        folder: where the log is written.
        what: the process, in its name.
    """
    copy = _Copy(folder.join(log_name(what)))
    copy.start()
    try:
        yield
    except BaseException:
        copy.more = traceback.format_exc()
        raise
    finally:
        copy.done.set()
        copy.join()


class _Copy(threading.Thread):
    def __init__(self, target: Location) -> None:
        super().__init__(name="copy-log", daemon=True)
        self.done = threading.Event()
        self.more = ""
        self._target, self._copied = target, ""

    def run(self) -> None:
        while not self.done.wait(COPY_S):
            self._copy()
        self._copy()

    def _copy(self) -> None:
        text = "".join(f"--- {path.name}\n{content}\n" for path in own_logs() if (content := tail(path))) + self.more
        # A log that storage loses must not end the run.
        with suppress(StorageError):
            if text and text != self._copied:
                self._target.write_text(text)
                self._copied = text


def own_logs() -> list[Path]:
    """The files that this process prints to: stdout, stderr, and those of its loggers."""
    found: dict[Path, None] = {}
    for descriptor in (1, 2):
        with suppress(OSError):  # only Linux has this folder
            found[Path(os.readlink(f"/proc/self/fd/{descriptor}"))] = None
    loggers = [logging.getLogger(), *(logging.getLogger(name) for name in ("ray", "ray.train", "ray.data"))]
    for handler in [handler for logger in loggers for handler in logger.handlers]:
        if isinstance(handler, logging.FileHandler):
            found[Path(handler.baseFilename)] = None
    return [path for path in found if path.is_file()]


def tail(path: Path) -> str:
    """The end of a file; nothing if it cannot be read."""
    with suppress(OSError), path.open("rb") as file:
        file.seek(max(path.stat().st_size - MOST_BYTES, 0))
        return file.read().decode(errors="replace")
    return ""


@contextmanager
def command_log(folder: Location, stage: Callable[[str], None]) -> Iterator[Callable[[str], None]]:
    """Note the beginning of the block, each line that it says, and how it ends.

    Args:
        folder: where the log is written.
        stage: prints a line.

    Yields:
        Notes and prints a line.
    """
    target = folder.join(log_name("command"))

    def note(text: str) -> None:
        with suppress(StorageError):
            target.append_text(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {text.rstrip()}\n")

    def say(text: str) -> None:
        note(text)
        stage(text)

    note(f"joyful {__version__}, process {os.getpid()} on {socket.gethostname()}")
    try:
        yield say
    except BaseException as error:
        note("".join(traceback.format_exception(error)))
        raise
    note("finished")


@contextmanager
def copying_at_end(folder: Location, find: Callable[[], Sequence[Path]]) -> Iterator[None]:
    """Copy the files that have been written during the block.

    Args:
        folder: where they are copied to.
        find: finds them.
    """
    began = time.time()
    try:
        yield
    finally:
        for path in find():
            with suppress(StorageError, OSError):
                if path.stat().st_mtime >= began:
                    folder.join(log_name(path.stem)).write_text(tail(path))
