"""A Ray cluster of several nodes on this machine, for trials in which nodes are lost."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil  # type: ignore[import-untyped]
from ray.cluster_utils import Cluster

from joyful_ray.termination import keeping_sigterm

NODE_STORE_BYTES = 100_000_000


class LocalNodes:
    """The nodes of such a cluster.

    Args:
        count: number of nodes beside the head, which has no core.
        cpus: of each.
    """

    def __init__(self, count: int, *, cpus: float) -> None:
        self.count = count
        self._node: dict[str, Any] = {"num_cpus": math.ceil(cpus), "object_store_memory": NODE_STORE_BYTES}
        with keeping_sigterm():
            self._cluster = Cluster(initialize_head=True, head_node_args=self._node | {"num_cpus": 0})
            self._nodes = [self._cluster.add_node(**self._node) for _ in range(count)]
            self._cluster.wait_for_nodes()

    @property
    def address(self) -> str:
        """Where a command joins it."""
        return str(self._cluster.address)

    def replace(self, place: int) -> None:
        """Kill a node with all that runs on it, and start another in its place."""
        self._cluster.remove_node(self._nodes[place], allow_graceful=False)
        with keeping_sigterm():
            self._nodes[place] = self._cluster.add_node(**self._node)

    def end(self) -> None:
        """End all nodes."""
        self._cluster.shutdown()


@contextmanager
def local_nodes(count: int, *, cpus: float) -> Iterator[LocalNodes]:
    """`LocalNodes` that end with the block."""
    nodes = LocalNodes(count, cpus=cpus)
    try:
        yield nodes
    finally:
        nodes.end()


def train_workers() -> list[int]:
    """Ids of the processes below this one that train, as workers of Ray Train."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if "RayTrainWorker" in " ".join(process.cmdline()):
                found.append(process.pid)
    return found
