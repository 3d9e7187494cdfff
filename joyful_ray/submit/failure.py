"""Finds the reason why a job failed: the first error, not the last line of its log."""

from __future__ import annotations

import re

JOYFUL_LINE = re.compile(r"^joyful: (?P<what>.+)$", re.MULTILINE)
TRACEBACK = "Traceback (most recent call last):"
ERROR_LINE = re.compile(r"^(?:\([^)]*\) )?(?P<what>[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit|Stopped)\b.*)$")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
EXIT_CODES = {
    "-9": "the process was killed (signal 9), which often means that memory ran out",
    "137": "the process was killed (signal 9), which often means that memory ran out",
    "-15": "the process was terminated from outside (signal 15)",
    "127": "a program of the command was not found",
}


def first_error(log: str, message: str) -> str:
    """Return one line that says why a job failed.

    Args:
        log: what the job printed.
        message: Ray's own message about the end of the job.

    Returns:
        The error line of `joyful`, if the job printed one: it names the rank that failed first and the error of that
        rank. Else the error of the first traceback. Else Ray's message.
    """
    log = COLOUR.sub("", log)
    own = JOYFUL_LINE.search(log)
    if own:
        return own["what"].strip()
    first = _first_traceback(log)
    if first:
        return first
    code = re.search(r"exit code:? (-?\d+)", message)
    if code and code[1] in EXIT_CODES:
        return EXIT_CODES[code[1]]
    lines = [line.strip() for line in message.strip().splitlines() if line.strip()]
    return lines[0] if lines else "the job failed without a reason in its log or from Ray; see joyful jobs logs"


def _first_traceback(log: str) -> str | None:
    lines = log.splitlines()
    start = next((index for index, line in enumerate(lines) if TRACEBACK in line), None)
    if start is None:
        return None
    for line in lines[start + 1 :]:
        match = ERROR_LINE.match(line)
        if match:
            return match["what"].strip()
    return None
