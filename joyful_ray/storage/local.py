"""Files of this machine: written whole or not at all, and never taken for absent because storage fails."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from typing import IO

WITHOUT_LINKS = (errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
"""How file systems without hard links refuse them."""


UNFINISHED = ".unfinished"
"""End of the name of a file that is being written, or was when its process was killed."""


def status(path: str) -> os.stat_result | None:
    """What is at a path of this machine; None if nothing is. A storage that fails is no reason to find nothing.

    Raises:
        OSError: the path cannot be looked at.
    """
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


@contextlib.contextmanager
def open_local(path: str, mode: str) -> Iterator[IO[bytes]]:
    """Open a file to read it, or to write it: it then appears when the block ends without an error."""
    if mode.startswith("r"):
        with open(path, "rb") as file:
            yield file
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    unfinished = _unfinished(path)
    try:
        with open(unfinished, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(unfinished)


def create_local(path: str, data: bytes) -> bool:
    """Write a file unless one exists; False if one does."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    unfinished = _unfinished(path)
    try:
        with open(unfinished, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.link(unfinished, path)  # fails if the file exists, and never shows a part of it
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in WITHOUT_LINKS:
            raise
        try:
            with open(path, "xb") as file:
                file.write(data)
        except FileExistsError:
            return False
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(unfinished)
    return True


def _unfinished(path: str) -> str:
    return f"{path}.{uuid.uuid4().hex[:8]}{UNFINISHED}"
