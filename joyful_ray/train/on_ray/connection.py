"""Connects a command to a Ray cluster: one that an address names, or a local one; and checks what fits there."""

from __future__ import annotations

import logging
import math
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from joyful_ray.config import JobConfig
from joyful_ray.errors import ConfigError, TrainingError
from joyful_ray.termination import ending_within, keeping_sigterm
from joyful_ray.train.on_ray.messages import shortening_messages
from joyful_ray.wording import counted

SMALL_MACHINE, OVERSUBSCRIPTION = 4, 2
CONNECT_S, LEAVE_S = 5, 1.0
JOIN_TRIES = "8"
"""How often Ray tries to join a cluster that answers, each time for a second; its own default is 20."""
HANG_LIMIT = "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"
"""How long Ray Train waits for a worker that does not answer."""
NOTICES = "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"
"""Whether a process of Ray Train asks if a machine is about to go; without other machines, none has to be started."""
MEMORY_RETRIES, TASK_RETRIES = "RAY_task_oom_retries", "3"
"""How often Ray tries a task again that was killed for want of memory; its own default is for ever."""
START_S = "120"
"""How long Ray may take to start on a busy machine; its own default is 30 seconds."""
LEAST_DISK_BYTES = 10 * 2**20
TOKEN_REFUSED = ("InvalidAuthToken", "Unauthenticated", "AuthenticationError")


@contextmanager
def ray_cluster(job: JobConfig, *, runs: int = 1, dashboard: bool = False) -> Iterator[None]:
    """Connect to a Ray cluster: the one already joined, the one that `cluster.address` names, or a new local one.

    Args:
        job: its `cluster` section decides.
        runs: number of runs that a new local cluster should have room for, as far as this machine allows.
        dashboard: start Ray's dashboard with a new local cluster. Without it, a Ray Train run inside a Ray Tune trial
            keeps its workers forever once the trial is stopped.

    Raises:
        ConfigError: the job requests more than the cluster has, or the cluster cannot be reached.
        TrainingError: Ray does not start on this machine.
    """
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.3")
    os.environ.setdefault("RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S", "2")
    os.environ.setdefault("RAY_DATA_LOG_LEVEL", "CRITICAL")  # what it logs as an error, it raises as well
    os.environ.setdefault(MEMORY_RETRIES, TASK_RETRIES)
    os.environ.setdefault("RAY_raylet_start_wait_time_s", START_S)
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if cluster_address(job) is not None:
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", JOIN_TRIES)
    import ray

    needed = job.cluster.workers * job.cluster.cpus_per_worker
    needed = max(needed, min(needed * runs, _most_cpus()))
    joined_before, address = ray.is_initialized(), cluster_address(job) or "local"
    if not joined_before:
        size: dict[str, Any] = (
            {"num_cpus": max(os.cpu_count() or 1, math.ceil(needed) + 1)} if address == "local" else {}
        )
        _init(address, include_dashboard=dashboard if size else None, **size)
    for name, level in (("ray.train", logging.ERROR), ("ray.data", logging.CRITICAL), ("ray.tune", logging.ERROR)):
        logging.getLogger(name).setLevel(level)
    mine = {HANG_LIMIT: str(job.cluster.collective_timeout_s)}
    if not joined_before and address == "local":
        mine[NOTICES] = "0"
    # Only for this job: the next one in this process may have other ones.
    mine = {name: value for name, value in mine.items() if name not in os.environ}
    os.environ.update(mine)
    try:
        if address == "local" or joined_before:
            _check_fits(job, ray.cluster_resources())
        with shortening_messages():
            try:
                yield
            except ray.exceptions.RayError as error:
                raise_loss(error)
                raise
    finally:
        if not joined_before:
            ray.shutdown()
        for name in mine:
            os.environ.pop(name, None)


def raise_loss(error: Exception) -> None:
    """End a command in one line if Ray has lost what it worked with; does nothing for other errors.

    Raises:
        TrainingError: it has.
    """
    from joyful_ray.train.on_ray.attempts import is_loss
    from joyful_ray.train.on_ray.failure_cause import first_cause

    if is_loss(error):
        raise TrainingError(first_cause(error)) from error


def _init(address: str, **settings: Any) -> None:
    import ray

    host, _, port = address.rpartition("/")[2].rpartition(":")
    printed: list[str] = []
    try:
        if port.isdigit():  # Ray itself tries for minutes before it says that nothing answers
            socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
        ending = nullcontext() if address == "local" else ending_within(LEAVE_S, "joyful: stopped while joining Ray")
        # Ray's own handler of SIGTERM ends the process with a stack dump.
        with keeping_sigterm(), ending, _catching_stderr(printed):
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, **settings)
    except Exception as error:  # Ray raises no narrower class if a node does not start in time
        raise _why_not_joined(address, error, "".join(printed)) from error


def _why_not_joined(address: str, error: Exception, printed: str) -> ConfigError | TrainingError:
    """What to tell a user about a Ray that did not start, or could not be joined."""
    reason = " ".join(str(error).split()) or type(error).__name__
    if address == "local":
        advice = "set RAY_TMPDIR to a shorter path" if "AF_UNIX path" in reason else "joyful doctor checks it"
        kind = ConfigError if isinstance(error, (OSError, ValueError)) else TrainingError
        return kind(f"Ray does not start on this machine: {reason}; {advice}")
    if any(sign in reason + printed for sign in TOKEN_REFUSED):
        reason = "it refuses the token; set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to its own"
    return ConfigError(f"cannot join the Ray cluster at {address}: {reason}")


@contextmanager
def _catching_stderr(printed: list[str]) -> Iterator[None]:
    """Keep what the process prints to stderr in the block, Ray's own native code included, off the screen."""
    with tempfile.TemporaryFile() as file:
        sys.stderr.flush()
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            printed.append(file.read().decode(errors="replace"))


