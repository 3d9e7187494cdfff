"""Access to S3. With `failures.py`, the only code that knows endpoints and credentials.

Credentials come from the places where every AWS tool looks (environment, profile, instance role), never from the URI.
The endpoint is `?endpoint_override=http://host:port` in the URI, else `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`, else
Amazon S3.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import IO, TYPE_CHECKING, Any

from joyful_ray.errors import StorageError

if TYPE_CHECKING:
    import pyarrow.fs

    from joyful_ray.storage.location import Location

CONNECT_TIMEOUT_S = 3
FIRST_CONTACT_READ_TIMEOUT_S = 4
READ_TIMEOUT_S = 15
ATTEMPTS = 6
"""Of each request. Between them come waits that double, with jitter: 15 s in all on average."""
FIRST_ATTEMPTS = 4


@contextlib.contextmanager
def open_remote(location: Location, mode: str) -> Iterator[IO[bytes]]:
    """An object in mode r, rb, w or wb; what is written is uploaded only if the block ends without an error."""
    file = s3_filesystem(location).open(location.path, "rb" if mode.startswith("r") else "wb")
    if mode.startswith("r"):
        with file:
            yield file
        return
    is_whole = False
    try:
        yield file
        is_whole = True
    finally:
        if is_whole:
            file.close()
        else:
            file.discard()
            file.closed = True  # otherwise its finaliser would upload the incomplete part


def bucket_of(location: Location) -> str:
    """Name of the bucket."""
    return location.path.split("/", 1)[0]


def s3_filesystem(location: Location) -> Any:
    """The s3fs file system of a location. The first call in a process checks quickly that the bucket answers."""
    _first_contact(location.endpoint, location.region, bucket_of(location))
    return _client(location.endpoint, location.region, READ_TIMEOUT_S, ATTEMPTS)


@cache
def _first_contact(endpoint: str | None, region: str | None, bucket: str) -> None:
    filesystem = _client(endpoint, region, FIRST_CONTACT_READ_TIMEOUT_S, 1)
    try:
        _patiently(lambda: filesystem.call_s3("head_bucket", Bucket=bucket))
    except FileNotFoundError:
        raise StorageError(f"no bucket {bucket} at {endpoint or 'Amazon S3'}; create it first") from None
    except PermissionError:
        pass  # a key may have rights on objects and none on the bucket itself


def _patiently(ask: Callable[[], object]) -> None:
    """Ask once more if a server answers that it is busy, or hangs up; one that does not answer is not asked again."""
    from botocore.exceptions import ConnectionClosedError, ConnectTimeoutError, ReadTimeoutError

    for attempt in range(1, FIRST_ATTEMPTS + 1):
        try:
            ask()
            return
        except (FileNotFoundError, PermissionError, ConnectTimeoutError, ReadTimeoutError):
            raise
        except (OSError, ConnectionClosedError):
            if attempt == FIRST_ATTEMPTS:
                raise
            time.sleep(random.uniform(0.0, 0.2 * 2**attempt))


def _client(endpoint: str | None, region: str | None, read_timeout_s: int, attempts: int) -> Any:
    import s3fs

    filesystem = s3fs.S3FileSystem(
        endpoint_url=endpoint,
        client_kwargs={"region_name": region} if region else {},
        config_kwargs={
            "connect_timeout": CONNECT_TIMEOUT_S,
            "read_timeout": read_timeout_s,
            "retries": {"total_max_attempts": attempts, "mode": "standard"},
        },
        use_listings_cache=False,
    )
    filesystem.retries = attempts
    return filesystem


def s3_arrow_filesystem(location: Location) -> pyarrow.fs.S3FileSystem:
    """The pyarrow file system of a location, after the same check."""
    import pyarrow.fs

    s3_filesystem(location)
    region = location.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region is None and location.endpoint is None:
        region = pyarrow.fs.resolve_s3_region(bucket_of(location))
    return pyarrow.fs.S3FileSystem(
        endpoint_override=location.endpoint,
        region=region,
        connect_timeout=CONNECT_TIMEOUT_S,
        request_timeout=READ_TIMEOUT_S,
        retry_strategy=pyarrow.fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
    )
