"""Why a job failed: the first error, not the last line of its log."""

from __future__ import annotations

import re

OWN_LINE = re.compile(r"^joyful: (?P<what>.+)$", re.MULTILINE)
TRACEBACK = "Traceback (most recent call last):"
ERROR_LINE = re.compile(r"^(?:\([^)]*\) )?(?P<what>[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit|Stopped)\b.*)$")
WITHOUT_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
EXIT_CODES = {
    "-9": "it was killed (signal 9), as happens where memory runs out",
    "137": "it was killed (signal 9), as happens where memory runs out",
    "-15": "it was ended from outside (signal 15)",
    "127": "a program of the command was not found",
}


def first_error(log: str, message: str) -> str:
    """One line that says why.

    Args:
        log: what the job printed.
        message: what Ray says of its end.

    Returns:
        The command's own line where it ended by one: it names the rank that failed first and that rank's error. Else
        the first traceback's error. Else what Ray says.
    """
    log = WITHOUT_COLOUR.sub("", log)
    own = OWN_LINE.search(log)
    if own:
        return own["what"].strip()
    first = _first_traceback(log)
    if first:
        return first
    code = re.search(r"exit code:? (-?\d+)", message)
    if code and code[1] in EXIT_CODES:
        return EXIT_CODES[code[1]]
    lines = [line.strip() for line in message.strip().splitlines() if line.strip()]
    return lines[0] if lines else "the job failed, and neither it nor Ray says why; see joyful jobs logs"


def _first_traceback(log: str) -> str | None:
    lines = log.splitlines()
    start = next((index for index, line in enumerate(lines) if TRACEBACK in line), None)
    if start is None:
        return None
    for line in lines[start + 1 :]:
        found = ERROR_LINE.match(line)
        if found:
            return found["what"].strip()
    return None