def cluster_address(job: JobConfig) -> str | None:
    """The address to join: the job's, or RAY_ADDRESS (set by Ray in a submitted job); None starts a local cluster.

    Raises:
        ConfigError: it is one of Ray Client.
    """
    named = os.environ.get("RAY_ADDRESS", "")
    chosen = job.cluster.address or named
    if chosen.startswith("ray://"):
        setting = "cluster.address" if job.cluster.address else "RAY_ADDRESS"
        raise ConfigError(
            f"{setting} is {chosen}, an address of Ray Client, through which workers cannot be trained; use joyful "
            "submit, or run this on a machine of the cluster with its address HOST:6379"
        )
    # An address with another scheme is that of a job server, which takes submissions; it cannot be joined.
    return job.cluster.address or (named if named and "://" not in named and named != "local" else None)


def check_machine(job: JobConfig) -> None:
    """Check that a local cluster would not get many more processes than this machine has cores.

    Raises:
        ConfigError: it would; the message has both numbers.
    """
    requested = job.cluster.workers * job.cluster.cpus_per_worker
    if cluster_address(job) is None and requested > _most_cpus():
        raise ConfigError(
            f"cluster.workers needs {requested:g} CPUs, but this machine has {os.cpu_count() or 1}; "
            "use fewer workers, or name a cluster with cluster.address"
        )


def _most_cpus() -> int:
    """The number of CPUs that a local cluster may claim."""
    return max(SMALL_MACHINE, OVERSUBSCRIPTION * (os.cpu_count() or 1))


def runs_that_fit(job: JobConfig) -> int:
    """How many runs of a job fit on the connected cluster at a time, with one CPU left for Ray Data; at least 1."""
    import ray

    cluster, resources = job.cluster, ray.cluster_resources()
    room = [(resources.get("CPU", 0.0) - 1) / (cluster.workers * cluster.cpus_per_worker)]
    if cluster.gpus_per_worker:
        room.append(resources.get("GPU", 0.0) / (cluster.workers * cluster.gpus_per_worker))
    return max(1, int(min(room)))


def connected_address() -> str:
    """The address at which other processes join the cluster that this process is connected to."""
    import ray

    return str(ray.get_runtime_context().gcs_address)


def _check_fits(job: JobConfig, resources: dict[str, float]) -> None:
    for kind, each in (("CPU", job.cluster.cpus_per_worker), ("GPU", job.cluster.gpus_per_worker)):
        workers, found = job.cluster.least_workers, resources.get(kind, 0.0)
        if workers * each > found:
            setting = "workers" if job.cluster.min_workers is None else "min_workers"
            raise ConfigError(
                f"cluster.{setting} is {workers} at {each:g} {kind} each; the cluster has {found:g} {kind}"
            )


def controller_logs() -> list[Path]:
    """Logs of Ray Train's controllers on this machine, of the connected cluster."""
    from ray._private.worker import global_worker

    node = global_worker.node  # there is no public way to its folder
    return sorted(Path(node.get_logs_dir_path(), "train").glob("*controller*.log")) if node is not None else []


def capacity() -> dict[str, float]:
    """What the connected cluster has of each resource, or may grow to where its autoscaler has said its limits."""
    import ray
    from ray._private import state

    found: dict[str, float] = dict(ray.cluster_resources())
    # Ray's own libraries ask in this way; there is no public one.
    with suppress(AttributeError, RuntimeError):
        for kind, most in (state.state.get_max_resources_from_cluster_config() or {}).items():
            found[kind] = max(found.get(kind, 0.0), float(most))
    return found


def full_disk() -> str | None:
    """That the disk of Ray's files on this machine is full, in words; without room there, no worker starts."""
    from ray._private.worker import global_worker

    node = global_worker.node  # there is no public way to its folder
    if node is None:
        return None
    folder = node.get_session_dir_path()
    with suppress(OSError):
        if shutil.disk_usage(folder).free < LEAST_DISK_BYTES:
            return f"the disk of {folder}, where Ray keeps its files, is full; make room, or set RAY_TMPDIR"
    return None


def has_cores() -> bool:
    """Whether the connected cluster has any core; one that scales from nothing has none at first."""
    import ray

    return ray.cluster_resources().get("CPU", 0.0) >= 1.0


def can_grow() -> bool:
    """Whether the connected cluster has an autoscaler that orders nodes."""
    return bool(_ordered())


def supply() -> str:
    """What the connected cluster has, what of it is free, and what its autoscaler has ordered, in words."""
    import ray

    whole, free = ray.cluster_resources(), ray.available_resources()
    nodes = sum(node["Alive"] for node in ray.nodes())
    kinds = [kind for kind in ("CPU", "GPU") if whole.get(kind)] or ["CPU"]
    amounts = ", ".join(f"{whole.get(kind, 0.0):g} {kind} ({free.get(kind, 0.0):g} free)" for kind in kinds)
    return f"the cluster has {counted(nodes, 'node')} with {amounts}{_ordered()}"


def _ordered() -> str:
    """Nodes that the autoscaler has ordered; nothing if there is no autoscaler."""
    import ray
    from ray.autoscaler.v2.sdk import get_cluster_status

    # Without an autoscaler, Ray has no status of it, and says so in one of these ways.
    with suppress(RuntimeError, ValueError, AssertionError, AttributeError):
        status = get_cluster_status(ray.get_runtime_context().gcs_address)
        count = len(status.pending_nodes) + sum(launch.count for launch in status.pending_launches)
        return f"; the autoscaler has {counted(count, 'node')} pending" if count else "; no node is on its way"
    return ""
