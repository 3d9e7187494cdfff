"""Checks of Python and of the installed packages."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

from joyful_ray.doctor.checks import Check

LOCK = Path(__file__).parents[2] / "requirements.lock"


def check_python() -> Check:
    """The Python version. Pip has checked that it is new enough."""
    found = ".".join(map(str, sys.version_info[:3]))
    return Check(name="python", status="ok", found=found)


def check_packages(lock: Path = LOCK) -> Iterator[Check]:
    """Required packages are installed in an allowed version, preferably the tested one."""
    try:
        requirements = [Requirement(text) for text in importlib.metadata.requires("joyful-ray") or []]
    except importlib.metadata.PackageNotFoundError:
        yield Check(name="packages", status="warn", found="joyful-ray is not installed", advice="run: make install")
        return
    tested = _locked_versions(lock)
    for needed in requirements:
        if needed.marker is None or needed.marker.evaluate({"extra": ""}):
            yield _check_package(needed, tested.get(needed.name.lower()))


def _check_package(needed: Requirement, tested: str | None) -> Check:
    allowed = str(needed.specifier) or "any version"
    try:
        found = importlib.metadata.version(needed.name)
    except importlib.metadata.PackageNotFoundError:
        return Check(
            name=needed.name, status="fail", found="not installed", advice=f"needs {allowed}; run: make install"
        )
    if not needed.specifier.contains(found, prereleases=True):
        return Check(name=needed.name, status="fail", found=found, advice=f"needs {allowed}; run: make install")
    if tested is not None and found.split("+")[0] != tested:
        return Check(
            name=needed.name,
            status="warn",
            found=found,
            advice=f"tested with {tested}; to install that version, run: make install",
        )
    return Check(name=needed.name, status="ok", found=found)


def _locked_versions(lock: Path) -> dict[str, str]:
    if not lock.is_file():
        return {}
    lines = [line.split("#")[0].strip() for line in lock.read_text().splitlines()]
    return dict(line.split("==") for line in lines if "==" in line)
