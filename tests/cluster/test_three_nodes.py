"""A run with workers on different nodes."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.conftest import CHECKOUT, without_clouds_and_clusters
from tests.tiny_corpus import write_tiny

pytestmark = [pytest.mark.cluster, pytest.mark.ray, pytest.mark.slow]


def test_two_workers_on_two_of_three_nodes_finish_a_run(tmp_path: Path) -> None:
    corpus = write_tiny(tmp_path / "corpus")
    environment = without_clouds_and_clusters() | {"PYTHONPATH": str(CHECKOUT), "RAY_AUTH_MODE": "token"}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("three_nodes.py")), corpus, str(tmp_path / "runs")],
        cwd=CHECKOUT,
        env=environment | {"RAY_AUTH_TOKEN": secrets.token_hex(16)},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    # Each node has one core and each worker needs one, so no node can run both workers.
    assert found == {"nodes": 3, "cpus": 3.0, "workers": 2, "epochs": 2}
