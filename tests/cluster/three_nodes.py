"""Trains on three Ray nodes on this machine: `python three_nodes.py CORPUS STORAGE`."""

from __future__ import annotations

import json
import sys

from ray.cluster_utils import Cluster

from joyful_ray.submit.resources import resources_of
from joyful_ray.train.launch import train
from tests.tiny_corpus import small_job


def main(corpus: str, storage: str) -> None:
    """Start nodes with one core each, so that two workers need two nodes."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        job = small_job(
            {"name": "spread", "corpus": corpus, "storage": storage, "train": {"epochs": 2}},
            {"cluster": {"workers": 2, "address": cluster.address}},
        )
        resources = resources_of(job, None)
        record = train(job)
        found = {"nodes": resources.nodes, "cpus": resources.cpus, "workers": record.workers, "epochs": record.epochs}
        print(json.dumps(found))
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
