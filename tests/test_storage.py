"""Storage: the same calls on a directory and on a bucket of a real S3 server, and one clear line when it fails."""

from __future__ import annotations

import pickle
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from joyful_ray.errors import StorageError
from joyful_ray.storage import Location, open_location, probe, s3
from tests.flaky_s3 import flaky_s3
from tests.s3_server import free_port, make_bucket, s3_server

SECRET = "a-very-secret-value-9f2c"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.s3)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    if request.param == "local":
        return open_location(str(tmp_path / "place"))
    make_bucket(request.getfixturevalue("endpoint"), "bucket")
    name = tmp_path.name.replace("_", "-")
    return open_location(f"s3://bucket/{name}?endpoint_override={request.getfixturevalue('endpoint')}")


def test_what_is_written_is_read_back_and_removed(place: Location) -> None:
    assert not place.exists()
    assert place.list() == []
    place.join("deep", "er/b.txt").write_text("grüße")
    place.join("a.bin").write_bytes(b"\x00\x01")
    assert place.is_dir()
    assert place.list() == ["a.bin", "deep"]
    assert place.join("deep/er/b.txt").read_text() == "grüße"
    assert place.join("a.bin").read_bytes() == b"\x00\x01"
    place.remove()
    assert not place.exists()
    place.remove()


def test_append_adds_lines_to_what_was_there(place: Location) -> None:
    log = place.join("metrics.jsonl")
    log.append_text("one\n")
    log.append_text("two\n")
    assert log.read_text() == "one\ntwo\n"


def test_listing_sees_what_was_written_a_moment_ago(place: Location) -> None:
    place.join("first").write_text("1")
    assert place.list() == ["first"]
    place.join("second").write_text("2")
    assert place.list() == ["first", "second"]


def test_an_interrupted_write_leaves_the_old_content(place: Location) -> None:
    target = place.join("config.yaml")
    target.write_text("old")

    def write_half() -> None:
        with target.open("w") as file:
            file.write("new, but only ha")
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        write_half()
    assert target.read_text() == "old"
    assert place.list() == ["config.yaml"]


def test_text_and_binary_files_open_for_reading_and_writing(place: Location) -> None:
    with place.join("x").open("w") as file:
        file.write("line\n")
    with place.join("x").open("rb") as file:
        assert file.read() == b"line\n"
    with place.join("x").open("r") as file:
        assert file.readlines() == ["line\n"]


def test_a_missing_file_is_named_in_one_line(place: Location) -> None:
    with pytest.raises(StorageError, match=r"cannot read .*nothing-here.*does not exist") as caught:
        place.join("nothing-here").read_bytes()
    assert "\n" not in str(caught.value)


def test_arrow_reads_and_writes_the_same_place(place: Location) -> None:
    table = pa.table({"x": [1, 2, 3]})
    place.join("keep").write_text("")
    filesystem, path = place.join("t.parquet").arrow_filesystem()
    pq.write_table(table, path, filesystem=filesystem)
    assert place.join("t.parquet").read_bytes()[:4] == b"PAR1"
    assert pq.read_table(path, filesystem=filesystem).equals(table)


def test_a_location_survives_pickling_and_its_uri_opens_it_again(place: Location) -> None:
    place.join("x").write_text("content")
    assert pickle.loads(pickle.dumps(place)) == place
    assert open_location(place.join("x").uri).read_text() == "content"
    assert SECRET.encode() not in pickle.dumps(place)


def test_probe_times_each_direction_and_leaves_nothing(place: Location) -> None:
    timings = probe(place.uri)
    assert min(timings.write_s, timings.read_s, timings.remove_s) > 0
    assert place.list() == []


def test_local_paths_are_local_and_bucket_paths_are_not(tmp_path: Path) -> None:
    assert open_location(f"file://{tmp_path}/x").local_path() == tmp_path / "x"
    with pytest.raises(StorageError, match="no local path"):
        open_location("s3://bucket/x").local_path()


