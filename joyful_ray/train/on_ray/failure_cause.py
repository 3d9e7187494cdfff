"""Why a run on Ray failed, in one line: the error that came first, not those that followed from it."""

from __future__ import annotations

import re
from collections.abc import Mapping

_ACTOR_DIED = "The actor died unexpectedly before finishing this task."
_ACTOR_FACT = re.compile(r"(class_name|actor_id|pid|name|namespace|ip): ")


def first_cause(error: BaseException) -> str:
    """The first cause of a failed `fit`, in one line.

    Where Ray's controller failed, such as at the start of the process group, the cause is what it wraps.
    """
    failures = getattr(error, "worker_failures", None)
    return first_of(failures) if failures else _described(root_of(error))


def first_of(failures: Mapping[int, BaseException]) -> str:
    """The first cause of several ranks' failures, with its rank.

    They are ordered by the time of the failure; a killed worker reports no time, and failed before the workers that
    waited for it.
    """
    rank = min(failures, key=lambda each: (getattr(failures[each], "failed_at", 0.0), each))
    return f"rank {rank}: {_described(root_of(failures[rank]))}"


def root_of(error: BaseException) -> BaseException:
    """The innermost error of those that wrap it. One without a word is no cause: Ray Data raises others from such."""
    seen = {id(error)}
    while True:
        inner = next((found for found in _wrapped(error) if isinstance(found, BaseException)), None)
        if inner is None or id(inner) in seen or not str(inner):
            return error
        seen.add(id(inner))
        error = inner


def _wrapped(error: BaseException) -> list[object]:
    """What an error may wrap: Ray has an attribute of its own in each kind."""
    names = ("controller_failure", "health_check_failure", "cause", "__cause__")
    return [getattr(error, name, None) for name in names]


def _described(error: BaseException) -> str:
    """The kind of an error and its first sentence; a line that only announces the next one is joined with it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and lines[0] == _ACTOR_DIED:  # why comes after facts about the actor
        lines = [line for line in lines[1:] if not _ACTOR_FACT.match(line)] or lines
    while len(lines) > 1 and lines[0].endswith(":"):
        lines[:2] = [f"{lines[0]} {lines[1]}"]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
