"""Jobs on a Ray cluster: sent, listed, followed and stopped."""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

from joyful_ray.errors import ClusterError
from joyful_ray.submit.cluster_environment import (
    ClusterEnvironment,
    cluster_environment,
    compare,
    locked_versions,
    summary,
)
from joyful_ray.submit.connection import connect, explained, job_server
from joyful_ray.submit.failure import first_error
from joyful_ray.submit.packing import Packing
from joyful_ray.submit.secrets import refuse_secrets
from joyful_ray.submit.submission import Submission
from joyful_ray.version import __version__

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

Dependencies = Literal["auto", "locked", "none"]
Say = Callable[[str], None]
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION")
"""Variables of this shell that are no secret, and of which a bucket of one's own cannot do without the first two."""
RUN, VERSION = "joyful_run", "joyful_version"
STOP_TIMEOUT_S, POLL_S = 30.0, 0.5
END_TIMEOUT_S = 30.0


class JobCard(BaseModel):
    """A job as it is listed.

    Attributes:
        run: name of the run that it works on; of a job that joyful did not send, empty.
        status: PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED.
        started: epoch seconds.
        error: of a failed job, the first error.
    """

    model_config = ConfigDict(frozen=True)

    job: str
    run: str
    status: str
    command: str
    started: float | None = None
    seconds: float | None = None
    error: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return self.status in ("STOPPED", "SUCCEEDED", "FAILED")


class JobServer:
    """The jobs of one cluster.

    Raises:
        ClusterError: nothing answers at the address, or the token is missing or wrong.
    """

    def __init__(self, address: str | None) -> None:
        self.url = job_server(address)
        self._client: JobSubmissionClient = connect(address)

    def submit(
        self,
        submission: Submission,
        packing: Packing,
        *,
        say: Say,
        dependencies: Dependencies = "auto",
        python: str = "python",
        cpus: float = 0.0,
        gpus: float = 0.0,
    ) -> str:
        """Send a command with its files.

        Args:
            say: told what is sent, and how the cluster differs from here.
            dependencies: `auto` installs what the image lacks of the lock; `locked` all of it; `none` nothing.
            python: the cluster's Python.
            cpus, gpus: what the command's own process asks for; its workers ask for themselves.

        Returns:
            The job's id.

        Raises:
            ClusterError: the cluster cannot run it, or a job with this run is under way.
        """
        with explained(self.url):
            self._refuse_twin(submission)
            with cluster_environment(self._client, python=python) as found, tempfile.TemporaryDirectory() as folder:
                environment = self._environment(submission, packing, found, dependencies, say)
                package = Path(folder) / "package.zip"
                size = packing.write(package)
                say(_package_line(packing, size))
                return self._client.submit_job(
                    entrypoint=submission.entrypoint(python),
                    submission_id=_job_id(submission.run),
                    runtime_env={"working_dir": str(package), **environment},
                    metadata={RUN: submission.run, VERSION: __version__},
                    entrypoint_num_cpus=cpus or None,
                    entrypoint_num_gpus=gpus or None,
                )

    def _environment(
        self, submission: Submission, packing: Packing, found: ClusterEnvironment, dependencies: Dependencies, say: Say
    ) -> dict[str, Any]:
        locked = locked_versions(packing.folder)
        differences = compare(found, locked)
        say(f"cluster: {self.url}, Ray {found.packages.get('ray')}, Python {found.python}")
        environment: dict[str, Any] = {}
        wanted = differences.wanted if dependencies != "locked" else _all_of(locked)
        if dependencies == "none" and wanted:
            say(f"dependencies: as the image has them, though these differ: {summary(differences.words)}")
        elif wanted:
            say(f"dependencies: {len(wanted)} are installed for this job: {summary(differences.words or wanted)}")
            environment["pip"] = {"packages": list(wanted), "pip_check": False}
        else:
            say(f"dependencies: none to install; the image has all {len(locked)} at the locked versions")
        if submission.uses_bucket:
            passed = _endpoint_variables(found)
            if passed:
                environment["env_vars"] = passed
            say(_credentials_line(found, passed))
        for note in submission.notes:
            say(f"note: {note}")
        return environment

    def _refuse_twin(self, submission: Submission) -> None:
        if not submission.goes_on:
            return
        for card in self.list():
            if card.run == submission.run and not card.is_over:
                raise ClusterError(
                    f"run {submission.run} is already running as job {card.job}; follow it "
                    f"(joyful jobs logs {card.job} --follow), stop it, or give this one another --name"
                )

    def list(self) -> list[JobCard]:
        """All submitted jobs, the latest first."""
        with explained(self.url):
            found = [each for each in self._client.list_jobs() if each.submission_id]
        return sorted((_card(each) for each in found), key=lambda card: -(card.started or time.time()))

    def find(self, name: str) -> JobCard:
        """A job by its id, or the latest of a run.

        Raises:
            ClusterError: there is none.
        """
        cards = self.list()
        for card in cards:
            if name in (card.job, card.run):
                return self._with_error(card)
        known = summary([card.job for card in cards]) or "none"
        raise ClusterError(f"{self.url} has no job or run {name}; it has {known}")

    def _with_error(self, card: JobCard) -> JobCard:
        if card.status != "FAILED":
            return card
        with explained(self.url):
            message = self._client.get_job_info(card.job).message or ""
            return card.model_copy(update={"error": first_error(self.logs(card.job), message)})

    def logs(self, job: str) -> str:
        """All that a job has printed."""
        with explained(self.url):
            return self._client.get_job_logs(job)

    def follow(self, job: str, write: Callable[[str], None]) -> JobCard:
        """Give what a job prints as it comes, until it is over."""
        printed = 0

        async def tail() -> None:
            nonlocal printed
            async for text in self._client.tail_job_logs(job):
                write(text)
                printed += len(text)

        with explained(self.url):
            asyncio.run(_until_closed(tail))
            deadline = time.monotonic() + END_TIMEOUT_S
            while not self._client.get_job_status(job).is_terminal():
                # The line closed early: what is still to come is asked for.
                if time.monotonic() > deadline:
                    printed += _write_rest(self._client.get_job_logs(job), printed, write)
                time.sleep(POLL_S)
            _write_rest(self._client.get_job_logs(job), printed, write)
        return self.find(job)

    def stop(self, name: str) -> JobCard:
        """Stop a job, or the latest of a run, and wait until it has ended."""
        card = self.find(name)
        if card.is_over:
            return card
        with explained(self.url):
            self._client.stop_job(card.job)
            deadline = time.monotonic() + STOP_TIMEOUT_S
            while not self._client.get_job_status(card.job).is_terminal() and time.monotonic() < deadline:
                time.sleep(POLL_S)
        return self.find(card.job)


