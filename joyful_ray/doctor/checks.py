"""Runs all checks; the slow ones run side by side in the background."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from joyful_ray.doctor import machine, packages, runtime
from joyful_ray.doctor.report import Check, DoctorReport


def run_checks(*, storage: str | None = None, quick: bool = False) -> DoctorReport:
    """Run all checks.

    Args:
        storage: a path or URI where a small object is written, read and removed; None skips this check.
        quick: skip the checks that take seconds: importing torch and starting Ray.
    """
    with ThreadPoolExecutor() as pool:
        slow: list[Callable[[], Check]] = [] if quick else [runtime.check_torch, runtime.check_ray_start]
        if storage is not None:
            slow.append(lambda: runtime.check_storage(storage))
        pending = [pool.submit(check) for check in slow]
        checks = [
            packages.check_python(),
            *packages.check_packages(),
            machine.check_cpus(),
            machine.check_memory(),
            machine.check_working_directory(Path.cwd()),
            machine.check_temporary_directory(Path(tempfile.gettempdir())),
            machine.check_shared_memory(Path("/dev/shm")),
            runtime.check_cluster(),
        ]
        return DoctorReport(checks=[*checks, *(check.result() for check in pending)])
