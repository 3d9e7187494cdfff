"""Finds out which Python and packages a cluster has, and whether it has credentials for storage."""

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
"""Variables that show where a cluster's credentials come from; only their names are read, never their values."""
OLDEST_PYTHON = (3, 11)
MARKER = "joyful-environment:"
PROBE_PROGRAM = f"""
import importlib.metadata as m, json, os, platform
names = {CREDENTIALS!r}
print({MARKER!r} + json.dumps(dict(
    python=platform.python_version(),
    packages={{d.metadata["Name"]: d.version for d in m.distributions() if d.metadata["Name"]}},
    credentials=[n for n in names if os.environ.get(n)]
    + (["~/.aws"] if os.path.exists(os.path.expanduser("~/.aws/credentials")) else []),
    endpoint=any(os.environ.get(n) for n in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")))))
"""
TIMEOUT_S, POLL_S = 120.0, 0.5
REMOVAL_DELAY_S = 2.0
"""A job that is removed sooner after its end reappears in Ray's list as a failed job."""


@dataclass(frozen=True)
class ClusterEnvironment:
    """The environment of a cluster's head.

    Attributes:
        python: version of Python.
        packages: versions by normalized name.
        credentials: names of the variables or files that provide credentials for a bucket; never values.
        has_endpoint: whether the environment names an S3 server.
    """

    python: str
    packages: Mapping[str, str]
    credentials: tuple[str, ...]
    has_endpoint: bool


@dataclass(frozen=True)
class PackageDifferences:
    """How a cluster's packages differ from the lock file.

    Attributes:
        requirements: `name==version` of each package that is missing or has another version, without Ray.
        descriptions: one text per package for people, with both versions.
    """

    requirements: tuple[str, ...]
    descriptions: tuple[str, ...]


@contextmanager
def cluster_environment(client: JobSubmissionClient, *, python: str) -> Iterator[ClusterEnvironment]:
    """Read the environment with a job of a few seconds, and remove this job at the end of the block.

    Args:
        python: the Python to run on the cluster.

    Raises:
        ClusterError: the cluster could not run the job.
    """
    job = submit_when_ready(
        client,
        entrypoint=f"{shlex.quote(python)} -c {shlex.quote(PROBE_PROGRAM)}",
        submission_id=_probe_job_id(),
    )
    environment = _wait_for_environment(client, job, python)
    ended = time.monotonic()
    try:
        yield environment
    finally:
        time.sleep(max(0.0, REMOVAL_DELAY_S - (time.monotonic() - ended)))
        client.delete_job(job)


def _probe_job_id() -> str:
    return f"joyful-environment-{uuid.uuid4().hex[:8]}"


def _wait_for_environment(client: JobSubmissionClient, job: str, python: str) -> ClusterEnvironment:
    from ray.job_submission import JobStatus

    deadline = time.monotonic() + TIMEOUT_S
    while not (status := client.get_job_status(job)).is_terminal():
        if time.monotonic() > deadline:
            client.stop_job(job)
            raise ClusterError(f"the cluster did not finish a test job within {TIMEOUT_S:.0f} s; see joyful jobs list")
        time.sleep(POLL_S)
    log, message = client.get_job_logs(job), client.get_job_info(job).message or ""
    if status is not JobStatus.SUCCEEDED:
        if "not found" in log or "127" in message:
            raise ClusterError(f"the cluster's head has no program {python}; name its Python with --python PATH")
        reason = (log.strip() or message.strip()).splitlines() or [str(status)]
        raise ClusterError(f"the cluster could not run {python}: {reason[-1]}")
    return read_environment(log)


def read_environment(log: str) -> ClusterEnvironment:
    """Read the environment from the log of the probe job.

    Raises:
        ClusterError: the log does not contain it.
    """
    found = [line.partition(MARKER)[2] for line in log.splitlines() if MARKER in line]
    if not found:
        raise ClusterError(f"the cluster did not report its environment; its test job printed {log.strip()[:200]!r}")
    answer = json.loads(found[-1])
    return ClusterEnvironment(
        python=answer["python"],
        packages={normalized_name(name): version for name, version in answer["packages"].items()},
        credentials=tuple(answer["credentials"]),
        has_endpoint=answer["endpoint"],
    )


def locked_versions(folder: Path) -> dict[str, str]:
    """Return the versions that a job needs, by normalized name.

    They come from the lock file of the folder, else from that of this checkout, else from this environment.
    """
    for place in (folder / LOCK_NAME, Path(joyful_ray.__file__).parents[1] / LOCK_NAME):
        if place.is_file():
            return read_lock(place.read_text())
    required = [re.split(r"[\s\[<>=!~;]", text, maxsplit=1)[0] for text in metadata.requires("joyful-ray") or []]
    return {normalized_name(name): metadata.version(name) for name in required if _is_installed(name)}


def read_lock(text: str) -> dict[str, str]:
    """Read the versions in a lock file by name, without those that only the tests need."""
    lines = [line for line in text.splitlines() if "==" in line and not line.startswith("#") and "# dev" not in line]
    parts = (line.partition("==") for line in lines)
    return {normalized_name(name.strip()): version.strip() for name, _, version in parts}


def compare_packages(environment: ClusterEnvironment, locked: Mapping[str, str]) -> PackageDifferences:
    """Compare a cluster's packages with the lock file.

    Raises:
        ClusterError: the cluster has another version of Ray, or its Python is too old; a job cannot change either.
    """
    ray_found, ray_locked = environment.packages.get("ray"), locked.get("ray")
    if ray_locked and ray_found != ray_locked:
        raise ClusterError(
            f"the cluster runs Ray {ray_found}, but the lock file has {ray_locked}; start the cluster with that "
            "version (see cluster/README.md)"
        )
    if python_version(environment.python) < OLDEST_PYTHON:
        raise ClusterError(f"the cluster runs Python {environment.python}, but 3.11 or newer is needed")
    requirements, descriptions = [], []
    for name, version in locked.items():
        installed = environment.packages.get(name)
        # A local version, such as +cpu, is another build of the same release.
        if name != "ray" and (installed is None or installed.split("+")[0] != version):
            requirements.append(f"{name}=={version}")
            descriptions.append(
                f"{name} {version} ({'missing' if installed is None else f'the image has {installed}'})"
            )
    return PackageDifferences(tuple(requirements), tuple(descriptions))


def python_version(text: str) -> tuple[int, int]:
    """Return (3, 11) for 3.11.2."""
    major, minor, *_ = text.split(".")
    return int(major), int(minor)


def normalized_name(name: str) -> str:
    """Return a package name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def summarize(items: Sequence[str], *, limit: int = 4) -> str:
    """Join items with commas, and count those beyond the limit."""
    return ", ".join(items[:limit]) + (f" and {len(items) - limit} more" if len(items) > limit else "")
