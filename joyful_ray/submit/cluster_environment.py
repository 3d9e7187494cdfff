"""What a cluster runs: its Python and packages, held against the lock, and whether it has credentials for storage."""

from __future__ import annotations

import json
import re
import shlex
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import joyful_ray
from joyful_ray.errors import ClusterError
from joyful_ray.submit.connection import submit_when_ready

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

LOCK_NAME = "requirements.lock"
CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_SHARED_CREDENTIALS_FILE",
)
"""Variables of which any says where a cluster's credentials come from; their values are never asked."""
OLDEST_PYTHON = (3, 11)
MARK = "joyful-survey:"
PROGRAM = f"""
import importlib.metadata as m, json, os, platform
names = {CREDENTIALS!r}
print({MARK!r} + json.dumps(dict(
    python=platform.python_version(),
    packages={{d.metadata["Name"]: d.version for d in m.distributions() if d.metadata["Name"]}},
    credentials=[n for n in names if os.environ.get(n)]
    + (["~/.aws"] if os.path.exists(os.path.expanduser("~/.aws/credentials")) else []),
    endpoint=any(os.environ.get(n) for n in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")))))
"""
TIMEOUT_S, POLL_S = 120.0, 0.5
SETTLED_S = 2.0
"""A job that is removed sooner after its end comes back into the list as one that failed."""


@dataclass(frozen=True)
class ClusterEnvironment:
    """What the head of a cluster says of itself.

    Attributes:
        packages: versions by normal name.
        credentials: names of what gives it credentials for a bucket; never values.
        has_endpoint: whether its environment names an S3 server.
    """

    python: str
    packages: Mapping[str, str]
    credentials: tuple[str, ...]
    has_endpoint: bool


@dataclass(frozen=True)
class Differences:
    """How a cluster's packages differ from the lock.

    Attributes:
        wanted: `name==version` of what is absent or of another version, without Ray.
        words: for a person, `name: wanted, found`.
    """

    wanted: tuple[str, ...]
    words: tuple[str, ...]


@contextmanager
def cluster_environment(client: JobSubmissionClient, *, python: str) -> Iterator[ClusterEnvironment]:
    """Ask by a job of some seconds, which is removed again at the end of the block.

    Raises:
        ClusterError: the cluster could not run it.
    """
    job = submit_when_ready(
        client, entrypoint=f"{shlex.quote(python)} -c {shlex.quote(PROGRAM)}", submission_id=_environment_job_id()
    )
    found = _environment_job(client, job, python)
    asked = time.monotonic()
    try:
        yield found
    finally:
        time.sleep(max(0.0, SETTLED_S - (time.monotonic() - asked)))
        client.delete_job(job)


def _environment_job_id() -> str:
    return f"joyful-survey-{uuid.uuid4().hex[:8]}"


def _environment_job(client: JobSubmissionClient, job: str, python: str) -> ClusterEnvironment:
    from ray.job_submission import JobStatus

    deadline = time.monotonic() + TIMEOUT_S
    while not (status := client.get_job_status(job)).is_terminal():
        if time.monotonic() > deadline:
            client.stop_job(job)
            raise ClusterError(f"the cluster began no job within {TIMEOUT_S:.0f} s; see joyful jobs list")
        time.sleep(POLL_S)
    log, message = client.get_job_logs(job), client.get_job_info(job).message or ""
    if status is not JobStatus.SUCCEEDED:
        if "not found" in log or "127" in message:
            raise ClusterError(f"the cluster's head finds no program {python}; name its Python with --python PATH")
        reason = (log.strip() or message.strip()).splitlines() or [str(status)]
        raise ClusterError(f"the cluster could not run {python}: {reason[-1]}")
    return read_environment(log)


def read_environment(log: str) -> ClusterEnvironment:
    """The survey in a job's log."""
    found = [line.partition(MARK)[2] for line in log.splitlines() if MARK in line]
    if not found:
        raise ClusterError(f"the cluster's answer held no survey: {log.strip()[:200]!r}")
    answer = json.loads(found[-1])
    return ClusterEnvironment(
        python=answer["python"],
        packages={normal(name): version for name, version in answer["packages"].items()},
        credentials=tuple(answer["credentials"]),
        has_endpoint=answer["endpoint"],
    )


def locked_versions(folder: Path) -> dict[str, str]:
    """What a job needs, by normal name: the lock of the folder or of this checkout, else what is installed here."""
    for place in (folder / LOCK_NAME, Path(joyful_ray.__file__).parents[1] / LOCK_NAME):
        if place.is_file():
            return read_lock(place.read_text())
    needed = [re.split(r"[\s\[<>=!~;]", text, maxsplit=1)[0] for text in metadata.requires("joyful-ray") or []]
    return {normal(name): metadata.version(name) for name in needed if _is_installed(name)}


def read_lock(text: str) -> dict[str, str]:
    """Versions by name, without those that only the tests need."""
    lines = [line for line in text.splitlines() if "==" in line and not line.startswith("#") and "# dev" not in line]
    return {normal(name.strip()): version.strip() for name, _, version in (line.partition("==") for line in lines)}


def compare(found: ClusterEnvironment, locked: Mapping[str, str]) -> Differences:
    """What the cluster's image lacks.

    Raises:
        ClusterError: its Ray is another, or its Python too old; neither can be changed for one job.
    """
    ray_found, ray_locked = found.packages.get("ray"), locked.get("ray")
    if ray_locked and ray_found != ray_locked:
        raise ClusterError(
            f"the cluster runs Ray {ray_found}, the lock says {ray_locked}; start the cluster with that version "
            "(see cluster/README.md)"
        )
    if python_version(found.python) < OLDEST_PYTHON:
        raise ClusterError(f"the cluster runs Python {found.python}; 3.11 or newer is needed")
    wanted, words = [], []
    for name, version in locked.items():
        its = found.packages.get(name)
        # A local version, such as +cpu, is another build of the same.
        if name != "ray" and (its is None or its.split("+")[0] != version):
            wanted.append(f"{name}=={version}")
            words.append(f"{name} {version}, there {its or 'absent'}")
    return Differences(tuple(wanted), tuple(words))


def python_version(text: str) -> tuple[int, int]:
    """(3, 11) of 3.11.2."""
    major, minor, *_ = text.split(".")
    return int(major), int(minor)


def normal(name: str) -> str:
    """The name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def summary(words: Sequence[str], *, most: int = 4) -> str:
    """A list short enough for a line."""
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")
