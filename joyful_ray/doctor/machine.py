"""Checks of this machine: cores, memory, disks, shared memory."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from joyful_ray.doctor.checks import GIB, Check

LEAST_MEMORY_BYTES = 4 * GIB
LEAST_DISK_BYTES = 5 * GIB
LEAST_OBJECT_STORE_BYTES = 2 * GIB
FULL_DISK_SHARE = 0.95
"""Ray starts no more tasks on a disk that is fuller than this."""
LONGEST_TEMPORARY_FOLDER = 40
"""Ray puts sockets there, whose whole path may have 107 characters."""


def check_cpus() -> Check:
    """At least one core for each of the two default workers."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cpu_quota()
    if quota is not None and quota < count:
        found, usable = f"{count}, of which this container may use {quota:g}", quota
    else:
        found, usable = str(count), float(count)
    if usable < 2:
        return Check(name="cpus", status="warn", found=found, advice="two workers would share a core; use --workers 1")
    return Check(name="cpus", status="ok", found=found)


def _cpu_quota() -> float | None:
    limit = read_text("/sys/fs/cgroup/cpu.max").split()
    return int(limit[0]) / int(limit[1]) if len(limit) == 2 and limit[0].isdigit() else None


def check_memory() -> Check:
    """Enough memory for Ray, two workers and a small corpus."""
    name = "memory"
    total, available = memory_bytes()
    if total is None or available is None:
        return Check(name=name, status="ok", found="unknown on this system")
    found = f"{available / GIB:.1f} GiB free of {total / GIB:.1f}"
    if available < LEAST_MEMORY_BYTES:
        return Check(
            name=name, status="warn", found=found, advice="less than 4 GiB: Ray may kill workers; close other programs"
        )
    return Check(name=name, status="ok", found=found)


def memory_bytes() -> tuple[int | None, int | None]:
    """Total and free memory of this machine, or of the container if that is less."""
    lines = [line.split() for line in read_text("/proc/meminfo").splitlines()]
    sizes = {parts[0].rstrip(":"): int(parts[1]) * 1024 for parts in lines if len(parts) >= 2 and parts[1].isdigit()}
    total, available = sizes.get("MemTotal"), sizes.get("MemAvailable")
    limit, used = read_text("/sys/fs/cgroup/memory.max").strip(), read_text("/sys/fs/cgroup/memory.current").strip()
    if total is not None and available is not None and limit.isdigit() and used.isdigit() and int(limit) < total:
        return int(limit), min(available, int(limit) - int(used))
    return total, available


def read_text(path: str) -> str:
    """The file, or an empty text if it cannot be read."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def check_folder(folder: Path) -> Check:
    """Runs are written below the working directory unless the job says otherwise."""
    name = "this folder"
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        advice = "change to a folder that you may write to, or set `storage` in the job"
        return Check(name=name, status="fail", found=f"{folder} cannot be written ({error.strerror})", advice=advice)
    return _check_disk(name, folder)


def check_temporary_folder(folder: Path) -> Check:
    """Ray keeps its session there, and spills objects to it when memory is full."""
    name = "temporary folder"
    if len(str(folder)) > LONGEST_TEMPORARY_FOLDER:
        advice = "Ray's sockets need a shorter path; set TMPDIR=/tmp"
        return Check(name=name, status="warn", found=f"{folder} has {len(str(folder))} characters", advice=advice)
    return _check_disk(name, folder)


def _check_disk(name: str, folder: Path) -> Check:
    usage = shutil.disk_usage(folder)
    found = f"{folder}: {usage.free / GIB:.1f} GiB free of {usage.total / GIB:.1f}"
    if 1 - usage.free / usage.total > FULL_DISK_SHARE:
        return Check(
            name=name, status="fail", found=found, advice="Ray starts no tasks on a disk fuller than 95 %; make room"
        )
    if usage.free < LEAST_DISK_BYTES:
        return Check(name=name, status="warn", found=found, advice="less than 5 GiB; make room before a long run")
    return Check(name=name, status="ok", found=found)


def check_shared_memory(folder: Path) -> Check:
    """Ray's object store is in shared memory. If that is small, Ray falls back to disk, which is slow."""
    name = "shared memory"
    if not folder.is_dir():
        return Check(name=name, status="ok", found=f"no {folder} on this system; Ray uses the temporary folder")
    usage = shutil.disk_usage(folder)
    found = f"{folder}: {usage.free / GIB:.1f} GiB free of {usage.total / GIB:.1f}"
    if usage.free < LEAST_OBJECT_STORE_BYTES:
        return Check(
            name=name,
            status="warn",
            found=found,
            advice="the object store may spill; in Docker start with --shm-size=4g",
        )
    return Check(name=name, status="ok", found=found)
