"""A cluster that scales from nothing, by Ray's own fake provider: nodes come when a search asks for them, and go."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray._private.services import get_node_ip_address

from tests.cluster.conftest import _end, without_clouds_and_clusters
from tests.cluster.test_three_nodes import on_nodes
from tests.s3_server import free_port
from tests.tiny_corpus import write_tiny

pytestmark = [pytest.mark.cluster, pytest.mark.ray, pytest.mark.slow, pytest.mark.long]
TOKEN = secrets.token_hex(16)
NODES, IDLE_MINUTES = 2, 0.3


@pytest.fixture
def address() -> Iterator[str]:
    """The address of a head without a core, whose autoscaler may start nodes of one core."""
    temporary = Path(tempfile.mkdtemp(prefix="ja-"))
    place = f"{get_node_ip_address()}:{free_port()}"
    none: dict[str, object] = {}
    config = {
        "cluster_name": "fake",
        "max_workers": NODES,
        "upscaling_speed": 100.0,
        "idle_timeout_minutes": IDLE_MINUTES,
        # All fake nodes have one address, so that only ids tell which is idle; and none can be repaired by ssh.
        "provider": {
            "type": "fake_multinode",
            "gcs_address": place,
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "available_node_types": {
            "ray.head.default": {"resources": none, "node_config": none, "max_workers": 0},
            "small": {
                "resources": {"CPU": 1, "object_store_memory": 90 * 2**20},
                "node_config": none,
                "min_workers": 0,
                "max_workers": NODES,
            },
        },
        "head_node_type": "ray.head.default",
        "auth": none,
        "docker": none,
        "file_mounts": none,
        "cluster_synced_files": [],
        "initialization_commands": [],
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
    }
    (temporary / "fake.json").write_text(json.dumps(config))
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=0"]
    command += [f"--port={place.rpartition(':')[2]}", f"--autoscaling-config={temporary / 'fake.json'}"]
    command += [f"--temp-dir={temporary}", f"--dashboard-port={free_port()}", "--disable-usage-stats"]
    command += ["--object-store-memory=100000000", f"--ray-client-server-port={free_port()}"]
    command += [f"--dashboard-agent-listen-port={free_port()}"]
    environment = without_clouds_and_clusters() | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        "RAY_FAKE_CLUSTER": "1",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    log = temporary / "start.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 120
        while "Ray runtime started" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)
        yield place
    finally:
        _end(process)
        shutil.rmtree(temporary, ignore_errors=True)


def test_a_search_starts_nodes_on_an_empty_cluster_runs_and_gives_them_back(address: str, tmp_path: Path) -> None:
    job = {
        "corpus": write_tiny(tmp_path / "corpus"),
        "storage": str(tmp_path / "runs"),
        "train": {"epochs": 2},
        "search": {
            "space": {"train.learning_rate": {"log": [1e-4, 1e-2]}},
            "max_trials": 3,
            "scheduler": "none",
            "confirm": None,
        },
    }
    found = on_nodes({"address": address, "job": job}, token=TOKEN)
    assert found["trials"] == {"finished": 3}
    assert "8 trials at a time" in "; ".join(found["lines"]), "the fake provider does not say how far it grows"
    assert found["nodes_ever"] > 1
    assert found["nodes_left"] == 1, "only the head is left"
