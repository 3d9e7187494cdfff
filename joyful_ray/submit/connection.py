"""Connects to a Ray cluster's job server: address, token, and clear messages for refused connections."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from joyful_ray.errors import ClusterError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
ADDRESS_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
DEFAULT_TOKEN_FILE = Path("~/.ray/auth_token")
CONNECT_TIMEOUT_S = 10.0
AGENT_TIMEOUT_S, AGENT_POLL_S = 90.0, 2.0
NO_AGENT = "No available agent"
"""Ray's message while the agent that starts jobs is not running yet."""


def job_server(address: str | None) -> str:
    """Return the URL of the job server: the given address, else the one in Ray's variables, else this machine's.

    Raises:
        ClusterError: the address is not the address of a job server.
    """
    named = address or next((os.environ[name] for name in ADDRESS_VARIABLES if os.environ.get(name)), DEFAULT_ADDRESS)
    scheme, separator, _ = named.partition("://")
    if not separator and ":" in named:
        return f"http://{named}".rstrip("/")
    if scheme not in ("http", "https"):
        raise ClusterError(
            f"{named} is not the address of a job server; give the address of the dashboard, such as "
            f"--address {DEFAULT_ADDRESS}"
        )
    if "@" in named:
        raise ClusterError(f"credentials do not belong in an address; set {MODE}=token and {TOKEN} or {TOKEN_PATH}")
    return named.rstrip("/")


def auth_headers() -> dict[str, str]:
    """Return the HTTP header with the token, or nothing if the environment names no token.

    A token in the environment is sent unless RAY_AUTH_MODE says otherwise. The token in Ray's default file is sent only
    with RAY_AUTH_MODE=token, because it may belong to another cluster.

    Raises:
        ClusterError: a token is required, but there is none.
    """
    mode = os.environ.get(MODE, "").lower()
    if mode not in ("", "token"):
        return {}
    token = os.environ.get(TOKEN, "").strip()
    file = os.environ.get(TOKEN_PATH) or (str(DEFAULT_TOKEN_FILE.expanduser()) if mode == "token" else "")
    if not token and file:
        try:
            token = Path(file).expanduser().read_text().strip()
        except OSError as error:
            if os.environ.get(TOKEN_PATH):
                raise ClusterError(f"{TOKEN_PATH} names {file}, which cannot be read ({error.strerror})") from None
    if not token and mode == "token":
        raise ClusterError(
            f"{MODE} is token, but there is no token: set {TOKEN}, or {TOKEN_PATH} to a file that contains it"
        )
    return {"Authorization": f"Bearer {token}"} if token else {}


def connect(address: str | None) -> JobSubmissionClient:
    """Connect to a cluster's job server.

    Raises:
        ClusterError: nothing answers at the address, or the token is missing or wrong; the message says what to set.
    """
    url, headers = job_server(address), auth_headers()
    _check_connection(url, headers)
    from ray.job_submission import JobSubmissionClient

    for name in ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # Ray would prefer its own variables over the address that it receives.
    hidden = {name: os.environ.pop(name) for name in ADDRESS_VARIABLES if name in os.environ}
    try:
        with cluster_errors(url):
            return JobSubmissionClient(url, headers=headers)
    finally:
        os.environ.update(hidden)


def submit_when_ready(client: JobSubmissionClient, **job: Any) -> str:
    """Submit a job, and wait for the cluster's agent if it has not started yet.

    Returns:
        The id of the job.

    Raises:
        RuntimeError: the job server refused the job, or no agent started within `AGENT_TIMEOUT_S`.
    """
    deadline = time.monotonic() + AGENT_TIMEOUT_S
    while True:
        try:
            return client.submit_job(**job)
        except RuntimeError as error:
            if NO_AGENT not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(AGENT_POLL_S)


def _check_connection(url: str, headers: dict[str, str]) -> None:
    import requests

    try:
        answer = requests.get(f"{url}/api/jobs/", headers=headers, timeout=CONNECT_TIMEOUT_S)
    except requests.exceptions.RequestException as error:
        raise ClusterError(_unreachable_message(url, type(error).__name__)) from None
    if answer.status_code == 401:
        raise ClusterError(_token_message(url))
    if answer.status_code == 403:
        raise ClusterError(f"{url} does not accept this token; check {TOKEN}, or the file that {TOKEN_PATH} names")
    if answer.status_code != 200:
        raise ClusterError(
            f"{url} answers with status {answer.status_code} instead of a list of jobs; is it the dashboard of a Ray "
            "head with ray[default]?"
        )


@contextmanager
def cluster_errors(url: str) -> Iterator[None]:
    """Turn the exceptions of Ray's client into a ClusterError with one line."""
    import requests
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError:
        raise ClusterError(_token_message(url)) from None
    except (requests.exceptions.RequestException, ConnectionError) as error:
        raise ClusterError(_unreachable_message(url, type(error).__name__)) from None
    except RuntimeError as error:
        lines = str(error).strip().splitlines()
        raise ClusterError(f"{url}: {lines[0] if lines else 'the job server failed'}") from None


def _token_message(url: str) -> str:
    return (
        f"{url} asks for a token: set {MODE}=token, and {TOKEN} or {TOKEN_PATH} (without either of them, Ray's own "
        f"file {DEFAULT_TOKEN_FILE} is read)"
    )


def _unreachable_message(url: str, reason: str) -> str:
    is_default = url == DEFAULT_ADDRESS and not any(os.environ.get(name) for name in ADDRESS_VARIABLES)
    default = f", the default without --address and {ADDRESS_VARIABLES[0]}" if is_default else ""
    return (
        f"no Ray job server answers at {url}{default} ({reason}); is the head running, and is its port 8265 forwarded "
        "to this machine?"
    )
