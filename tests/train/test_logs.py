"""The logs of a command and of a worker are copied into the run's folder."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from joyful_ray.errors import StorageError
from joyful_ray.storage import Location, open_location
from joyful_ray.train import logs
from joyful_ray.train.launch import train
from joyful_ray.train.logs import command_log, copying_at_end, copying_own_log, own_logs, tail
from tests.tiny_corpus import small_job, write_tiny


def read(folder: Path, what: str) -> str:
    (file,) = folder.glob(f"*-{what}.log")
    return file.read_text()


def test_a_command_notes_what_it_says_and_how_it_ends(tmp_path: Path) -> None:
    said: list[str] = []
    with command_log(open_location(tmp_path), said.append) as say:
        say("waiting for 2 workers")
    assert said == ["waiting for 2 workers"]
    first, second, last = read(tmp_path, "command").splitlines()
    assert f"process {os.getpid()} on " in first
    assert second.endswith("Z waiting for 2 workers")
    assert last.endswith("Z finished")


def test_a_command_that_fails_has_its_traceback_in_the_log(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="broken"), command_log(open_location(tmp_path), print):
        raise ValueError("broken")
    text = read(tmp_path, "command")
    assert "ValueError: broken" in text
    assert "test_logs.py" in text
    assert "finished" not in text


def test_a_run_leaves_the_log_of_its_command(tmp_path: Path) -> None:
    job = small_job({"corpus": write_tiny(tmp_path / "corpus"), "storage": str(tmp_path)})
    train(job)
    assert read(tmp_path / job.name / "logs", "command").rstrip().endswith("finished")


@pytest.fixture
def printed(tmp_path: Path) -> Iterator[Path]:
    """The file to which this process prints, through a logger."""
    file = tmp_path / "own.log"
    handler = logging.FileHandler(file)
    logging.getLogger("ray.train").addHandler(handler)
    yield file
    logging.getLogger("ray.train").removeHandler(handler)
    handler.close()


def test_the_log_of_a_process_is_copied_while_it_grows(
    tmp_path: Path, printed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "COPY_S", 0.05)
    target = tmp_path / "copies"
    with copying_own_log(open_location(target), "rank-001"):
        printed.write_text("one\n")
        deadline = time.monotonic() + 10
        while not list(target.glob("*.log")) or "one" not in read(target, "rank-001"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        printed.write_text("one\ntwo\n")
    text = read(target, "rank-001")
    assert "--- own.log\none\ntwo\n" in text


def test_what_ended_a_process_is_in_the_copy(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), copying_own_log(open_location(tmp_path), "rank-000"):
        raise KeyboardInterrupt
    assert "KeyboardInterrupt" in read(tmp_path, "rank-000")


def test_the_files_of_a_process_are_found(tmp_path: Path, printed: Path) -> None:
    assert printed in own_logs()
    if sys.platform == "linux":
        with (tmp_path / "stdout").open("w") as file:
            saved = os.dup(1)
            os.dup2(file.fileno(), 1)
            try:
                assert tmp_path / "stdout" in own_logs()
            finally:
                os.dup2(saved, 1)
                os.close(saved)


def test_of_a_long_log_the_end_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MOST_BYTES", 4)
    (tmp_path / "long").write_text("0123456789")
    assert tail(tmp_path / "long") == "6789"
    assert tail(tmp_path / "none") == ""


def test_only_files_of_the_block_are_copied_at_its_end(tmp_path: Path) -> None:
    old, new = tmp_path / "old.txt", tmp_path / "new.txt"
    old.write_text("old")
    os.utime(old, (1, 1))
    with copying_at_end(open_location(tmp_path / "copies"), lambda: [old, new, tmp_path / "none"]):
        new.write_text("new")
    (copied,) = (tmp_path / "copies").iterdir()
    assert copied.name.endswith("-new.log")
    assert copied.read_text() == "new"


def test_storage_that_fails_loses_a_log_and_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object) -> None:
        raise StorageError("full")

    monkeypatch.setattr(Location, "write_text", fails)
    monkeypatch.setattr(Location, "append_text", fails)
    said: list[str] = []
    with (
        command_log(open_location(tmp_path), said.append) as say,
        copying_own_log(open_location(tmp_path), "rank-000"),
        copying_at_end(open_location(tmp_path), lambda: [Path(__file__)]),
    ):
        say("still here")
    assert said == ["still here"]
    assert not list(tmp_path.iterdir())
