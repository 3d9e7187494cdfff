"""Runs the blocks of a Markdown page in a folder, as a reader would who copies them one after the other.

A comment in the line before a fenced block says what it is:

- `<!-- file: PATH -->`: the content of a file;
- `<!-- needs: WHAT -->`: not run, because a test has no WHAT (a data set, a cluster, a quiet machine);
- `<!-- run -->`: run by another test, on a cluster (`tests/cluster/test_head.py`).

Every other `bash` block runs, and every `python` block too. Blocks in other languages are for reading.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
FENCE = re.compile(r"(?:^<!-- (file|needs|run)(?:: ([^\n]*?))? -->\n)?^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
TIMEOUT_S = 600


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        mark: file, needs or run; empty without a comment.
        value: what follows the colon of the comment.
        language: as the fence names it.
    """

    mark: str
    value: str
    language: str
    text: str
    line: int


def blocks_of(page: Path) -> list[Block]:
    """All blocks of a page, in order."""
    text = page.read_text()
    return [
        Block(found[1] or "", found[2] or "", found[3], found[4], text.count("\n", 0, found.start(4)) + 1)
        for found in FENCE.finditer(text)
    ]


def run_page(page: Path, folder: Path, *, skip: Sequence[str] = ()) -> str:
    """Write the files and run the blocks of a page in a folder; returns everything that they printed.

    Args:
        skip: commands whose blocks another test runs, such as `make`.

    Raises:
        AssertionError: a block failed; the message has the page, the line and the output.
    """
    printed = []
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(CHECKOUT),
    }
    for block in blocks_of(page):
        if block.mark == "file":
            target = folder / block.value
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.text)
            continue
        if block.mark or block.language not in ("bash", "python") or block.text.startswith(tuple(skip)):
            continue
        command = ["bash", "-euo", "pipefail", "-c"] if block.language == "bash" else [sys.executable, "-c"]
        done = subprocess.run(
            [*command, block.text],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, f"{page.name}, line {block.line}:\n{block.text}\n{done.stdout}\n{done.stderr}"
        printed.append(done.stdout)
    return "\n".join(printed)
