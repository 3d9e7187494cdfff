"""Locations: local paths and s3:// URIs behind one interface."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlsplit

from joyful_ray.errors import StorageError
from joyful_ray.storage.failures import explained
from joyful_ray.storage.local import create_local, open_local, status
from joyful_ray.storage.s3 import open_remote, s3_arrow_filesystem, s3_filesystem

if TYPE_CHECKING:
    import pyarrow.fs

ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
URI_SETTINGS = ("endpoint_override", "region", "scheme")


@dataclass(frozen=True)
class Location:
    """A file or folder in the local file system or in a bucket: frozen, picklable, and free of secrets.

    Attributes:
        path: an absolute local path, or `bucket/key`.
        is_remote: whether it is in a bucket.
        endpoint: URL of the S3 server; None for Amazon S3.
        region: the bucket's region, if the URI names one.
        query: the settings in the user's URI, so that `uri` opens the same location again.
    """

    path: str
    is_remote: bool = False
    endpoint: str | None = None
    region: str | None = None
    query: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @property
    def uri(self) -> str:
        """The path or URI that opens this location again. It never contains credentials."""
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
        """The folder that contains this location."""
        above = self.path.rstrip("/").rpartition("/")[0]
        return Location(
            above or ("" if self.is_remote else "/"), self.is_remote, self.endpoint, self.region, self.query
        )

    def join(self, *parts: str) -> Location:
        """A location below this one. Parts may contain slashes, but must not lead upward."""
        pieces = [piece for part in parts for piece in str(part).split("/") if piece]
        if ".." in pieces:
            raise StorageError(f"{'/'.join(parts)} leads out of {self.uri}; name a file or folder inside it")
        path = "/".join([self.path.rstrip("/"), *pieces])
        return Location(path, self.is_remote, self.endpoint, self.region, self.query)

    def exists(self) -> bool:
        """Whether a file or a folder (S3: at least one object below) exists here."""
        with explained(self, "look at"):
            if not self.is_remote:
                return status(self.path) is not None
            return bool(s3_filesystem(self).exists(self.path))

    def is_dir(self) -> bool:
        """Whether a folder (S3: at least one object below) exists here."""
        with explained(self, "look at"):
            if not self.is_remote:
                found = status(self.path)
                return found is not None and stat.S_ISDIR(found.st_mode)
            return bool(s3_filesystem(self).isdir(self.path))

    def list(self) -> list[str]:
        """Names of the direct children, sorted; empty if nothing is here.

        Raises:
            StorageError: there is something that cannot be listed, such as a file, or a folder of a storage that fails.
        """
        with explained(self, "list"):
            if not self.is_remote:
                return sorted(os.listdir(self.path)) if status(self.path) is not None else []
            filesystem = s3_filesystem(self)
            if not filesystem.isdir(self.path):
                return []
            children = {child.rstrip("/") for child in filesystem.ls(self.path, detail=False)} - {self.path}
            return sorted(child.rsplit("/", 1)[-1] for child in children)

    def read_bytes(self) -> bytes:
        """The whole file."""
        with explained(self, "read"):
            if not self.is_remote:
                return Path(self.path).read_bytes()
            return bytes(s3_filesystem(self).cat_file(self.path))

    def read_text(self) -> str:
        """The whole file as UTF-8."""
        try:
            return self.read_bytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise StorageError(f"{self.uri} is not UTF-8 text (byte {error.start})") from None

    def read_children(self, names: Sequence[str]) -> Sequence[bytes]:
        """The whole files of these names in this folder; those of a bucket are read side by side."""
        if not self.is_remote or not names:
            return [self.join(name).read_bytes() for name in names]
        with explained(self, "read"):
            found = s3_filesystem(self).cat([f"{self.path}/{name}" for name in names])
            return [bytes(found[f"{self.path}/{name}"]) for name in names]

    def remove_children(self, names: Sequence[str]) -> None:
        """Remove the files of these names in this folder; a bucket takes a thousand in one request."""
        if not self.is_remote or not names:
            for name in names:
                self.join(name).remove()
            return
        with explained(self, "remove"):
            s3_filesystem(self).rm([f"{self.path}/{name}" for name in names])

    def write_bytes(self, data: bytes) -> None:
        """Write the whole file. A reader sees the old or the new content, never a part. Missing folders are created."""
        if self.is_remote:
            with explained(self, "write"):
                s3_filesystem(self).pipe_file(self.path, data)
            return
        with self.open("wb") as file:
            file.write(data)

    def create_bytes(self, data: bytes) -> bool:
        """Write the whole file only if there is none; whether it was written. Of several callers, one succeeds."""
        with explained(self, "create"):
            if self.is_remote:
                return _create_remote(s3_filesystem(self), self.path, data)
            return create_local(self.path, data)

    def write_text(self, text: str) -> None:
        """`write_bytes` of UTF-8."""
        self.write_bytes(text.encode("utf-8"))

    def append_text(self, text: str) -> None:
        """Append to the file. In a bucket this rewrites the object, so use it for small files with a single writer."""
        if self.is_remote:
            old = self.read_text() if self.exists() else ""
            self.write_text(old + text)
            return
        with explained(self, "append to"):
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(text)

    @contextlib.contextmanager
    def open(self, mode: str = "rb") -> Iterator[IO[Any]]:
        """A file object in mode r, rb, w or wb. Written content appears only if the block ends without an error."""
        if mode not in ("r", "rb", "w", "wb"):
            raise ValueError(f"mode {mode!r}: use r, rb, w or wb")
        with explained(self, "read" if mode.startswith("r") else "write"):
            opened = open_remote(self, mode) if self.is_remote else open_local(self.path, mode)
            with opened as binary:
                if "b" in mode:
                    yield binary
                else:
                    text = io.TextIOWrapper(binary, encoding="utf-8", newline="")
                    yield text
                    text.flush()
                    text.detach()

    def remove(self) -> None:
        """Remove the file, or the folder with everything below it. Nothing happens if it does not exist."""
        with explained(self, "remove"):
            if self.is_remote:
                filesystem = s3_filesystem(self)
                if filesystem.exists(self.path):
                    filesystem.rm(self.path, recursive=True)
            elif os.path.isdir(self.path) and not os.path.islink(self.path):
                shutil.rmtree(self.path)
            elif os.path.lexists(self.path):
                os.remove(self.path)

    def local_path(self) -> Path:
        """The path on this machine.

        Raises:
            StorageError: the location is in a bucket.
        """
        if self.is_remote:
            raise StorageError(f"{self.uri} is in a bucket and has no local path; copy it to this machine first")
        return Path(self.path)

    def arrow_filesystem(self) -> tuple[pyarrow.fs.FileSystem, str]:
        """(file system, path) as pyarrow and Ray take them. An unreachable endpoint fails here, not in a task."""
        import pyarrow.fs

        if not self.is_remote:
            return pyarrow.fs.LocalFileSystem(), self.path
        with explained(self, "reach"):
            return s3_arrow_filesystem(self), self.path


def open_location(uri: str | os.PathLike[str]) -> Location:
    """The location that a path, file:// or s3:// URI names. Accesses neither disk nor network.

    Raises:
        StorageError: unknown scheme, unknown setting in the URI, or credentials inside the URI.
    """
    text = os.fspath(uri)
    if not text:
        raise StorageError("the path is empty")
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


def _create_remote(filesystem: Any, path: str, data: bytes) -> bool:
    try:
        filesystem.pipe_file(path, data, mode="create")
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        # The store knows no conditional writes, so that two callers at the same moment may both succeed.
        if filesystem.exists(path):
            return False
        filesystem.pipe_file(path, data)
    return True
