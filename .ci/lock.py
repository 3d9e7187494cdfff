"""Prints the lock file of this environment, and marks the packages that only `make test` needs."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

HEADER = """\
# The versions that are tested together. `make lock` updates this file. Lines with `# dev` are for `make test` only.
# torch has no local version, so that every build of it fits; the Makefile explains how to choose one."""
NOT_YET_IN_PYPROJECT = ["setuptools"]


def normalized_name(name: str) -> str:
    """Return the name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def closure(requirements: Iterable[str]) -> set[str]:
    """Return the names of these requirements and of everything that they need on this machine."""
    waiting = [Requirement(text) for text in requirements]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        key = (normalized_name(requirement.name), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        for text in metadata.requires(requirement.name) or []:
            dependency = Requirement(text)
            extras = list(requirement.extras) or [""]
            if dependency.marker is None or any(dependency.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(dependency)
    return {name for name, _ in seen}


def main() -> None:
    """Write the lock file to standard output."""
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    runtime = closure(project["dependencies"] + NOT_YET_IN_PYPROJECT)
    print(HEADER)
    installed = {normalized_name(found.metadata["Name"]): found.version for found in metadata.distributions()}
    for name, version in sorted(installed.items()):
        if name not in ("pip", "joyful-ray"):
            print(f"{name}=={version.split('+')[0]}" + ("" if name in runtime else "  # dev"))


if __name__ == "__main__":
    main()
