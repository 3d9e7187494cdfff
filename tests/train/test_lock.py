"""Only one command at a time may work in a run's directory."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from joyful_ray.errors import CheckpointError
from joyful_ray.storage import open_location
from joyful_ray.train.lock import LOCK, run_lock


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
