"""Checks of torch, Ray and storage."""

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

from joyful_ray.doctor.checks import GIB, Check
from joyful_ray.doctor.machine import read_text
from joyful_ray.errors import StorageError
from joyful_ray.storage import probe

PROBE_TIMEOUT_S = 90

# Torch and Ray run in separate processes, so that one that hangs or crashes is a line of the report, not its end.
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


def check_cluster(current: Path | None = None) -> Check:
    """Whether a Ray cluster runs on this machine. A run joins it only if `cluster.address` says so."""
    name = "ray cluster"
    file = current or Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir())) / "ray" / "ray_current_cluster"
    from_environment = os.environ.get("RAY_ADDRESS")
    address = from_environment or read_text(str(file)).strip()
    if not address:
        return Check(name=name, status="ok", found="none; a run starts a local one")
    if address == "local" or "://" in address:
        return Check(name=name, status="ok", found=f"RAY_ADDRESS is {address}")
    if _answers(address):
        return Check(name=name, status="ok", found=f"running at {address}; join it with cluster.address={address}")
    if from_environment:
        return Check(
            name=name,
            status="fail",
            found=f"RAY_ADDRESS is {address}, which does not answer",
            advice="unset RAY_ADDRESS",
        )
    return Check(name=name, status="ok", found=f"none (there was one at {address}); a run starts a local one")


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=2):
            return True
    except (OSError, ValueError):
        return False


def check_torch() -> Check:
    """Torch can be imported and sees the GPUs of this machine."""
    name = "gpu"
    answer, error = _ask(TORCH_PROBE)
    if answer is None:
        return Check(
            name=name, status="fail", found=f"torch cannot be imported: {error}", advice="run: make clean install"
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
            found="an NVIDIA GPU, but torch without CUDA",
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
    """Ray starts, runs a task and stops."""
    name = "ray starts"
    answer, error = _ask(RAY_PROBE)
    if answer is None:
        return Check(
            name=name,
            status="fail",
            found=error,
            advice="see the logs in ray/session_latest/logs of the temporary folder",
        )
    return Check(
        name=name,
        status="ok",
        found=f"in {answer['seconds']:.1f} s, with an object store of {answer['store'] / GIB:.1f} GiB",
    )


def _ask(program: str) -> tuple[dict[str, Any] | None, str]:
    """Run a program whose last line is a JSON object; None and the reason if it fails."""
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
    """A small object can be written, read and removed."""
    began = time.perf_counter()
    try:
        timings = probe(uri)
    except StorageError as error:
        return Check(
            name="storage",
            status="fail",
            found=str(error),
            advice="see cluster/README.md on buckets, and check the AWS_* variables",
        )
    seconds = f"write {timings.write_s:.2f} s, read {timings.read_s:.2f} s, remove {timings.remove_s:.2f} s"
    return Check(name="storage", status="ok", found=f"{timings.uri}: {seconds}, {time.perf_counter() - began:.1f} s")
