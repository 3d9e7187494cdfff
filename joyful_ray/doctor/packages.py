"""Checks of the Python version and the installed packages."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

from joyful_ray.doctor.report import Check

LOCK = Path(__file__).parents[2] / "requirements.lock"


def check_python() -> Check:
    """Report the Python version; pip has already checked that it is new enough."""
    version = ".".join(map(str, sys.version_info[:3]))
    return Check(name="python", status="ok", found=version)


def check_packages(lock: Path = LOCK) -> Iterator[Check]:
    """Check that every required package is installed, in an allowed version and preferably in the tested one.

    Args:
        lock: the file with the tested versions; if it does not exist, only the allowed versions are checked.
    """
    try:
        requirements = [Requirement(text) for text in importlib.metadata.requires("joyful-ray") or []]
    except importlib.metadata.PackageNotFoundError:
        yield Check(name="packages", status="warn", found="joyful-ray is not installed", advice="run: make install")
        return
    tested = _locked_versions(lock)
    for requirement in requirements:
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield check_package(requirement, tested.get(requirement.name.lower()))


def check_package(requirement: Requirement, tested_version: str | None) -> Check:
    """Compare the installed version of one package with the required and the tested version."""
    name = requirement.name
    install = f"{requirement.specifier or 'any version'} is required; run: make install"
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Check(name=name, status="fail", found="not installed", advice=install)
    if not requirement.specifier.contains(version, prereleases=True):
        return Check(name=name, status="fail", found=version, advice=install)
    # A local version such as +cpu is another build of the same release.
    if tested_version is not None and version.split("+")[0] != tested_version:
        advice = f"tested with {tested_version}; to install that version, run: make install"
        return Check(name=name, status="warn", found=version, advice=advice)
    return Check(name=name, status="ok", found=version)


def _locked_versions(lock: Path) -> dict[str, str]:
    if not lock.is_file():
        return {}
    lines = [line.split("#")[0].strip() for line in lock.read_text().splitlines()]
    return dict(line.split("==") for line in lines if "==" in line)
