"""Submits jobs to a Ray cluster, and lists, follows and stops them."""

from __future__ import annotations

import asyncio
import re
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from joyful_ray.errors import ClusterError
from joyful_ray.submit.cluster_environment import cluster_environment, summarize
from joyful_ray.submit.connection import cluster_errors, connect, job_server, submit_when_ready
from joyful_ray.submit.failure import first_error
from joyful_ray.submit.packing import Packing
from joyful_ray.submit.runtime_env import Dependencies, WriteLine, runtime_env_of
from joyful_ray.submit.submission import Submission
from joyful_ray.version import __version__
from joyful_ray.wording import counted

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

RUN, VERSION = "joyful_run", "joyful_version"
STOP_TIMEOUT_S, POLL_S = 30.0, 0.5
END_TIMEOUT_S = 30.0


class JobEntry(BaseModel):
    """One job in the list of jobs.

    Attributes:
        job: the id of the job.
        run: name of the run that the job works on; empty if joyful did not submit the job.
        status: PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED.
        command: the command that the job runs.
        started: when it started, in seconds since 1970; None if it has not started.
        seconds: how long it has run.
        error: the first error of a failed job.
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
        """Whether the job has ended."""
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
        write_line: WriteLine,
        dependencies: Dependencies = "auto",
        python: str = "python",
        cpus: float = 0.0,
        gpus: float = 0.0,
    ) -> str:
        """Submit a command with its files.

        Args:
            submission: the command.
            packing: the files that are sent with it.
            write_line: called with each line that says what is sent and how the cluster differs from this machine.
            dependencies: "auto", "locked" or "none"; see `runtime_env_of`.
            python: the Python to run on the cluster.
            cpus, gpus: how many the process of the command itself reserves; its workers reserve theirs separately.

        Returns:
            The id of the job.

        Raises:
            ClusterError: the cluster cannot run the command, or another job already works on this run.
        """
        with cluster_errors(self.url):
            self._refuse_second_job(submission)
            with cluster_environment(self._client, python=python) as found, tempfile.TemporaryDirectory() as folder:
                write_line(f"cluster: {self.url}, Ray {found.packages.get('ray')}, Python {found.python}")
                runtime_env = runtime_env_of(submission, packing, found, dependencies, write_line)
                package = Path(folder) / "package.zip"
                size = packing.write(package)
                write_line(_package_line(packing, size))
                return submit_when_ready(
                    self._client,
                    entrypoint=submission.entrypoint(python),
                    submission_id=_job_id(submission.run),
                    runtime_env={"working_dir": str(package), **runtime_env},
                    metadata={RUN: submission.run, VERSION: __version__},
                    entrypoint_num_cpus=cpus or None,
                    entrypoint_num_gpus=gpus or None,
                )

    def _refuse_second_job(self, submission: Submission) -> None:
        if not submission.uses_run_directory:
            return
        for entry in self.list():
            if entry.run == submission.run and not entry.is_over:
                raise ClusterError(
                    f"run {submission.run} is already running as job {entry.job}; follow it "
                    f"(joyful jobs logs {entry.job} --follow), stop it, or choose another --name"
                )

    def list(self) -> list[JobEntry]:
        """Return all submitted jobs, the latest first."""
        with cluster_errors(self.url):
            jobs = [job for job in self._client.list_jobs() if job.submission_id]
        return sorted(map(_entry, jobs), key=lambda entry: -(entry.started or time.time()))

    def find(self, name: str) -> JobEntry:
        """Return a job by its id, or the latest job of a run.

        Raises:
            ClusterError: there is no such job or run.
        """
        entries = self.list()
        for entry in entries:
            if name in (entry.job, entry.run):
                return self._with_error(entry)
        known = f"it has {summarize([entry.job for entry in entries])}" if entries else "it has no jobs"
        raise ClusterError(f"{self.url} has no job or run {name}; {known}")

    def _with_error(self, entry: JobEntry) -> JobEntry:
        if entry.status != "FAILED":
            return entry
        with cluster_errors(self.url):
            message = self._client.get_job_info(entry.job).message or ""
            return entry.model_copy(update={"error": first_error(self.logs(entry.job), message)})

    def logs(self, job: str) -> str:
        """Return everything that a job has printed so far."""
        with cluster_errors(self.url):
            return self._client.get_job_logs(job)

    def follow(self, job: str, write: Callable[[str], None]) -> JobEntry:
        """Pass on what a job prints while it runs, and return when it has ended.

        Args:
            write: called with each piece of text.
        """
        printed = 0

        async def tail() -> None:
            nonlocal printed
            async for text in self._client.tail_job_logs(job):
                write(text)
                printed += len(text)

        with cluster_errors(self.url):
            asyncio.run(_read_until_closed(tail))
            deadline = time.monotonic() + END_TIMEOUT_S
            while not self._client.get_job_status(job).is_terminal():
                # The stream was closed early, so the rest of the log is polled.
                if time.monotonic() > deadline:
                    printed += _write_rest(self._client.get_job_logs(job), printed, write)
                time.sleep(POLL_S)
            _write_rest(self._client.get_job_logs(job), printed, write)
        return self.find(job)

    def stop(self, name: str) -> JobEntry:
        """Stop a job, or the latest job of a run, and wait until it has ended."""
        entry = self.find(name)
        if entry.is_over:
            return entry
        with cluster_errors(self.url):
            self._client.stop_job(entry.job)
            deadline = time.monotonic() + STOP_TIMEOUT_S
            while not self._client.get_job_status(entry.job).is_terminal() and time.monotonic() < deadline:
                time.sleep(POLL_S)
        return self.find(entry.job)


async def _read_until_closed(tail: Callable[[], Any]) -> None:
    """Read until the job server closes the stream, whether or not the job has ended."""
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


def _entry(job: JobDetails) -> JobEntry:
    started = job.start_time / 1000 if job.start_time else None
    ended = job.end_time / 1000 if job.end_time else time.time()
    command = re.sub(r"^\S+ -m joyful_ray ", "joyful ", job.entrypoint)
    return JobEntry(
        job=job.submission_id or "",
        run=(job.metadata or {}).get(RUN, ""),
        status=str(job.status.value),
        command=command,
        started=started,
        seconds=ended - started if started else None,
    )


def _job_id(run: str) -> str:
    return f"{run}-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:4]}"


def _package_line(packing: Packing, size: int) -> str:
    excluded = sorted(packing.left_out)
    left_out = f"; left out: {summarize(excluded, limit=8)}" if excluded else ""
    files = counted(len(packing.files), "file")
    return f"package: {packing.folder}, {files}, {packing.bytes:,} bytes, {size:,} zipped{left_out}"


@contextmanager
def keep_running_on_interrupt(server: JobServer, job: str, write_line: WriteLine) -> Iterator[None]:
    """On Ctrl-C, say that the job continues and how to follow or stop it."""
    try:
        yield
    except KeyboardInterrupt:
        address = f"--address {server.url}"
        write_line(
            f"job {job} continues on the cluster. To follow it: joyful jobs logs {job} --follow {address}. "
            f"To stop it: joyful jobs stop {job} {address}"
        )
        raise
