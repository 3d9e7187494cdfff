"""Whether this machine, Ray, storage and versions are fit to train, and what to fix where they are not."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import Requirement
from pydantic import BaseModel, ConfigDict, computed_field

from joyful_ray.errors import StorageError

Status = Literal["ok", "warn", "fail"]
GIB = 2**30
LOCK = Path(__file__).parents[1] / "requirements.lock"
LEAST_MEMORY_BYTES = 4 * GIB
LEAST_DISK_BYTES = 5 * GIB
LEAST_OBJECT_STORE_BYTES = 2 * GIB
FULL_DISK_SHARE = 0.95
"""Ray starts no more tasks on a disk that is fuller than this."""
LONGEST_TEMPORARY_FOLDER = 40
"""Ray puts sockets there, whose whole path may have 107 characters."""
PROBE_TIMEOUT_S = 90

# Torch and Ray are asked in processes of their own: one that hangs or crashes is a line of the report, not its end.
TORCH_PROBE = """
import json, torch
found = [torch.cuda.get_device_properties(place) for place in range(torch.cuda.device_count())]
gpus = [(gpu.name, gpu.total_memory) for gpu in found]
print(json.dumps({"built_for": torch.version.cuda, "gpus": gpus}))
"""
RAY_PROBE = """
import json, time, ray
began = time.perf_counter()
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
answer = ray.get(ray.remote(lambda: 42).remote(), timeout=60)
seconds, store = time.perf_counter() - began, int(ray.cluster_resources()["object_store_memory"])
print(json.dumps({"seconds": seconds, "store": store}))
"""


class Check(BaseModel):
    """One line of the report; `advice` says what to do, and is empty where all is well."""

    model_config = ConfigDict(frozen=True)

    name: str
    status: Status
    found: str
    advice: str = ""


class DoctorReport(BaseModel):
    """The whole report."""

    model_config = ConfigDict(frozen=True)

    checks: list[Check]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def is_healthy(self) -> bool:
        """Whether nothing fails; warnings do not count."""
        return all(check.status != "fail" for check in self.checks)


def run_checks(*, storage: str | None = None, quick: bool = False) -> DoctorReport:
    """Look at everything.

    Args:
        storage: a path or URI to write to, read from and remove from.
        quick: leave out what takes seconds: importing torch and starting Ray.
    """
    with ThreadPoolExecutor() as pool:
        slow: list[Callable[[], Check]] = [] if quick else [check_torch, check_ray_start]
        if storage is not None:
            slow.append(lambda: check_storage(storage))
        waiting = [pool.submit(check) for check in slow]
        checks = [
            check_python(),
            *check_packages(),
            check_cpus(),
            check_memory(),
            check_folder(Path.cwd()),
            check_temporary_folder(Path(tempfile.gettempdir())),
            check_shared_memory(Path("/dev/shm")),
            check_cluster(),
        ]
        return DoctorReport(checks=[*checks, *(each.result() for each in waiting)])


def check_python() -> Check:
    """Which Python runs this; pip has seen that it is new enough."""
    found = ".".join(map(str, sys.version_info[:3]))
    return Check(name="python", status="ok", found=found)


def check_packages(lock: Path = LOCK) -> Iterator[Check]:
    """What this package needs is installed, in a version that it allows, and best in the one that is tested."""
    try:
        requirements = [Requirement(text) for text in importlib.metadata.requires("joyful-ray") or []]
    except importlib.metadata.PackageNotFoundError:
        yield Check(name="packages", status="warn", found="joyful-ray is not installed", advice="run: make install")
        return
    tested = _locked_versions(lock)
    for needed in requirements:
        if needed.marker is None or needed.marker.evaluate({"extra": ""}):
            yield _check_package(needed, tested.get(needed.name.lower()))


def _check_package(needed: Requirement, tested: str | None) -> Check:
    allowed = str(needed.specifier) or "any version"
    try:
        found = importlib.metadata.version(needed.name)
    except importlib.metadata.PackageNotFoundError:
        return Check(name=needed.name, status="fail", found="absent", advice=f"needs {allowed}; run: make install")
    if not needed.specifier.contains(found, prereleases=True):
        return Check(name=needed.name, status="fail", found=found, advice=f"needs {allowed}; run: make install")
    if tested is not None and found.split("+")[0] != tested:
        return Check(
            name=needed.name,
            status="warn",
            found=found,
            advice=f"tested with {tested}; to have that, run: make install",
        )
    return Check(name=needed.name, status="ok", found=found)


def _locked_versions(lock: Path) -> dict[str, str]:
    if not lock.is_file():
        return {}
    lines = [line.split("#")[0].strip() for line in lock.read_text().splitlines()]
    return dict(line.split("==") for line in lines if "==" in line)


def check_cpus() -> Check:
    """At least one core for each of the two workers that a run has by default."""
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
    limit = _read("/sys/fs/cgroup/cpu.max").split()
    return int(limit[0]) / int(limit[1]) if len(limit) == 2 and limit[0].isdigit() else None


def check_memory() -> Check:
    """Enough for Ray, two workers and a small corpus."""
    name = "memory"
    total, available = memory_bytes()
    if total is None or available is None:
        return Check(name=name, status="ok", found="not known on this system")
    found = f"{available / GIB:.1f} GiB free of {total / GIB:.1f}"
    if available < LEAST_MEMORY_BYTES:
        return Check(
            name=name, status="warn", found=found, advice="less than 4 GiB: Ray may kill workers; close other programs"
        )
    return Check(name=name, status="ok", found=found)


def memory_bytes() -> tuple[int | None, int | None]:
    """Memory of this machine, or of the container where that is less: total and free."""
    lines = [line.split() for line in _read("/proc/meminfo").splitlines()]
    sizes = {parts[0].rstrip(":"): int(parts[1]) * 1024 for parts in lines if len(parts) >= 2 and parts[1].isdigit()}
    total, available = sizes.get("MemTotal"), sizes.get("MemAvailable")
    limit, used = _read("/sys/fs/cgroup/memory.max").strip(), _read("/sys/fs/cgroup/memory.current").strip()
    if total is not None and available is not None and limit.isdigit() and used.isdigit() and int(limit) < total:
        return int(limit), min(available, int(limit) - int(used))
    return total, available


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def check_folder(folder: Path) -> Check:
    """Runs are kept below the working directory unless a job says otherwise."""
    name = "this folder"
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        advice = "go to a folder of yours, or set `storage` in the job"
        return Check(name=name, status="fail", found=f"{folder} cannot be written ({error.strerror})", advice=advice)
    return _check_disk(name, folder)


def check_temporary_folder(folder: Path) -> Check:
    """Ray keeps its session there, and spills objects there when memory is full."""
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
    """Ray's object store lies in shared memory; where that is small, it falls back to disk and is slow."""
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


