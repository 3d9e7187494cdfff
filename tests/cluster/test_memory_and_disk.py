"""Machines that run short of memory or disk under Ray: a loss is a line, and the run ends as `max_failures` says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
import yaml

from tests.cluster.conftest import CHECKOUT, without_clouds_and_clusters
from tests.tiny_corpus import SMALL, merge, write_tiny

pytestmark = [pytest.mark.cluster, pytest.mark.ray, pytest.mark.slow, pytest.mark.long]
HOLDS_MEMORY = '''
"""A fusion that keeps 200 MB more with every batch of training, after some."""

import time

import torch
from joyful_ray.model.interfaces import Fused
from pydantic import BaseModel

HELD = []


class Hog(torch.nn.Module):
    class Settings(BaseModel):
        width: int = 8

    def __init__(self, widths, settings):
        super().__init__()
        self.width, self.batches = settings.width, 0
        self.values = torch.nn.ModuleDict({name: torch.nn.Linear(width, self.width) for name, width in widths.items()})

    def forward(self, features, layout):
        self.batches += self.training
        if self.batches > 40:
            HELD.append(torch.ones(50_000_000))
            time.sleep(0.1)
        return Fused(sum(self.values[name](x) for name, x in features.items()), reconstructions={})
'''


def job_of(folder: Path, *changes: dict[str, Any]) -> Path:
    """A job file for one worker, of which one failure is survived."""
    job = merge(SMALL, {"corpus": write_tiny(folder / "corpus"), "storage": str(folder / "runs"), "name": "run"})
    job = merge(job, {"cluster": {"workers": 1, "max_failures": 1, "collective_timeout_s": 20}})
    for change in changes:
        job = merge(job, change)
    file = folder / "job.yaml"
    file.write_text(yaml.safe_dump(job))
    return file


def train(file: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "joyful_ray", "train", str(file)],
        cwd=file.parent,
        env=without_clouds_and_clusters() | {"PYTHONPATH": f"{CHECKOUT}:{file.parent}"} | environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def memory_limit(more: float) -> dict[str, str]:
    """The environment of a Ray that kills processes once so many bytes more are used than now; below 0, always."""
    memory = psutil.virtual_memory()
    share = (memory.total - memory.available + more) / memory.total if more >= 0 else 0.01
    return {"RAY_memory_usage_threshold": f"{share:.4f}", "RAY_memory_monitor_refresh_ms": "250"}


@pytest.mark.parametrize("ingest", ["resident", "streaming"])
def test_tasks_killed_for_want_of_memory_are_tried_a_few_times(tmp_path: Path, ingest: str) -> None:
    """Ray's own default is for ever, with forty lines for each."""
    done = train(job_of(tmp_path, {"data": {"ingest": ingest}}), **memory_limit(-1))
    assert done.returncode == 1, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) <= 5, done.stderr
    assert "failure 1 of 1 that cluster.max_failures allows" in done.stdout + done.stderr
    assert lines[-1].startswith("joyful: OutOfMemoryError: ")
    assert "running low on memory" in lines[-1]


def test_workers_killed_for_want_of_memory_start_again_and_then_end_the_run(tmp_path: Path) -> None:
    (tmp_path / "holds_memory.py").write_text(HOLDS_MEMORY)
    settings = {"model": {"fusion": {"kind": "holds_memory:Hog"}}, "train": {"epochs": 50, "patience": 100}}
    done = train(job_of(tmp_path, settings), **memory_limit(4e9))
    assert done.returncode == 1, done.stderr
    assert "OutOfMemoryError" in done.stderr
    assert "failure 1 of 1 that cluster.max_failures allows, the run continues from its last checkpoint" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    epochs = [line.split("/")[0].strip() for line in done.stdout.splitlines() if "/50 " in line]
    assert epochs == [str(epoch + 1) for epoch in range(len(epochs))], "the second attempt continued"


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A folder with a disk of its own, of 40 MB; the names of Ray's sockets below it must be short."""
    folder = Path(tempfile.mkdtemp(prefix="jd-"))
    words = ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(words, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
    folder.rmdir()


def fill(disk: Path, *, leave: int = 0) -> None:
    with suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:
        left = shutil.disk_usage(disk).free - leave
        while left > 0:
            left -= file.write(bytes(min(left, 65536)))


def test_a_disk_that_fills_under_a_run_is_said_and_ends_it(tmp_path: Path, small_disk: Path) -> None:
    file = job_of(tmp_path, {"storage": str(small_disk / "runs"), "train": {"epochs": 2000, "patience": 5000}})
    fill(small_disk, leave=1_500_000)
    done = train(file)
    assert done.returncode == 1, done.stderr
    said, last = [line for line in done.stderr.splitlines() if "No space left on device" in line]
    assert "failure 1 of 1 that cluster.max_failures allows" in said
    assert last.startswith("joyful: rank 0: StorageError: cannot write ")


def test_a_full_disk_of_rays_own_files_is_said_instead_of_waited_for(tmp_path: Path, small_disk: Path) -> None:
    def fill_once_joined() -> None:
        while not list(small_disk.glob("ray/session_*/logs/python-core-driver-*")):
            time.sleep(0.2)
        fill(small_disk)

    threading.Thread(target=fill_once_joined, daemon=True).start()
    done = train(job_of(tmp_path), RAY_TMPDIR=str(small_disk))
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1].endswith("where Ray keeps its files, is full; make room, or set RAY_TMPDIR")
