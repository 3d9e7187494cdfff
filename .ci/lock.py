"""Print the lock file of the environment that runs this, marking what only `make test` needs."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

HEADER = """\
# Every version that is tested together; `make lock` writes it anew. Lines that end in `# dev` are for `make test` only.
# torch stands without a local version, so that any build of it fits; the Makefile says how to choose one."""
NOT_YET_IN_PYPROJECT = ["setuptools"]


def normal(name: str) -> str:
    """The name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def closure(requirements: Iterable[str]) -> set[str]:
    """Names of all that these requirements need on this machine, themselves included."""
    waiting = [Requirement(text) for text in requirements]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        wanted = waiting.pop()
        key = (normal(wanted.name), frozenset(wanted.extras))
        if key in seen:
            continue
        seen.add(key)
        for text in metadata.requires(wanted.name) or []:
            needed = Requirement(text)
            extras = list(wanted.extras) or [""]
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(needed)
    return {name for name, _ in seen}


def main() -> None:
    """Write the lock to standard output."""
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    needed_to_run = closure(project["dependencies"] + NOT_YET_IN_PYPROJECT)
    print(HEADER)
    installed = {normal(found.metadata["Name"]): found.version for found in metadata.distributions()}
    for name, version in sorted(installed.items()):
        if name not in ("pip", "joyful-ray"):
            print(f"{name}=={version.split('+')[0]}" + ("" if name in needed_to_run else "  # dev"))


if __name__ == "__main__":
    main()