async def _until_closed(tail: Callable[[], Any]) -> None:
    """Read until the job server closes the line, in order or not."""
    import aiohttp

    try:
        await tail()
    except (RuntimeError, aiohttp.ClientError):
        return


def _write_rest(log: str, printed: int, write: Callable[[str], None]) -> int:
    rest = log[printed:]
    if rest:
        write(rest)
    return len(rest)


def _card(job: JobDetails) -> JobCard:
    started = job.start_time / 1000 if job.start_time else None
    ended = job.end_time / 1000 if job.end_time else time.time()
    command = re.sub(r"^\S+ -m joyful_ray ", "joyful ", job.entrypoint)
    return JobCard(
        job=job.submission_id or "",
        run=(job.metadata or {}).get(RUN, ""),
        status=str(job.status.value),
        command=command,
        started=started,
        seconds=ended - started if started else None,
    )


def _job_id(run: str) -> str:
    return f"{run}-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:4]}"


def _all_of(locked: dict[str, str]) -> tuple[str, ...]:
    return tuple(f"{name}=={version}" for name, version in locked.items() if name != "ray")


def _endpoint_variables(found: ClusterEnvironment) -> dict[str, str]:
    """Endpoint and region of this shell, for a cluster that names none; addresses, never credentials."""
    if found.has_endpoint:
        return {}
    named = {name: os.environ[name] for name in ENDPOINTS if os.environ.get(name)}
    refuse_secrets(list(named.values()))
    return {name: value for name, value in named.items() if "@" not in value}


def _credentials_line(found: ClusterEnvironment, passed: dict[str, str]) -> str:
    sent = f"; {', '.join(passed)} of this shell is sent" if passed else ""
    if found.credentials:
        known = ", ".join(found.credentials)
        return f"storage: the cluster's own credentials ({known}); none of this shell's are sent{sent}"
    return (
        "storage: warning: the cluster's head has no AWS_ACCESS_KEY_ID, AWS_PROFILE or role variable. Unless its "
        "machine has a role, the job will be denied; give the cluster a secret (cluster/README.md). None is sent from "
        f"here{sent}"
    )


def _package_line(packing: Packing, size: int) -> str:
    left = sorted(packing.left_out)
    stays = f"; left out: {summary(left, most=8)}" if left else ""
    return f"package: {packing.folder}, {len(packing.files)} files, {packing.bytes:,} bytes, {size:,} zipped{stays}"


@contextmanager
def interrupted_politely(server: JobServer, job: str, say: Say) -> Iterator[None]:
    """Ctrl-C leaves the job running, and says how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"{job} goes on; joyful jobs logs {job} --follow --address {server.url} (or stop)")
        raise
