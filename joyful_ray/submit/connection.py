"""A line to a Ray cluster's job server: its address, its token, and what its refusals mean."""

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
SECOND_LOOK_TIMEOUT_S = 10.0
AGENT_TIMEOUT_S, AGENT_POLL_S = 90.0, 2.0
NO_AGENT = "No available agent"
"""What Ray answers while the agent that starts jobs is not up yet."""


def job_server(address: str | None) -> str:
    """The URL of the job server: as given, or as Ray's own variables say, or this machine's.

    Raises:
        ClusterError: the address is of another kind.
    """
    named = address or next((os.environ[name] for name in ADDRESS_VARIABLES if os.environ.get(name)), DEFAULT_ADDRESS)
    scheme, separator, _ = named.partition("://")
    if not separator and ":" in named:
        return f"http://{named}".rstrip("/")
    if scheme not in ("http", "https"):
        raise ClusterError(
            f"{named} is no address of a job server; give the dashboard's, such as --address {DEFAULT_ADDRESS}"
        )
    if "@" in named:
        raise ClusterError(f"credentials do not belong in an address; set {MODE}=token and {TOKEN} or {TOKEN_PATH}")
    return named.rstrip("/")


def auth_headers() -> dict[str, str]:
    """The header with the token, where the environment names one.

    A token in the environment is sent unless RAY_AUTH_MODE says otherwise; that of Ray's own file only with
    RAY_AUTH_MODE=token, since it may be another cluster's.

    Raises:
        ClusterError: a token is asked for, and there is none.
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
        raise ClusterError(f"{MODE} is token, but there is none: set {TOKEN}, or {TOKEN_PATH} to a file that holds it")
    return {"Authorization": f"Bearer {token}"} if token else {}


def connect(address: str | None) -> JobSubmissionClient:
    """A client of the cluster's job server.

    Raises:
        ClusterError: nothing answers there, or the token is missing or wrong; what to set.
    """
    url, headers = job_server(address), auth_headers()
    _look_at(url, headers)
    from ray.job_submission import JobSubmissionClient

    for name in ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # Ray would take its own variables before the address that it is given.
    hidden = {name: os.environ.pop(name) for name in ADDRESS_VARIABLES if name in os.environ}
    try:
        with explained(url):
            return JobSubmissionClient(url, headers=headers)
    finally:
        os.environ.update(hidden)


def submit_when_ready(client: JobSubmissionClient, **job: Any) -> str:
    """Submit a job; wait for the cluster's agent if it has not started yet. Returns the job's id.

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


def _look_at(url: str, headers: dict[str, str]) -> None:
    import requests

    try:
        answer = requests.get(f"{url}/api/jobs/", headers=headers, timeout=SECOND_LOOK_TIMEOUT_S)
    except requests.exceptions.RequestException as error:
        raise ClusterError(_no_answer(url, type(error).__name__)) from None
    if answer.status_code == 401:
        raise ClusterError(_no_token(url))
    if answer.status_code == 403:
        raise ClusterError(f"{url} does not take this token; see {TOKEN}, or the file that {TOKEN_PATH} names")
    if answer.status_code != 200:
        raise ClusterError(
            f"{url} answers {answer.status_code} where jobs should be listed; is it the dashboard of a Ray head with "
            "ray[default]?"
        )


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Turn what Ray's client raises into one line."""
    import requests
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError:
        raise ClusterError(_no_token(url)) from None
    except (requests.exceptions.RequestException, ConnectionError) as error:
        raise ClusterError(_no_answer(url, type(error).__name__)) from None
    except RuntimeError as error:
        lines = str(error).strip().splitlines()
        raise ClusterError(f"{url}: {lines[0] if lines else 'the job server failed'}") from None


def _no_token(url: str) -> str:
    return (
        f"{url} asks for a token: set {MODE}=token, and {TOKEN} or {TOKEN_PATH} (without either, Ray's own file "
        f"{DEFAULT_TOKEN_FILE} is read)"
    )


def _no_answer(url: str, reason: str) -> str:
    none_set = url == DEFAULT_ADDRESS and not any(os.environ.get(name) for name in ADDRESS_VARIABLES)
    usual = f", the address where none is given by --address or {ADDRESS_VARIABLES[0]}" if none_set else ""
    return f"no Ray job server answers at {url}{usual} ({reason}); is the head up, and its port 8265 forwarded to here?"
