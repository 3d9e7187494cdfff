"""Installed packages compared with the requirements, and the promises of the lock file."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from joyful_ray.doctor.packages import check_package

CHECKOUT = Path(__file__).parents[2]


def locked() -> dict[str, str]:
    lines = (CHECKOUT / "requirements.lock").read_text().splitlines()
    return {
        line.split("==")[0]: line.split("==")[1].removesuffix("# dev").strip()
        for line in lines
        if not line.startswith("#")
    }


def test_the_lock_file_has_an_allowed_version_of_every_dependency() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    for text in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        requirement = Requirement(text)
        version = locked()[re.sub(r"[-_.]+", "-", requirement.name).lower()]
        assert requirement.specifier.contains(version), f"{text} is required, but the lock file has {version}"


def test_the_lock_file_names_torch_without_a_build_suffix() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", locked()["torch"])


def test_a_package_that_is_too_old_missing_or_untested_is_reported() -> None:
    assert check_package(Requirement("pytest>=1"), None).status == "ok"
    assert check_package(Requirement("pytest>=999"), None).status == "fail"
    assert check_package(Requirement("no-such-package-here"), None).found == "not installed"
    untested = check_package(Requirement("pytest"), "0.1")
    assert untested.status == "warn"
    assert "tested with 0.1" in untested.advice


def test_a_build_of_the_tested_torch_is_the_tested_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.13.0+cpu")
    assert check_package(Requirement("torch>=2.6"), "2.13.0").status == "ok"
