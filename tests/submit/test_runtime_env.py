"""Packages and variables that a job receives."""

from __future__ import annotations

from pathlib import Path

import pytest

from joyful_ray.errors import ConfigError
from joyful_ray.submit.cluster_environment import ClusterEnvironment
from joyful_ray.submit.packing import Packing
from joyful_ray.submit.runtime_env import Dependencies, runtime_env_of
from joyful_ray.submit.submission import Submission

SUBMISSION = Submission(("synth", "--out", "s3://bucket/c"), "synth", notes=("a note",))


@pytest.fixture
def packing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Packing:
    (tmp_path / "requirements.lock").write_text("ray==2.60.0\ntorch==2.13.0\npyyaml==6.0.3\n")
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    return Packing(tmp_path, {}, {})


def chosen(
    packing: Packing, dependencies: Dependencies, *, credentials: tuple[str, ...] = (), has_endpoint: bool = False
) -> tuple[dict[str, object], list[str]]:
    packages = {"ray": "2.60.0", "torch": "2.12.0", "pyyaml": "6.0.3"}
    found = ClusterEnvironment("3.11.7", packages, credentials, has_endpoint)
    lines: list[str] = []
    return runtime_env_of(SUBMISSION, packing, found, dependencies, lines.append), lines


@pytest.mark.parametrize(
    ("dependencies", "packages", "line"),
    [
        (
            "auto",
            ["torch==2.13.0"],
            "dependencies: installs 1 package for this job: torch 2.13.0 (the image has 2.12.0)",
        ),
        (
            "locked",
            ["torch==2.13.0", "pyyaml==6.0.3"],
            "dependencies: installs 2 packages for this job: torch 2.13.0 (the image has 2.12.0)",
        ),
        (
            "none",
            None,
            "dependencies: nothing is installed, although these differ: torch 2.13.0 (the image has 2.12.0)",
        ),
    ],
)
def test_missing_packages_are_installed_unless_none_are_wanted(
    packing: Packing, dependencies: Dependencies, packages: list[str] | None, line: str
) -> None:
    environment, lines = chosen(packing, dependencies)
    expected = {} if packages is None else {"pip": {"packages": packages, "pip_check": False}}
    assert environment == expected
    assert lines[0] == line
    assert lines[-1] == "note: a note"


def test_the_endpoint_of_this_shell_is_sent_only_to_a_cluster_without_one(
    packing: Packing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://storage:9000")
    environment, lines = chosen(packing, "none", credentials=("AWS_PROFILE",))
    assert environment == {"env_vars": {"AWS_ENDPOINT_URL": "http://storage:9000"}}
    assert lines[1].endswith("(AWS_PROFILE); none of this shell's are sent; AWS_ENDPOINT_URL of this shell is sent")
    assert chosen(packing, "none", has_endpoint=True)[0] == {}


def test_a_secret_in_an_endpoint_is_refused(packing: Packing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://planted-secret:9000")
    with pytest.raises(ConfigError, match="value of AWS_SECRET_ACCESS_KEY"):
        chosen(packing, "none")
