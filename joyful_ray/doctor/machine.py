"""Checks of this machine: processors, memory, disks and shared memory."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from joyful_ray.doctor.report import GIB, Check
from joyful_ray.memory import memory_bytes, read_if_readable

MIN_MEMORY_BYTES = 4 * GIB
MIN_DISK_BYTES = 5 * GIB
MIN_OBJECT_STORE_BYTES = 2 * GIB
MAX_DISK_USED_FRACTION = 0.95
"""Ray starts no more tasks if a disk is fuller than this."""
MAX_TEMPORARY_PATH_CHARACTERS = 40
"""Ray creates sockets in this folder, and the whole path of a socket may have 107 characters."""


def check_cpus() -> Check:
    """Check that there is one core for each of the two workers that a run uses by default."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cpu_quota()
    if quota is not None and quota < count:
        found, usable = f"{count}, of which this container may use {quota:g}", quota
    else:
        found, usable = str(count), float(count)
    if usable < 2:
        advice = "two workers would share one core; use --workers 1"
        return Check(name="cpus", status="warn", found=found, advice=advice)
    return Check(name="cpus", status="ok", found=found)


def _cpu_quota() -> float | None:
    limit = read_if_readable("/sys/fs/cgroup/cpu.max").split()
    return int(limit[0]) / int(limit[1]) if len(limit) == 2 and limit[0].isdigit() else None


def check_memory() -> Check:
    """Check that there is enough memory for Ray, two workers and a small corpus."""
    name = "memory"
    total, available = memory_bytes()
    if total is None or available is None:
        return Check(name=name, status="ok", found="unknown on this system")
    found = f"{available / GIB:.1f} GiB free of {total / GIB:.1f} GiB"
    if available < MIN_MEMORY_BYTES:
        advice = "with less than 4 GiB, Ray may kill workers; close other programs"
        return Check(name=name, status="warn", found=found, advice=advice)
    return Check(name=name, status="ok", found=found)


def check_working_directory(folder: Path) -> Check:
    """Check that the working directory can be written; runs are stored below it unless a job says otherwise."""
    name = "working directory"
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        advice = "change to a folder that you can write to, or set `storage` in the job file"
        return Check(name=name, status="fail", found=f"cannot write to {folder} ({error.strerror})", advice=advice)
    return _check_disk(name, folder)


def check_temporary_directory(folder: Path) -> Check:
    """Check the folder where Ray keeps its session and spills objects when memory is full."""
    name = "temporary directory"
    if len(str(folder)) > MAX_TEMPORARY_PATH_CHARACTERS:
        found = f"the path {folder} has {len(str(folder))} characters"
        return Check(name=name, status="warn", found=found, advice="Ray's sockets need a shorter path; set TMPDIR=/tmp")
    return _check_disk(name, folder)


def _check_disk(name: str, folder: Path) -> Check:
    usage = shutil.disk_usage(folder)
    found = f"{folder}: {usage.free / GIB:.1f} GiB free of {usage.total / GIB:.1f} GiB"
    if 1 - usage.free / usage.total > MAX_DISK_USED_FRACTION:
        advice = "Ray starts no tasks if a disk is more than 95 % full; free some space"
        return Check(name=name, status="fail", found=found, advice=advice)
    if usage.free < MIN_DISK_BYTES:
        advice = "less than 5 GiB are free; free some space before a long run"
        return Check(name=name, status="warn", found=found, advice=advice)
    return Check(name=name, status="ok", found=found)


def check_shared_memory(folder: Path) -> Check:
    """Check the size of shared memory; if it is too small, Ray's object store falls back to disk and is slow."""
    name = "shared memory"
    if not folder.is_dir():
        return Check(name=name, status="ok", found=f"no {folder} on this system; Ray uses the temporary directory")
    usage = shutil.disk_usage(folder)
    found = f"{folder}: {usage.free / GIB:.1f} GiB free of {usage.total / GIB:.1f} GiB"
    if usage.free < MIN_OBJECT_STORE_BYTES:
        advice = "Ray's object store may spill to disk; start Docker with --shm-size=4g"
        return Check(name=name, status="warn", found=found, advice=advice)
    return Check(name=name, status="ok", found=found)
