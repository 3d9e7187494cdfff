"""Ctrl-C and SIGTERM end a command with one line and its own exit status, and leave no process."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from joyful_ray.config import merge
from tests.tiny_corpus import SMALL, write_tiny

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}
STOPPED = "joyful: stopped; the same command continues a run"


def start(folder: Path, workers: int) -> subprocess.Popen[str]:
    """A run that would take very long."""
    own = {"name": "endless", "corpus": write_tiny(folder / "corpus"), "storage": str(folder / "runs")}
    endless = {"train": {"epochs": 100_000, "patience": 100_000}, "cluster": {"workers": workers}}
    (folder / "job.yaml").write_text(yaml.safe_dump(merge(merge(SMALL, own), endless)))
    command = [sys.executable, "-m", "joyful_ray", "train", str(folder / "job.yaml")]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


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
    assert [line for line in errors.splitlines() if line.startswith("joyful:")] == [STOPPED]
    assert "Traceback" not in errors
    assert "SIGTERM received" not in errors
    assert not (metrics.parent / "lock.json").exists()
    _, left = psutil.wait_procs(started, timeout=20)
    assert left == []
