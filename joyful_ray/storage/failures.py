"""Why a file or an object cannot be used, in one line without secrets."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from joyful_ray.errors import StorageError

if TYPE_CHECKING:
    from joyful_ray.storage.location import Location

SECRET_VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID")


@contextlib.contextmanager
def explained(location: Location, doing: str) -> Iterator[None]:
    """Turn errors of the file system into a StorageError of one clear line, without secrets.

    Args:
        location: what is accessed.
        doing: a verb for the message, such as read.
    """
    kinds: tuple[type[Exception], ...] = (OSError,)
    if location.is_remote:
        from botocore.exceptions import BotoCoreError, ClientError

        kinds = (OSError, BotoCoreError, ClientError)
    try:
        yield
    except kinds as error:
        raise StorageError(f"cannot {doing} {location.uri}: {_reason(error, location)}") from None


def _reason(error: Exception, location: Location) -> str:
    kind = type(error).__name__
    if kind in ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound"):
        return "no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    if location.is_remote and kind.endswith(("ConnectionError", "ConnectionClosedError", "TimeoutError", "SSLError")):
        where = location.endpoint or "Amazon S3"
        return f"no answer from {where} ({kind}); check the network and the endpoint (AWS_ENDPOINT_URL)"
    if isinstance(error, FileNotFoundError):
        return "it does not exist"
    if isinstance(error, PermissionError):
        if location.is_remote:
            return "access denied; check that the credentials are right and allow it"
        return "permission denied; check the owner and mode of the file"
    return _without_secrets(f"{kind}: {error}").replace("\n", " ")


def _without_secrets(text: str) -> str:
    for name in SECRET_VARIABLES:
        value = os.environ.get(name)
        if value:
            text = text.replace(value, f"<{name}>")
    return text
