"""A cluster's packages compared with the lock file, and the reason why a job failed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from joyful_ray.errors import ClusterError
from joyful_ray.submit.cluster_environment import (
    PROBE_PROGRAM,
    ClusterEnvironment,
    compare_packages,
    locked_versions,
    read_environment,
    read_lock,
)
from joyful_ray.submit.failure import first_error
from joyful_ray.submit.secrets import secret_values

CHECKOUT = Path(__file__).parents[2]
LOCK = "# a comment\nray==2.60.0\ntorch==2.13.0\nPyYAML==6.0.3\npytest==9.2.0  # dev\n"


def found(**packages: str) -> ClusterEnvironment:
    return ClusterEnvironment(python="3.11.7", packages=packages, credentials=(), has_endpoint=False)


def test_the_lock_file_is_read_without_packages_that_only_tests_need() -> None:
    assert read_lock(LOCK) == {"ray": "2.60.0", "torch": "2.13.0", "pyyaml": "6.0.3"}
    assert locked_versions(CHECKOUT)["ray"] == locked_versions(CHECKOUT / "tests")["ray"]


def test_a_complete_image_needs_nothing_and_another_build_of_torch_is_the_same_version() -> None:
    same = compare_packages(found(ray="2.60.0", torch="2.13.0+cpu", pyyaml="6.0.3"), read_lock(LOCK))
    assert same.requirements == ()


def test_packages_that_differ_are_installed_and_described() -> None:
    differences = compare_packages(found(ray="2.60.0", torch="2.12.0"), read_lock(LOCK))
    assert differences.requirements == ("torch==2.13.0", "pyyaml==6.0.3")
    assert differences.descriptions == ("torch 2.13.0 (the image has 2.12.0)", "pyyaml 6.0.3 (missing)")


def test_another_ray_and_an_old_python_are_refused() -> None:
    with pytest.raises(ClusterError, match=r"Ray 2\.59\.0, but the lock file has 2\.60\.0"):
        compare_packages(found(ray="2.59.0"), read_lock(LOCK))
    with pytest.raises(ClusterError, match=r"Python 3\.10\.2"):
        compare_packages(ClusterEnvironment("3.10.2", {"ray": "2.60.0"}, (), False), read_lock(LOCK))


def test_the_probe_reports_names_of_variables_and_never_their_values() -> None:
    environment = {"AWS_ACCESS_KEY_ID": "planted-id", "AWS_SECRET_ACCESS_KEY": "planted-secret", "HOME": "/nowhere"}
    done = subprocess.run(
        [sys.executable, "-c", PROBE_PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    environment = read_environment("other output\n" + done.stdout)
    assert environment.credentials == ("AWS_ACCESS_KEY_ID",)
    assert environment.packages["pyyaml"]
    assert environment.python == sys.version.split()[0]
    assert "planted" not in done.stdout


def test_secrets_are_recognised_by_their_names() -> None:
    environment = {
        "AWS_SECRET_ACCESS_KEY": "a" * 20,
        "RAY_AUTH_TOKEN": "b" * 20,
        "RAY_AUTH_TOKEN_PATH": "/home/me/.ray/auth_token",
        "TOKENIZERS_PARALLELISM": "disabled",
        "MY_PASSWORD": "short",
        "PATH": "/usr/bin:/bin",
    }
    assert set(secret_values(environment)) == {"AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN"}


TRACE = """Traceback (most recent call last):
  File "a.py", line 1, in <module>
    f()
ValueError: the cause: 3

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "b.py", line 1, in <module>
RuntimeError: Connection closed by peer
"""


@pytest.mark.parametrize(
    ("log", "message", "expected"),
    [
        (
            "epoch 0\njoyful: rank 1: ValueError: bad vector\nshutting down\n",
            "Job entrypoint command failed with exit code 1",
            "rank 1: ValueError: bad vector",
        ),
        ("\x1b[31mjoyful: epoch 3: not finite\x1b[0m\n", "exit code 1", "epoch 3: not finite"),
        (f"some output\n{TRACE}last line of a log\n", "exit code 1", "ValueError: the cause: 3"),
        ("epoch 0\n", "Job entrypoint command failed with exit code -9, last lines: epoch 0", "the process was killed"),
        ("", "Unexpected error: head node died\nmore", "Unexpected error: head node died"),
        ("", "", "without a reason in its log or from Ray"),
    ],
)
def test_the_first_error_is_shown_not_the_last_line(log: str, message: str, expected: str) -> None:
    assert first_error(log, message).startswith(expected) or expected in first_error(log, message)


def test_a_log_without_the_environment_is_refused() -> None:
    with pytest.raises(ClusterError, match="did not report its environment"):
        read_environment(json.dumps({"python": "3"}))