@pytest.mark.s3
def test_the_endpoint_may_come_from_the_environment(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make_bucket(endpoint, "elsewhere")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    place = open_location("s3://elsewhere/x")
    place.write_text("there")
    assert place.uri == "s3://elsewhere/x"
    assert open_location(f"s3://elsewhere/x?endpoint_override={endpoint}").read_text() == "there"


@pytest.mark.s3
def test_a_missing_bucket_is_named(endpoint: str) -> None:
    with pytest.raises(StorageError, match=r"no bucket nobody-made-this at http.*; create it first"):
        open_location(f"s3://nobody-made-this/x?endpoint_override={endpoint}").write_text("x")


@pytest.mark.s3
def test_missing_credentials_are_named(endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    try:
        with pytest.raises(StorageError, match="no credentials; set AWS_ACCESS_KEY_ID"):
            open_location(f"s3://no-credentials/x?endpoint_override={endpoint}").read_bytes()
    finally:
        s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.s3
@pytest.mark.parametrize("use", ["read_bytes", "arrow_filesystem"])
def test_an_endpoint_nobody_listens_on_fails_quickly(use: str) -> None:
    place = open_location(f"s3://bucket/x?endpoint_override=http://127.0.0.1:{free_port()}")
    started = time.monotonic()
    with pytest.raises(
        StorageError, match=r"no answer from http://127\.0\.0\.1:\d+ .*check the network and the endpoint"
    ) as caught:
        getattr(place, use)()
    assert time.monotonic() - started < 10
    assert SECRET not in str(caught.value)


@pytest.mark.s3
def test_a_server_that_is_busy_is_asked_again(endpoint: str) -> None:
    """Also before anything else, when it is asked whether there is such a bucket."""
    make_bucket(endpoint, "busy")
    with flaky_s3(endpoint, share=0.2, seed=1) as proxy:
        for _ in range(20):
            s3._first_contact.cache_clear()
            place = open_location(f"s3://busy/x?endpoint_override={proxy.endpoint}")
            place.write_bytes(b"content")
            assert place.read_bytes() == b"content"
    assert sum(proxy.met.values()) > 5


@pytest.mark.s3
def test_a_server_that_never_answers_does_not_block() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        place = open_location(f"s3://bucket/x?endpoint_override=http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(StorageError, match="no answer from"):
            place.exists()
        assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("gs://bucket/x", "gs:// is not supported; use a local path or s3://"),
        (f"s3://key:{SECRET}@bucket/x", "credentials do not belong in a URI"),
        (f"s3://bucket/x?secret_key={SECRET}", "unknown setting secret_key; known are endpoint_override"),
        (f"s3://bucket/x?endpoint_override=http://u:{SECRET}@h", "credentials do not belong in an endpoint"),
        ("s3:///x", "names no bucket"),
        ("", "the path is empty"),
    ],
)
def test_a_wrong_uri_is_refused_without_repeating_secrets(uri: str, message: str) -> None:
    with pytest.raises(StorageError, match=message) as caught:
        open_location(uri)
    assert SECRET not in str(caught.value)


def test_joining_cannot_lead_upward(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="leads out of"):
        open_location(str(tmp_path)).join("a/../../b")


def test_opening_needs_neither_disk_nor_s3fs() -> None:
    import subprocess
    import sys

    code = "import sys, joyful_ray.storage as s; s.open_location('s3://b/x'); sys.exit('s3fs' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert s3.CONNECT_TIMEOUT_S <= 5


def test_a_folder_that_cannot_be_looked_at_is_not_taken_for_an_absent_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose storage fails for a moment must not begin at the first epoch."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot list"):
        open_location(tmp_path / "file").list()
    assert open_location(tmp_path / "none").list() == []
    assert open_location(tmp_path / "file" / "below").list() == []
    (tmp_path / "checkpoints").mkdir()

    def stale(path: str) -> None:
        raise OSError(116, "Stale file handle", path)

    monkeypatch.setattr("os.stat", stale)
    for ask in ("list", "exists", "is_dir"):
        with pytest.raises(StorageError, match="Stale file handle"):
            getattr(open_location("/mnt/checkpoints"), ask)()
