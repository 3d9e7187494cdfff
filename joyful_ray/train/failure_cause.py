"""Why a run on Ray failed, in one line: the error that came first, not those that followed from it."""

from __future__ import annotations


def first_cause(error: BaseException) -> str:
    """The first cause of a failed `fit`, in one line.

    Workers that fail together are ordered by the time of their failure; a killed worker reports no time, and failed
    before the workers that waited for it. Where Ray's controller failed, such as at the start of the process group, the
    cause is what it wraps.
    """
    failures = getattr(error, "worker_failures", None) or {}
    if not failures:
        return _described(_root(error))
    rank = min(failures, key=lambda each: (getattr(failures[each], "failed_at", 0.0), each))
    return f"rank {rank}: {_described(_root(failures[rank]))}"


def _root(error: BaseException) -> BaseException:
    """The innermost error of those that wrap it."""
    seen = {id(error)}
    while True:
        inner = next((found for found in _wrapped(error) if isinstance(found, BaseException)), None)
        if inner is None or id(inner) in seen:
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
    while len(lines) > 1 and lines[0].endswith(":"):
        lines[:2] = [f"{lines[0]} {lines[1]}"]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
