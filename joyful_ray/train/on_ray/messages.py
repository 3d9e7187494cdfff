"""What Ray's own processes tell a command, a line each: a worker killed for want of memory, a node that was lost."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

REPEAT_S = 60.0
"""A message of the same kind is printed again only after so many seconds."""
LONGEST = 400
OURS = "joyful: "
_NUMBERS = re.compile(r"\b(?=\w*\d)[\w.:]+\b")


def first_line(message: str) -> str:
    """The first line of a message that has any text, without its end if it is long."""
    line = next((text.strip() for text in message.splitlines() if text.strip()), "")
    return line if len(line) <= LONGEST else f"{line[:LONGEST]} …"


class Messages:
    """Prints each kind of message once a minute; two messages are of one kind if they differ in numbers alone.

    Args:
        write: called with each line.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._printed: dict[str, float] = {}

    def add(self, message: str) -> None:
        """Print a message, unless one of its kind was printed lately."""
        line, now = first_line(message), time.monotonic()
        kind = _NUMBERS.sub("0", line)
        if not line or now - self._printed.get(kind, -REPEAT_S) < REPEAT_S:
            return
        self._printed[kind] = now
        self._write(line if line.startswith(OURS) else f"Ray: {line}")


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def shortening_messages(write: Callable[[str], None] = _to_stderr) -> Iterator[None]:
    """Print what Ray's processes report in the block as single lines, instead of Ray's pages on stdout."""
    from ray._private import worker

    messages, printed_by_ray = Messages(write), worker.print_to_stdstream

    def print_shortened(data: dict[str, Any], *arguments: Any, **settings: Any) -> None:
        if data.get("pid") != "raylet":
            printed_by_ray(data, *arguments, **settings)
            return
        for message in data["lines"]:
            messages.add(message)

    worker.print_to_stdstream = print_shortened
    try:
        yield
    finally:
        worker.print_to_stdstream = printed_by_ray


def tell_command(line: str) -> None:
    """Print a line at the command, from a process of its cluster."""
    import ray
    from ray._private.utils import push_error_to_driver
    from ray._private.worker import global_worker

    job: Any = ray.JobID.from_hex(ray.get_runtime_context().get_job_id())  # Ray's annotation is wrong
    push_error_to_driver(global_worker, "joyful", f"{OURS}{line}", job)
