"""Checks of machines that are too small, too full or not writable."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path

import pytest

from joyful_ray.doctor import machine
from joyful_ray.doctor.report import GIB

Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(("free", "status"), [(50, "ok"), (3, "warn"), (0.5, "fail")])
def test_a_disk_that_is_nearly_full_warns_and_then_fails(
    free: float, status: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    total = 12 if free < 50 else 100
    usage = Usage(total * GIB, (total - free) * GIB, free * GIB)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    assert machine.check_working_directory(tmp_path).status == status


def test_a_folder_that_cannot_be_written_fails(tmp_path: Path) -> None:
    check = machine.check_working_directory(tmp_path / "absent")
    assert check.status == "fail"
    assert "storage" in check.advice


def test_small_shared_memory_names_the_docker_option(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(64 * 2**20, 0, 64 * 2**20))
    check = machine.check_shared_memory(tmp_path)
    assert check.status == "warn"
    assert "--shm-size" in check.advice


def test_a_long_temporary_path_warns_about_ray_sockets() -> None:
    assert machine.check_temporary_directory(Path("/tmp/" + "a" * 80)).status == "warn"


def test_a_quota_below_two_cores_advises_one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_cpu_quota", lambda: 0.5)
    assert "--workers 1" in machine.check_cpus().advice
