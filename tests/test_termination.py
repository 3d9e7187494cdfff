"""Ctrl-C and SIGTERM end a command with one line and its own exit status, and leave no process."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from joyful_ray.config import merge
from joyful_ray.termination import ending_within, interrupt, interruptible
from tests.tiny_corpus import SMALL, write_tiny

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}
WITH_CTRL_C = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
)
STOPPED = "joyful: stopped; the same command continues a run"
SAVED = (
    r"joyful: stopped at (the end of epoch \d+|epoch \d+, step \d of \d), and saved; the same command continues the run"
)


def start(folder: Path, workers: int) -> subprocess.Popen[str]:
    """A run that would take very long."""
    own = {"name": "endless", "corpus": write_tiny(folder / "corpus"), "storage": str(folder / "runs")}
    endless = {"train": {"epochs": 100_000, "patience": 100_000}, "cluster": {"workers": workers}}
    (folder / "job.yaml").write_text(yaml.safe_dump(merge(merge(SMALL, own), endless)))
    # The tests themselves may run in the background of a script, where Ctrl-C is ignored.
    own_ctrl_c = [sys.executable, "-c", WITH_CTRL_C]
    command = [*own_ctrl_c, sys.executable, "-m", "joyful_ray", "train", str(folder / "job.yaml")]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def test_a_handler_that_a_library_left_does_not_keep_a_run_from_being_interrupted() -> None:
    def work() -> None:
        with interruptible():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)

    def left(number: int, frame: object) -> None:
        pass

    before = signal.signal(signal.SIGINT, left)
    try:
        with pytest.raises(KeyboardInterrupt):
            work()
        assert signal.getsignal(signal.SIGINT) is left
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_IGN], ids=["usual", "in the background"])
def test_a_thread_interrupts_the_main_thread_also_where_ctrl_c_is_ignored(handler: Any) -> None:
    def work() -> None:
        with interruptible():
            threading.Timer(0.1, interrupt).start()
            time.sleep(5)

    before = signal.signal(signal.SIGINT, handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            work()
        assert signal.getsignal(signal.SIGINT) is handler
        interrupt()  # outside the block, nothing happens
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.slow
@pytest.mark.parametrize("number", STATUS, ids=lambda number: number.name)
@pytest.mark.parametrize(
    "workers", [0, pytest.param(2, marks=[pytest.mark.ray, pytest.mark.long])], ids=["without Ray", "on Ray"]
)
def test_a_signal_ends_a_run_with_one_line(number: signal.Signals, workers: int, tmp_path: Path) -> None:
    process = start(tmp_path, workers)
    metrics = tmp_path / "runs" / "endless" / "metrics.jsonl"
    while not metrics.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    started = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == STATUS[number]
    (line,) = [line for line in errors.splitlines() if line.startswith("joyful:")]
    if number == signal.SIGTERM:
        assert re.fullmatch(SAVED, line), "SIGTERM saves"
    else:
        assert line == STOPPED
    assert "Traceback" not in errors
    assert "SIGTERM received" not in errors
    assert not (metrics.parent / "lock.json").exists()
    _, left = psutil.wait_procs(started, timeout=20)
    assert left == []


NATIVE_WAIT = """
import ctypes
from joyful_ray.termination import ending_within, stop_on_sigterm

stop_on_sigterm()
mutex, lock = ctypes.create_string_buffer(64), ctypes.CDLL(None).pthread_mutex_lock
with ending_within(0.3, "stopped while waiting"):
    lock(mutex)
    print("waiting", flush=True)
    lock(mutex)  # for ever, whatever signals come
"""


@pytest.mark.parametrize("number", STATUS)
def test_a_signal_ends_a_wait_in_native_code(number: signal.Signals) -> None:
    command = [sys.executable, "-c", WITH_CTRL_C, sys.executable, "-c", NATIVE_WAIT]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    time.sleep(0.5)  # until it waits
    sent = time.monotonic()
    process.send_signal(number)
    _, error = process.communicate(timeout=30)
    assert process.returncode == STATUS[number]
    assert error == "stopped while waiting\n"
    assert time.monotonic() - sent < 2


@pytest.fixture
def with_ctrl_c() -> Iterator[None]:
    """The tests themselves may run where Ctrl-C is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("with_ctrl_c")
def test_a_block_that_python_leaves_by_itself_ends_no_process() -> None:
    """A signal within it raises as elsewhere, and one after it is none of its business."""
    with pytest.raises(KeyboardInterrupt), ending_within(5.0, "never printed"):
        signal.raise_signal(signal.SIGINT)
    with ending_within(5.0, "never printed"):
        pass
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("number", STATUS)
def test_a_signal_ends_joining_a_cluster_that_does_not_answer(number: signal.Signals, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        job = merge(SMALL, {"corpus": write_tiny(tmp_path / "corpus"), "storage": str(tmp_path / "runs")})
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        (tmp_path / "job.yaml").write_text(yaml.safe_dump(merge(job, {"cluster": {"workers": 1, "address": address}})))
        command = [sys.executable, "-c", WITH_CTRL_C, sys.executable, "-m", "joyful_ray", "train"]
        process = subprocess.Popen([*command, str(tmp_path / "job.yaml")], stderr=subprocess.PIPE, text=True)
        connection, _ = silent.accept()  # whether something answers; then Ray itself asks, and waits
        time.sleep(4)
        sent = time.monotonic()
        process.send_signal(number)
        _, error = process.communicate(timeout=60)
        assert process.returncode == STATUS[number]
        assert error.splitlines()[-1].startswith("joyful: stopped")
        assert time.monotonic() - sent < 2
        connection.close()
