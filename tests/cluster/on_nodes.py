"""Runs one scenario on several Ray nodes on this machine: `python on_nodes.py SCENARIO`, a JSON object.

Its keys: `do` (`train`, `wait`, `search`, `try`, `hang`, `lose` or `grow`), `head` and `nodes` (options of each node,
such as `num_cpus`), and `job`; for `lose`, also `notice` (whether the node that goes is announced before). With
`address`, the scenario joins a cluster that runs.
Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

from ray.cluster_utils import Cluster

from joyful_ray.certify.nodes import train_workers
from joyful_ray.config import JobConfig
from joyful_ray.errors import TrainingError, UserError
from joyful_ray.submit.resources import resources_of
from joyful_ray.train.launch import train
from joyful_ray.train.on_ray.connection import NOTICES
from joyful_ray.train.run_directory import RunDirectory
from tests.tiny_corpus import small_job

NOTICE_S = 20
"""Ray takes a machine that goes earlier than announced for one that failed."""


def main(scenario: dict[str, Any]) -> None:
    """Start the nodes, do what the scenario says, and end the nodes."""
    if "address" in scenario:
        job = small_job(scenario["job"], {"cluster": {"address": scenario["address"]}})
        print(json.dumps(grow_on(job)))
        return
    os.environ.pop(NOTICES, None)  # tests on one node turn it off
    cluster = Cluster(initialize_head=True, head_node_args=scenario["head"])
    try:
        nodes = [cluster.add_node(**options) for options in scenario["nodes"]]
        cluster.wait_for_nodes()
        job = small_job(scenario["job"], {"cluster": {"address": cluster.address}})
        began = time.monotonic()
        if scenario["do"] == "lose":
            found = lose_on(job, cluster, nodes[-1], notice=scenario["notice"])
        else:
            does = {"train": train_on, "wait": wait_on, "search": search_on, "try": try_on, "hang": hang_on}
            found = does[scenario["do"]](job)
        print(json.dumps(found | {"seconds": time.monotonic() - began}))
    finally:
        cluster.shutdown()


def train_on(job: JobConfig) -> dict[str, Any]:
    """Train, and return what the record says."""
    resources = resources_of(job, None)
    record = train(job)
    return {
        "nodes": resources.nodes,
        "cpus": resources.cpus,
        "workers": record.workers,
        "epochs": record.epochs,
        "conversations": [line.conversations for line in RunDirectory.of(job).metrics()],
    }


def wait_on(job: JobConfig) -> dict[str, Any]:
    """Train what cannot start, and return the lines that are said, with their times, and the error."""
    began, lines = time.monotonic(), []
    try:
        train(job, stage=lambda line: lines.append([time.monotonic() - began, line]))
    except TrainingError as error:
        return {"lines": lines, "error": str(error)}
    return {"lines": lines, "error": None}


def lose_on(job: JobConfig, cluster: Cluster, node: Any, *, notice: bool) -> dict[str, Any]:
    """Train, and take a node away for good after some epochs."""
    directory = RunDirectory.of(job)
    saved: list[str] = []

    def take_away() -> None:
        while len(directory.metrics()) < 3:
            time.sleep(0.1)
        if notice:
            drain = ["drain-node", "--address", cluster.address, "--node-id", node.node_id]
            reason = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "reclaimed"]
            subprocess.run(["ray", *drain, *reason, "--deadline-remaining-seconds", str(NOTICE_S)], check=True)
            deadline = time.monotonic() + NOTICE_S
            while time.monotonic() < deadline:
                if not saved:
                    saved.extend(name for name in directory.checkpoints.list() if "-" in name)
                time.sleep(0.1)
        cluster.remove_node(node, allow_graceful=False)

    thread = threading.Thread(target=take_away)
    thread.start()
    record = train(job)
    thread.join()
    return {
        "workers": record.workers,
        "epochs": record.epochs,
        "resumes": record.resumes,
        "repeated_steps": record.repeated_steps,
        "saved_before": saved,
        "losses": [line.losses["total"] for line in directory.metrics()],
    }


def hang_on(job: JobConfig) -> dict[str, Any]:
    """Train, and stop (SIGSTOP) a worker after some epochs; return how long nothing happened, and how it ended."""
    directory = RunDirectory.of(job)
    stopped: list[float] = []
    waited: list[float] = []

    def hang() -> None:
        while len(directory.metrics()) < 3:
            time.sleep(0.1)
        os.kill(train_workers()[-1], signal.SIGSTOP)
        stopped.append(time.monotonic())
        before = len(directory.metrics())
        while len(directory.metrics()) <= before + 2 and time.monotonic() - stopped[0] < 240:
            time.sleep(0.1)
        waited.append(time.monotonic() - stopped[0])

    threading.Thread(target=hang, daemon=True).start()
    try:
        record = train(job)
    except TrainingError as error:
        return {"error": str(error), "waited": time.monotonic() - stopped[0], "workers_left": len(train_workers())}
    return {"error": None, "waited": waited[0], "epochs": record.epochs, "workers_left": len(train_workers())}


def search_on(job: JobConfig) -> dict[str, Any]:
    """Search, and return how many trials finished."""
    from joyful_ray.tune.search import search

    record = search(job)
    return {"trials": record.trials, "best": record.best_trial}


def try_on(job: JobConfig) -> dict[str, Any]:
    """Train or search, and return what came of it: epochs or trials, or the error of a user."""
    try:
        return (train_on(job) if job.search is None else search_on(job)) | {"error": None}
    except (TrainingError, UserError) as error:
        return {"error": str(error)}


def grow_on(job: JobConfig) -> dict[str, Any]:
    """Search, and wait until the cluster has given its nodes back."""
    import ray

    from joyful_ray.tune.search import search

    lines: list[str] = []
    record = search(job, stage=lines.append)
    ray.init(address=job.cluster.address, log_to_driver=False)
    most = len(ray.nodes())
    deadline = time.monotonic() + 240
    while sum(node["Alive"] for node in ray.nodes()) > 1 and time.monotonic() < deadline:
        time.sleep(1)
    left = sum(node["Alive"] for node in ray.nodes())
    ray.shutdown()
    return {"trials": record.trials, "lines": lines, "nodes_ever": most, "nodes_left": left}


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
