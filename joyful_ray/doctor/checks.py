"""Runs all checks; the slow ones run side by side in the background."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from joyful_ray.doctor.machine import (
    check_cpus,
    check_memory,
    check_shared_memory,
    check_temporary_directory,
    check_working_directory,
)
from joyful_ray.doctor.packages import check_packages, check_python
from joyful_ray.doctor.report import Check, DoctorReport
from joyful_ray.doctor.runtime import check_cluster, check_ray_start, check_storage, check_torch


def run_checks(*, storage: str | None = None, quick: bool = False) -> DoctorReport:
    """Run all checks.

    Args:
        storage: a path or URI where a small object is written, read and removed; None skips this check.
        quick: skip the checks that take seconds: importing torch and starting Ray.
    """
    with ThreadPoolExecutor() as pool:
        slow: list[Callable[[], Check]] = [] if quick else [check_torch, check_ray_start]
        if storage is not None:
            slow.append(lambda: check_storage(storage))
        pending = [pool.submit(check) for check in slow]
        checks = [
            check_python(),
            *check_packages(),
            check_cpus(),
            check_memory(),
            check_working_directory(Path.cwd()),
            check_temporary_directory(Path(tempfile.gettempdir())),
            check_shared_memory(Path("/dev/shm")),
            check_cluster(),
        ]
        return DoctorReport(checks=[*checks, *(check.result() for check in pending)])
