"""A path or s3:// URI -> a place to read and write. The only module that knows endpoints and credentials.

Credentials come from where every AWS tool finds them (environment, profile, instance role), never from the URI. The
endpoint is `?endpoint_override=http://host:port` in the URI, else `AWS_ENDPOINT_URL_S3` or
`AWS_ENDPOINT_URL`, else Amazon's own.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlsplit

from joyful_ray.errors import StorageError

if TYPE_CHECKING:
    import pyarrow.fs

CONNECT_TIMEOUT_S = 3
FIRST_CONTACT_READ_TIMEOUT_S = 4
READ_TIMEOUT_S = 15
ATTEMPTS = 2
ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
SECRET_VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID")
URI_SETTINGS = ("endpoint_override", "region", "scheme")


@dataclass(frozen=True)
class Location:
    """A place in the local file system or in a bucket; frozen, picklable, and free of secrets.

    Attributes:
        path: an absolute local path, or `bucket/key`.
        is_remote: whether it lies in a bucket.
        endpoint: URL of the S3 server, None for Amazon's own.
        region: the bucket's region where the URI named one.
        query: the settings the user's URI held, so that `uri` opens the same place again.
    """

    path: str
    is_remote: bool = False
    endpoint: str | None = None
    region: str | None = None
    query: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @property
    def uri(self) -> str:
        """The path or URI that opens this place again; never holds credentials."""
        if not self.is_remote:
            return self.path
        settings = "&".join(f"{key}={quote(value, safe=':/')}" for key, value in self.query)
        return f"s3://{self.path}" + (f"?{settings}" if settings else "")

    def __str__(self) -> str:
        return self.uri

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rstrip("/").rsplit("/", 1)[-1]

    @property
    def parent(self) -> Location:
        """The directory that holds this place."""
        above = self.path.rstrip("/").rpartition("/")[0]
        return Location(
            above or ("" if self.is_remote else "/"), self.is_remote, self.endpoint, self.region, self.query
        )

    def join(self, *parts: str) -> Location:
        """The place below this one; parts may hold slashes but not lead upward."""
        pieces = [piece for part in parts for piece in str(part).split("/") if piece]
        if ".." in pieces:
            raise StorageError(f"{'/'.join(parts)} leads out of {self.uri}; name something inside it")
        path = "/".join([self.path.rstrip("/"), *pieces])
        return Location(path, self.is_remote, self.endpoint, self.region, self.query)

    def exists(self) -> bool:
        """Whether a file or a directory (S3: at least one object below) is here."""
        if not self.is_remote:
            return os.path.exists(self.path)
        with _explained(self, "look at"):
            return bool(_s3(self).exists(self.path))

    def is_dir(self) -> bool:
        """Whether a directory (S3: at least one object below) is here."""
        if not self.is_remote:
            return os.path.isdir(self.path)
        with _explained(self, "look at"):
            return bool(_s3(self).isdir(self.path))

    def list(self) -> list[str]:
        """Names of the direct children, sorted; empty where there is no directory."""
        with _explained(self, "list"):
            if not self.is_remote:
                return sorted(os.listdir(self.path)) if os.path.isdir(self.path) else []
            filesystem = _s3(self)
            if not filesystem.isdir(self.path):
                return []
            children = {child.rstrip("/") for child in filesystem.ls(self.path, detail=False)} - {self.path}
            return sorted(child.rsplit("/", 1)[-1] for child in children)

    def read_bytes(self) -> bytes:
        """The whole file."""
        with _explained(self, "read"):
            if not self.is_remote:
                return Path(self.path).read_bytes()
            return bytes(_s3(self).cat_file(self.path))

    def read_text(self) -> str:
        """The whole file as UTF-8."""
        try:
            return self.read_bytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise StorageError(f"{self.uri} is not UTF-8 text (byte {error.start})") from None

    def write_bytes(self, data: bytes) -> None:
        """Write the whole file: a reader sees the old or the new content, never a part. Parents are created."""
        if self.is_remote:
            with _explained(self, "write"):
                _s3(self).pipe_file(self.path, data)
            return
        with self.open("wb") as file:
            file.write(data)

    def write_text(self, text: str) -> None:
        """`write_bytes` of UTF-8."""
        self.write_bytes(text.encode("utf-8"))

    def append_text(self, text: str) -> None:
        """Add to the end of the file. In a bucket this rewrites the object: one writer at a time, small files only."""
        if self.is_remote:
            old = self.read_text() if self.exists() else ""
            self.write_text(old + text)
            return
        with _explained(self, "append to"):
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(text)

    @contextlib.contextmanager
    def open(self, mode: str = "rb") -> Iterator[IO[Any]]:
        """A file object in mode r, rb, w or wb. What is written appears only when the block ends without an error."""
        if mode not in ("r", "rb", "w", "wb"):
            raise ValueError(f"mode {mode!r}: use r, rb, w or wb")
        with _explained(self, "read" if mode.startswith("r") else "write"):
            opened = _open_remote(self, mode) if self.is_remote else _open_local(self.path, mode)
            with opened as binary:
                if "b" in mode:
                    yield binary
                else:
                    text = io.TextIOWrapper(binary, encoding="utf-8", newline="")
                    yield text
                    text.flush()
                    text.detach()

    def remove(self) -> None:
        """Remove the file, or the directory with all below it; nothing happens where there is nothing."""
        with _explained(self, "remove"):
            if self.is_remote:
                filesystem = _s3(self)
                if filesystem.exists(self.path):
                    filesystem.rm(self.path, recursive=True)
            elif os.path.isdir(self.path) and not os.path.islink(self.path):
                shutil.rmtree(self.path)
            elif os.path.lexists(self.path):
                os.remove(self.path)

    def local_path(self) -> Path:
        """The path on this machine; raises StorageError in a bucket."""
        if self.is_remote:
            raise StorageError(f"{self.uri} is in a bucket and has no local path; copy it to this machine first")
        return Path(self.path)

    def arrow_filesystem(self) -> tuple[pyarrow.fs.FileSystem, str]:
        """(file system, path) as pyarrow and Ray take them; a bucket is looked at once: a dead endpoint fails here."""
        import pyarrow.fs

        if not self.is_remote:
            return pyarrow.fs.LocalFileSystem(), self.path
        with _explained(self, "reach"):
            _s3(self)
            region = self.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
            if region is None and self.endpoint is None:
                region = pyarrow.fs.resolve_s3_region(_bucket(self))
            filesystem = pyarrow.fs.S3FileSystem(
                endpoint_override=self.endpoint,
                region=region,
                connect_timeout=CONNECT_TIMEOUT_S,
                request_timeout=READ_TIMEOUT_S,
                retry_strategy=pyarrow.fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
            )
        return filesystem, self.path


def open_location(uri: str | os.PathLike[str]) -> Location:
    """The place that a path, file:// or s3:// URI names. Touches neither disk nor network.

    Raises:
        StorageError: unknown scheme, unknown setting in the URI, or credentials inside the URI.
    """
    text = os.fspath(uri)
    if not text:
        raise StorageError("an empty path names no place")
    scheme, separator, rest = text.partition("://")
    if not separator:
        return Location(os.path.abspath(os.path.expanduser(text)))
    if scheme == "file":
        return Location(os.path.abspath(rest))
    if scheme in ("s3", "s3a"):
        return _bucket_location(text)
    raise StorageError(f"{scheme}:// is not supported; use a local path or s3://bucket/prefix")


def _bucket_location(uri: str) -> Location:
    parts = urlsplit(uri)
    if "@" in parts.netloc:
        raise StorageError("credentials do not belong in a URI; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    settings = dict(parse_qsl(parts.query, keep_blank_values=True))
    for key in settings:
        if key not in URI_SETTINGS:
            raise StorageError(
                f"s3://{parts.netloc}{parts.path}: unknown setting {key}; known are {', '.join(URI_SETTINGS)} "
                "(credentials come from the environment)"
            )
    if not parts.netloc:
        raise StorageError(f"s3://{parts.path} names no bucket; write s3://bucket/prefix")
    from_environment = next((os.environ[name] for name in ENDPOINT_VARIABLES if os.environ.get(name)), None)
    endpoint = settings.get("endpoint_override") or from_environment
    if endpoint and "://" not in endpoint:
        endpoint = f"{settings.get('scheme', 'https')}://{endpoint}"
    if endpoint and "@" in endpoint:
        raise StorageError("credentials do not belong in an endpoint; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    path = (parts.netloc + parts.path).rstrip("/")
    return Location(path, True, endpoint, settings.get("region"), tuple(sorted(settings.items())))


@dataclass(frozen=True)
class ProbeTimings:
    """Seconds that a small object took in each direction."""

    uri: str
    write_s: float
    read_s: float
    remove_s: float


def probe(uri: str) -> ProbeTimings:
    """Write, read back and remove a small object below `uri`.

    Raises:
        StorageError: one line that says which of the three failed and why.
    """
    location = open_location(uri)
    existed = location.exists()
    target = location.join(f".joyful-probe-{uuid.uuid4().hex}")
    data = uuid.uuid4().bytes * 64
    marks = [time.perf_counter()]
    target.write_bytes(data)
    marks.append(time.perf_counter())
    found = target.read_bytes()
    marks.append(time.perf_counter())
    target.remove()
    marks.append(time.perf_counter())
    if found != data:
        raise StorageError(f"{location.uri} gave back other bytes ({len(found)}) than were written ({len(data)})")
    if not existed and not location.is_remote:
        location.remove()
    write_s, read_s, remove_s = (after - before for before, after in itertools.pairwise(marks))
    return ProbeTimings(location.uri, write_s, read_s, remove_s)


@contextlib.contextmanager
def _open_local(path: str, mode: str) -> Iterator[IO[bytes]]:
    if mode.startswith("r"):
        with open(path, "rb") as file:
            yield file
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    unfinished = f"{path}.{uuid.uuid4().hex[:8]}.unfinished"
    try:
        with open(unfinished, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(unfinished)


@contextlib.contextmanager
def _open_remote(location: Location, mode: str) -> Iterator[IO[bytes]]:
    file = _s3(location).open(location.path, "rb" if mode.startswith("r") else "wb")
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
            file.closed = True  # else its finaliser would upload the part that was written


def _bucket(location: Location) -> str:
    return location.path.split("/", 1)[0]


def _s3(location: Location) -> Any:
    """The s3fs file system of a location, after one quick look at the bucket in this process."""
    _first_contact(location.endpoint, location.region, _bucket(location))
    return _s3_filesystem(location.endpoint, location.region, READ_TIMEOUT_S, ATTEMPTS)


@cache
def _first_contact(endpoint: str | None, region: str | None, bucket: str) -> None:
    filesystem = _s3_filesystem(endpoint, region, FIRST_CONTACT_READ_TIMEOUT_S, 1)
    try:
        filesystem.call_s3("head_bucket", Bucket=bucket)
    except FileNotFoundError:
        raise StorageError(f"there is no bucket {bucket} at {endpoint or 'Amazon S3'}; create it first") from None
    except PermissionError:
        pass  # a key may hold rights on objects and none on the bucket itself


def _s3_filesystem(endpoint: str | None, region: str | None, read_timeout_s: int, attempts: int) -> Any:
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


@contextlib.contextmanager
def _explained(location: Location, doing: str) -> Iterator[None]:
    """Turn what the file system raises into one clear line without secrets."""
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
