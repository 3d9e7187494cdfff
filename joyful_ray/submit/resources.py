"""Finds out what nodes, CPUs and GPUs a run could use."""

from __future__ import annotations

import os

from pydantic import BaseModel, ConfigDict

from joyful_ray.config import JobConfig
from joyful_ray.errors import ClusterError
from joyful_ray.train.on_ray.connection import cluster_address


class Resources(BaseModel):
    """The machine or cluster that a run would use.

    Attributes:
        where: its name for people, such as "this machine" or an address.
        nodes, cpus, gpus: how many it has.
        is_local: whether this process runs on it, so that times measured here hold there.
    """

    model_config = ConfigDict(frozen=True)

    where: str
    nodes: int
    cpus: float
    gpus: float
    is_local: bool = True


def resources_of(job: JobConfig, address: str | None) -> Resources:
    """Return what a run could use.

    Args:
        job: the job.
        address: address of a job server; by default, the cluster that this process belongs to, or this machine.

    Raises:
        ClusterError: the job server does not answer.
    """
    if address is not None:
        return _resources_from_job_server(address)
    joined = cluster_address(job)
    if joined is not None and job.cluster.workers:
        import ray

        from joyful_ray.train.on_ray.connection import ray_cluster

        with ray_cluster(job):
            nodes = [node for node in ray.nodes() if node["Alive"]]
        return _total_resources(joined, [node["Resources"] for node in nodes])
    import torch

    return Resources(where="this machine", nodes=1, cpus=os.cpu_count() or 1, gpus=torch.cuda.device_count())


def _resources_from_job_server(address: str) -> Resources:
    import requests

    from joyful_ray.submit.connection import auth_headers, connect, job_server

    connect(address)
    url = job_server(address)
    answer = requests.get(f"{url}/api/v0/nodes?limit=10000", headers=auth_headers(), timeout=30)
    if answer.status_code != 200:
        raise ClusterError(f"{url} does not list its nodes (status {answer.status_code})")
    found = answer.json()["data"]["result"]["result"]
    nodes = [node["resources_total"] for node in found if node["state"] == "ALIVE"]
    return _total_resources(url, nodes).model_copy(update={"is_local": False})


def _total_resources(where: str, nodes: list[dict[str, float]]) -> Resources:
    return Resources(
        where=where,
        nodes=len(nodes),
        cpus=sum(node.get("CPU", 0.0) for node in nodes),
        gpus=sum(node.get("GPU", 0.0) for node in nodes),
    )
