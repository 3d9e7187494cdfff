"""Checks of what training uses at run time: torch and the GPU, Ray, a Ray cluster and storage."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from joyful_ray.doctor.report import GIB, Check
from joyful_ray.errors import StorageError
from joyful_ray.memory import read_if_readable
from joyful_ray.storage import probe

PROBE_TIMEOUT_S = 90

# Torch and Ray are tried in separate processes: if one hangs or crashes, the report names it and is still complete.
TORCH_PROBE = """
import json, torch
devices = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
gpus = [(device.name, device.total_memory) for device in devices]
print(json.dumps({"cuda_version": torch.version.cuda, "gpus": gpus}))
"""
RAY_PROBE = """
import json, time, ray
start = time.perf_counter()
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
ray.get(ray.remote(lambda: 42).remote(), timeout=60)
seconds, store = time.perf_counter() - start, int(ray.cluster_resources()["object_store_memory"])
print(json.dumps({"seconds": seconds, "object_store_bytes": store}))
"""


def check_torch() -> Check:
    """Check that torch can be imported and can use the GPUs of this machine."""
    name = "gpu"
    result, error = run_probe(TORCH_PROBE)
    if result is None:
        found = f"torch cannot be imported: {error}"
        return Check(name=name, status="fail", found=found, advice="run: make clean install")
    if result["gpus"]:
        found = ", ".join(f"{gpu} with {size / GIB:.0f} GiB" for gpu, size in result["gpus"])
        return Check(name=name, status="ok", found=found)
    if not _has_nvidia_gpu():
        return Check(name=name, status="ok", found="none; training runs on the CPU")
    if result["cuda_version"] is None:
        found = "an NVIDIA GPU, but torch was built without CUDA"
        return Check(name=name, status="warn", found=found, advice="run: make clean install TORCH=cuda")
    found = f"an NVIDIA GPU that torch for CUDA {result['cuda_version']} cannot use"
    return Check(name=name, status="warn", found=found, advice="update the driver, and check CUDA_VISIBLE_DEVICES")


def _has_nvidia_gpu() -> bool:
    if shutil.which("nvidia-smi") is None:
        return False
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, timeout=PROBE_TIMEOUT_S, check=False)
    return listing.returncode == 0 and b"GPU" in listing.stdout


def check_ray_start() -> Check:
    """Check that Ray starts here and runs a task."""
    name = "ray start"
    result, error = run_probe(RAY_PROBE)
    if result is None:
        advice = "see the logs in ray/session_latest/logs in the temporary directory"
        return Check(name=name, status="fail", found=error, advice=advice)
    found = f"took {result['seconds']:.1f} s; the object store has {result['object_store_bytes'] / GIB:.1f} GiB"
    return Check(name=name, status="ok", found=found)


def run_probe(program: str) -> tuple[dict[str, Any] | None, str]:
    """Run a Python program in a separate process and read the JSON object on its last line.

    Returns:
        The object and an empty string, or None and the reason if the program failed.
    """
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    try:
        completed = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT_S,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, f"no answer within {PROBE_TIMEOUT_S} s"
    if completed.returncode != 0:
        lines = completed.stderr.strip().splitlines()
        return None, lines[-1] if lines else f"exit status {completed.returncode}"
    return json.loads(completed.stdout.strip().splitlines()[-1]), ""


def check_cluster(address_file: Path | None = None) -> Check:
    """Check whether a Ray cluster is running on this machine; a run joins it only if `cluster.address` says so.

    Args:
        address_file: where Ray writes the address of the cluster that was started last; Ray's own place by default.
    """
    name = "ray cluster"
    file = address_file or Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir())) / "ray" / "ray_current_cluster"
    from_environment = os.environ.get("RAY_ADDRESS")
    address = from_environment or read_if_readable(file).strip()
    if not address:
        return Check(name=name, status="ok", found="none is running; a run starts a local one")
    if address == "local" or "://" in address:
        return Check(name=name, status="ok", found=f"RAY_ADDRESS is {address}")
    if _accepts_connections(address):
        found = f"one is running at {address}; to join it, set cluster.address={address}"
        return Check(name=name, status="ok", found=found)
    if from_environment:
        found = f"RAY_ADDRESS is {address}, but nothing answers there"
        return Check(name=name, status="fail", found=found, advice="run: unset RAY_ADDRESS")
    found = f"none is running (the last one was at {address}); a run starts a local one"
    return Check(name=name, status="ok", found=found)


def _accepts_connections(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=2):
            return True
    except (OSError, ValueError):
        return False


def check_storage(uri: str) -> Check:
    """Check that a small object can be written, read and removed at a path or URI."""
    start = time.perf_counter()
    try:
        timings = probe(uri)
    except StorageError as error:
        advice = "check the URI, the credentials and, for a bucket outside AWS, the endpoint"
        return Check(name="storage", status="fail", found=str(error), advice=advice)
    seconds = f"write {timings.write_s:.2f} s, read {timings.read_s:.2f} s, remove {timings.remove_s:.2f} s"
    found = f"{timings.uri}: {seconds}, total {time.perf_counter() - start:.1f} s"
    return Check(name="storage", status="ok", found=found)
