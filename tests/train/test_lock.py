"""Only one command at a time may work in a run's directory, on whatever machine and storage."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from joyful_ray.errors import CheckpointError, StorageError
from joyful_ray.records import EpochMetrics
from joyful_ray.storage import open_location
from joyful_ray.train import lock
from joyful_ray.train.launch import train
from joyful_ray.train.lock import LOCK, run_lock
from tests.s3_server import make_bucket, s3_server
from tests.tiny_corpus import small_job


def write_lock(folder: Path, *, host: str, process: int) -> None:
    (folder / LOCK).write_text(json.dumps({"host": host, "process": process}))


def test_a_directory_locked_by_a_running_process_is_refused(tmp_path: Path) -> None:
    with run_lock(open_location(str(tmp_path))):
        with pytest.raises(CheckpointError, match=f"process {os.getpid()} on this machine"):
            with run_lock(open_location(str(tmp_path))):
                pytest.fail("two commands hold one directory")
    assert not (tmp_path / LOCK).exists()


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    write_lock(tmp_path, host=socket.gethostname(), process=ended.pid)
    with run_lock(open_location(str(tmp_path))):
        assert json.loads((tmp_path / LOCK).read_text())["process"] == os.getpid()


@pytest.mark.parametrize("content", ["", "[]", '{"host": 1}', '{"process": "x", "host": "y"}'])
def test_a_damaged_lock_does_not_block(tmp_path: Path, content: str) -> None:
    (tmp_path / LOCK).write_text(content)
    with run_lock(open_location(str(tmp_path))):
        assert json.loads((tmp_path / LOCK).read_text())["process"] == os.getpid()


def test_the_lock_is_released_when_the_command_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        with run_lock(open_location(str(tmp_path))):
            raise RuntimeError
    assert not (tmp_path / LOCK).exists()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases that are renewed and watched for tenths of seconds."""
    for name, seconds in (("RENEW_S", 0.1), ("WATCH_S", 1.0), ("POLL_S", 0.05)):
        monkeypatch.setattr(lock, name, seconds)


HOLDER = """
import socket, sys, time
from joyful_ray.storage import open_location
from joyful_ray.train import lock

socket.gethostname = lambda: "another-machine"
lock.RENEW_S = 0.1
try:
    with lock.run_lock(open_location(sys.argv[1])):
        print("holds", flush=True)
        time.sleep(60)
        print("was not interrupted")
except BaseException as error:
    print(f"{type(error).__name__}: {error}")
"""


@contextmanager
def held_elsewhere(uri: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that believes to be on another machine holds the lease."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, uri], stdout=subprocess.PIPE, text=True, env=os.environ | environment
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "holds\n"
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.usefixtures("quick")
def test_a_lease_that_is_renewed_on_another_machine_is_respected(tmp_path: Path) -> None:
    lines: list[str] = []
    with held_elsewhere(str(tmp_path)):
        with pytest.raises(CheckpointError, match=r"process \d+ on another-machine; wait for it.*--take-over"):
            with run_lock(open_location(str(tmp_path)), waiting=lines.append):
                pytest.fail("two machines hold one directory")
    assert len(lines) == 1
    assert lines[0].startswith("another-machine holds the lease")


@pytest.mark.usefixtures("quick")
def test_a_lease_that_lapsed_on_another_machine_is_taken_over(tmp_path: Path) -> None:
    with held_elsewhere(str(tmp_path)) as holder:
        holder.kill()
        holder.wait()
    assert json.loads((tmp_path / LOCK).read_text())["host"] == "another-machine"
    with run_lock(open_location(str(tmp_path))):
        assert json.loads((tmp_path / LOCK).read_text())["process"] == os.getpid()


@pytest.mark.usefixtures("quick")
def test_a_holder_whose_lease_was_taken_stops(tmp_path: Path) -> None:
    with held_elsewhere(str(tmp_path)) as holder:
        with run_lock(open_location(str(tmp_path)), take_over=True):
            output, _ = holder.communicate(timeout=30)
            assert output.startswith("CheckpointError: run "), output
            assert "was taken over by process" in output
            assert json.loads((tmp_path / LOCK).read_text())["process"] == os.getpid(), "the loser left it alone"
    assert not (tmp_path / LOCK).exists()


@pytest.mark.s3
@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_leases_hold_in_a_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server() as endpoint:
        credentials = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_ENDPOINT_URL": endpoint}
        for name, value in credentials.items():
            monkeypatch.setenv(name, value)
        make_bucket(endpoint, "leases")
        place = open_location("s3://leases/run")
        assert place.join("x").create_bytes(b"first")
        assert not place.join("x").create_bytes(b"second")
        assert place.join("x").read_bytes() == b"first"
        with held_elsewhere(place.uri, **credentials) as holder:
            with pytest.raises(CheckpointError, match="on another-machine; wait for it"), run_lock(place):
                pytest.fail("two machines hold one directory")
            with run_lock(place, take_over=True):
                assert "was taken over by process" in holder.communicate(timeout=30)[0]
        assert not place.join(LOCK).exists()


def test_of_many_commands_that_start_together_one_holds_the_lease(tmp_path: Path) -> None:
    place = open_location(str(tmp_path)).join("one")
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda number: place.create_bytes(str(number).encode()), range(64)))
    assert found.count(True) == 1
    assert place.read_text() == str(found.index(True))
    assert os.listdir(tmp_path) == ["one"]


def test_a_file_system_without_hard_links_has_leases_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(source: str, target: str) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("os.link", refuses)
    place = open_location(str(tmp_path)).join("one")
    assert (place.create_bytes(b"first"), place.create_bytes(b"second")) == (True, False)
    assert place.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["one"]


class WithoutConditions(MemoryFileSystem):
    """A store that knows no conditional writes, as s3fs reports it."""

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **more: Any) -> None:
        if mode == "create":
            raise OSError(errno.ENOSYS, "NotImplemented")
        super().pipe_file(path, value, mode=mode, **more)


def test_a_store_without_conditional_writes_has_leases_too(monkeypatch: pytest.MonkeyPatch) -> None:
    store = WithoutConditions()
    monkeypatch.setattr("joyful_ray.storage.location.s3_filesystem", lambda location: store)
    place = open_location("s3://bucket/run/lease")
    assert (place.create_bytes(b"first"), place.create_bytes(b"second")) == (True, False)
    assert place.read_bytes() == b"first"


@pytest.mark.usefixtures("quick")
def test_a_run_whose_lease_is_taken_writes_nothing_more(
    tiny: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = small_job(corpus=tiny(), storage=str(tmp_path), train={"epochs": 10_000, "patience": 10_000})
    folder = tmp_path / job.name

    def take(metrics: EpochMetrics) -> None:
        if metrics.epoch >= 1:  # again and again, because a renewal at the same moment would undo one
            (folder / LOCK).write_text(json.dumps({"host": "another-machine", "process": 1, "token": "theirs"}))

    with pytest.raises(CheckpointError, match="was taken over by process 1 on another-machine; nothing more"):
        train(job, watch=take)
    assert not (folder / "record.json").exists()
    assert json.loads((folder / LOCK).read_text())["token"] == "theirs"


def test_a_failure_of_storage_at_the_end_does_not_hide_the_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: object) -> bytes:
        raise StorageError("503 from the bucket")

    def work() -> None:
        with run_lock(open_location(str(tmp_path))):
            monkeypatch.setattr("joyful_ray.storage.location.Location.read_bytes", fails)
            monkeypatch.setattr("joyful_ray.storage.location.Location.remove", fails)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
