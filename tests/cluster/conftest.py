"""A real Ray head with token authentication and a bucket; only the head has the credentials of the bucket."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil  # type: ignore[import-untyped]
import pytest

from tests.s3_server import free_port, make_bucket, s3_server

CHECKOUT = Path(__file__).parents[2]
BUCKET = "clusters"
START_TIMEOUT_S = 240


@dataclass(frozen=True)
class Head:
    """A Ray head on this machine.

    Attributes:
        url: URL of the job server.
        address: at which a process joins the cluster.
        endpoint: URL of the S3 server.
        shell: the environment of a user who submits jobs; its credentials are not those of the head.
        temporary: where Ray keeps its session with all logs.
        token, secret: secrets of the cluster and of its bucket, created for each head, so that no file contains them.
    """

    url: str
    address: str
    endpoint: str
    shell: dict[str, str]
    temporary: Path
    token: str
    secret: str

    def joyful(self, *words: str, timeout_s: float = 900) -> subprocess.CompletedProcess[str]:
        """Run one command like the user."""
        return subprocess.run(
            [sys.executable, "-m", "joyful_ray", *words],
            cwd=CHECKOUT,
            env=self.shell,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def bash(self, script: str, timeout_s: float = 900) -> subprocess.CompletedProcess[str]:
        """Run a block of a README like the user."""
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=CHECKOUT,
            env=self.shell,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )


def without_clouds_and_clusters() -> dict[str, str]:
    """Return the environment of this process without variables that name a bucket or a cluster."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RAY_ADDRESS"))}


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """Start the head, whose environment has the credentials of the bucket."""
    token, secret, shell_secret = (f"planted-{secrets.token_hex(16)}" for _ in range(3))
    programs = tmp_path_factory.mktemp("programs")
    (programs / "joyful").write_text(f'#!/bin/sh\nexec {sys.executable} -m joyful_ray "$@"\n')
    (programs / "joyful").chmod(0o755)
    plain = without_clouds_and_clusters() | {
        "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(CHECKOUT),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
    }
    # The path of a socket may have at most 107 characters, so this folder is directly in the temporary directory.
    temporary = Path(tempfile.mkdtemp(prefix="jh-"))
    with s3_server() as endpoint:
        make_bucket(endpoint, BUCKET)
        credentials = {"AWS_ACCESS_KEY_ID": "cluster", "AWS_ENDPOINT_URL": endpoint, "AWS_DEFAULT_REGION": "us-east-1"}
        port, joining = free_port(), free_port()
        command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", f"--port={joining}"]
        command += [f"--dashboard-port={port}", "--dashboard-host=127.0.0.1", "--num-cpus=4", "--disable-usage-stats"]
        command += [f"--temp-dir={temporary}", f"--ray-client-server-port={free_port()}"]
        command += ["--object-store-memory=300000000"]
        # By default every head of a machine has the same port for its agent, so that of a second one would not start.
        command += [f"--dashboard-agent-listen-port={free_port()}"]
        log = temporary / "start.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                command,
                env=plain | credentials | {"AWS_SECRET_ACCESS_KEY": secret},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_until_ready(url, token, process, log)
            shell = plain | {"AWS_ACCESS_KEY_ID": "shell", "AWS_SECRET_ACCESS_KEY": shell_secret}
            shell |= {"RAY_API_SERVER_ADDRESS": url, "BUCKET": f"s3://{BUCKET}/joyful"}
            yield Head(url, f"127.0.0.1:{joining}", endpoint, shell, temporary, token, secret)
        finally:
            _end(process)
            shutil.rmtree(temporary, ignore_errors=True)


def _wait_until_ready(url: str, token: str, process: subprocess.Popen[bytes], log: Path) -> None:
    request = urllib.request.Request(f"{url}/api/jobs/", headers={"Authorization": f"Bearer {token}"})
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(request, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise RuntimeError(f"no Ray head at {urlsplit(url).netloc}: {log.read_text()[-2000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the processes that were started here, and no other Ray on this machine."""
    try:
        started = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        started = []
    # `ray start --block` takes half a minute to end its children, so they are asked at the same time.
    process.terminate()
    for child in started:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.terminate()
    _, left = psutil.wait_procs(started, timeout=5)
    for child in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    process.kill()
    process.wait()