def check_cluster(current: Path | None = None) -> Check:
    """Whether a Ray cluster is alive on this machine; a run joins one only where `cluster.address` says so."""
    name = "ray cluster"
    file = current or Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir())) / "ray" / "ray_current_cluster"
    from_environment = os.environ.get("RAY_ADDRESS")
    address = from_environment or _read(str(file)).strip()
    if not address:
        return Check(name=name, status="ok", found="none alive; a run starts a local one")
    if address == "local" or "://" in address:
        return Check(name=name, status="ok", found=f"RAY_ADDRESS is {address}")
    if _answers(address):
        return Check(
            name=name, status="ok", found=f"one is alive at {address}; a run joins it with cluster.address={address}"
        )
    if from_environment:
        return Check(
            name=name,
            status="fail",
            found=f"RAY_ADDRESS is {address}, where nothing answers",
            advice="unset RAY_ADDRESS",
        )
    return Check(name=name, status="ok", found=f"none alive (one was at {address}); a run starts a local one")


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=2):
            return True
    except (OSError, ValueError):
        return False


def check_torch() -> Check:
    """Torch imports, and sees the GPUs that are there."""
    name = "gpu"
    answer, error = _ask(TORCH_PROBE)
    if answer is None:
        return Check(
            name=name, status="fail", found=f"torch does not import: {error}", advice="run: make clean install"
        )
    if answer["gpus"]:
        return Check(
            name=name, status="ok", found=", ".join(f"{gpu} {size / GIB:.0f} GiB" for gpu, size in answer["gpus"])
        )
    if not _has_nvidia_gpu():
        return Check(name=name, status="ok", found="none; training runs on the CPU")
    if answer["built_for"] is None:
        return Check(
            name=name,
            status="warn",
            found="an NVIDIA GPU, and a torch without CUDA",
            advice="run: make clean install TORCH=cuda",
        )
    found = f"an NVIDIA GPU that torch for CUDA {answer['built_for']} cannot use"
    return Check(name=name, status="warn", found=found, advice="update the driver, and see CUDA_VISIBLE_DEVICES")


def _has_nvidia_gpu() -> bool:
    if shutil.which("nvidia-smi") is None:
        return False
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, timeout=PROBE_TIMEOUT_S, check=False)
    return listed.returncode == 0 and b"GPU" in listed.stdout


def check_ray_start() -> Check:
    """Ray starts here, runs a task, and stops."""
    name = "ray starts"
    answer, error = _ask(RAY_PROBE)
    if answer is None:
        return Check(
            name=name,
            status="fail",
            found=error,
            advice="see the logs below ray/session_latest/logs in the temporary folder",
        )
    return Check(
        name=name,
        status="ok",
        found=f"in {answer['seconds']:.1f} s, with an object store of {answer['store'] / GIB:.1f} GiB",
    )


def _ask(program: str) -> tuple[dict[str, Any] | None, str]:
    """Run a program that prints one JSON object last; None and the reason where it does not."""
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT_S,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, f"no answer within {PROBE_TIMEOUT_S} s"
    if done.returncode != 0:
        return None, (done.stderr.strip().splitlines() or [f"ended with status {done.returncode}"])[-1]
    return json.loads(done.stdout.strip().splitlines()[-1]), ""


def check_storage(uri: str) -> Check:
    """A small object can be written, read and removed there."""
    from joyful_ray.storage import probe

    began = time.perf_counter()
    try:
        timings = probe(uri)
    except StorageError as error:
        return Check(name="storage", status="fail", found=str(error), advice="see the README's section on storage")
    seconds = f"write {timings.write_s:.2f} s, read {timings.read_s:.2f} s, remove {timings.remove_s:.2f} s"
    return Check(
        name="storage", status="ok", found=f"{timings.uri}: {seconds}, in all {time.perf_counter() - began:.1f} s"
    )
