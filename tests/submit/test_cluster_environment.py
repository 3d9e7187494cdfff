"""A cluster's packages against the lock, and why a job failed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from joyful_ray.errors import ClusterError
from joyful_ray.submit.cluster_environment import (
    PROGRAM,
    ClusterEnvironment,
    compare,
    locked_versions,
    read_environment,
    read_lock,
)
from joyful_ray.submit.failure import first_error
from joyful_ray.submit.secrets import secret_values

CHECKOUT = Path(__file__).parents[2]
LOCK = "# words\nray==2.60.0\ntorch==2.13.0\nPyYAML==6.0.3\npytest==9.2.0  # dev\n"


def found(**packages: str) -> ClusterEnvironment:
    return ClusterEnvironment(python="3.11.7", packages=packages, credentials=(), has_endpoint=False)


def test_the_lock_is_read_without_what_only_tests_need() -> None:
    assert read_lock(LOCK) == {"ray": "2.60.0", "torch": "2.13.0", "pyyaml": "6.0.3"}
    assert locked_versions(CHECKOUT)["ray"] == locked_versions(CHECKOUT / "tests")["ray"]


def test_an_image_that_has_all_needs_nothing_and_another_build_of_torch_is_the_same() -> None:
    same = compare(found(ray="2.60.0", torch="2.13.0+cpu", pyyaml="6.0.3"), read_lock(LOCK))
    assert same.wanted == ()


def test_what_differs_is_wanted_and_said() -> None:
    differences = compare(found(ray="2.60.0", torch="2.12.0"), read_lock(LOCK))
    assert differences.wanted == ("torch==2.13.0", "pyyaml==6.0.3")
    assert differences.words == ("torch 2.13.0, there 2.12.0", "pyyaml 6.0.3, there absent")


def test_another_ray_and_an_old_python_are_refused() -> None:
    with pytest.raises(ClusterError, match=r"Ray 2\.59\.0, the lock says 2\.60\.0"):
        compare(found(ray="2.59.0"), read_lock(LOCK))
    with pytest.raises(ClusterError, match=r"Python 3\.10\.2"):
        compare(ClusterEnvironment("3.10.2", {"ray": "2.60.0"}, (), False), read_lock(LOCK))


def test_the_survey_names_variables_and_never_their_values() -> None:
    environment = {"AWS_ACCESS_KEY_ID": "planted-id", "AWS_SECRET_ACCESS_KEY": "planted-secret", "HOME": "/nowhere"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    environment = read_environment("words before\n" + done.stdout)
    assert environment.credentials == ("AWS_ACCESS_KEY_ID",)
    assert environment.packages["pyyaml"]
    assert environment.python == sys.version.split()[0]
    assert "planted" not in done.stdout


def test_secrets_are_known_by_their_names() -> None:
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
        (f"some words\n{TRACE}last line of a log\n", "exit code 1", "ValueError: the cause: 3"),
        ("epoch 0\n", "Job entrypoint command failed with exit code -9, last lines: epoch 0", "it was killed"),
        ("", "Unexpected error: head node died\nmore", "Unexpected error: head node died"),
        ("", "", "neither it nor Ray says why"),
    ],
)
def test_the_first_error_is_shown_not_the_last_line(log: str, message: str, expected: str) -> None:
    assert first_error(log, message).startswith(expected) or expected in first_error(log, message)


def test_an_answer_without_a_survey_is_refused() -> None:
    with pytest.raises(ClusterError, match="no survey"):
        read_environment(json.dumps({"python": "3"}))
