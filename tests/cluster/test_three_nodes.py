"""Runs on several nodes of this machine: workers apart, and no core left beside them."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from joyful_ray.train.launch import train
from joyful_ray.train.run_directory import RunDirectory
from tests.cluster.conftest import CHECKOUT, without_clouds_and_clusters
from tests.tiny_corpus import COUNTS, small_job, write_tiny

pytestmark = [pytest.mark.cluster, pytest.mark.ray, pytest.mark.slow]
SMALL_STORE = 90 * 2**20


def on_nodes(scenario: dict[str, Any], *, token: str | None = None, timeout_s: float = 900) -> dict[str, Any]:
    """What a scenario of `on_nodes.py` printed."""
    environment = without_clouds_and_clusters() | {"PYTHONPATH": str(CHECKOUT), "RAY_AUTH_MODE": "token"}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("on_nodes.py")), json.dumps(scenario)],
        cwd=CHECKOUT,
        env=environment | {"RAY_AUTH_TOKEN": token or secrets.token_hex(16)},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def nodes_of(count: int, **options: Any) -> list[dict[str, Any]]:
    return [{"num_cpus": 1, **options} for _ in range(count)]


@pytest.mark.long
def test_two_workers_on_two_of_three_nodes_finish_a_run(tmp_path: Path) -> None:
    job = {"corpus": write_tiny(tmp_path / "corpus"), "storage": str(tmp_path / "runs"), "train": {"epochs": 2}}
    found = on_nodes(
        {"do": "train", "head": {"num_cpus": 1}, "nodes": nodes_of(2), "job": job | {"cluster": {"workers": 2}}}
    )
    assert {name: found[name] for name in ("nodes", "cpus", "workers", "epochs")} == {
        "nodes": 3,
        "cpus": 3.0,
        "workers": 2,
        "epochs": 2,
    }


@pytest.mark.long
def test_streaming_needs_no_core_beside_the_workers(tmp_path: Path) -> None:
    corpus = write_tiny(tmp_path / "corpus")
    job = {"corpus": corpus, "storage": str(tmp_path / "runs"), "train": {"epochs": 2}, "data": {"ingest": "streaming"}}
    options = {"object_store_memory": SMALL_STORE}
    found = on_nodes(
        {
            "do": "train",
            "head": {"num_cpus": 1, **options},
            "nodes": nodes_of(1, **options),
            "job": job | {"cluster": {"workers": 2}},
        }
    )
    assert (found["cpus"], found["workers"], found["epochs"]) == (2.0, 2, 2)
    assert found["conversations"] == [COUNTS["train"]] * 2, "each once an epoch"


@pytest.mark.long
def test_a_streaming_search_needs_no_core_beside_its_trials(tmp_path: Path) -> None:
    job = {
        "corpus": write_tiny(tmp_path / "corpus"),
        "storage": str(tmp_path / "runs"),
        "train": {"epochs": 2},
        "data": {"ingest": "streaming"},
        "search": {
            "space": {"train.learning_rate": {"log": [1e-4, 1e-2]}},
            "max_trials": 3,
            "scheduler": "none",
            "confirm": None,
        },
    }
    found = on_nodes({"do": "search", "head": {"num_cpus": 1}, "nodes": nodes_of(1), "job": job})
    assert found["trials"] == {"finished": 3}


@pytest.mark.long
def test_a_run_that_waits_for_workers_says_so_and_gives_up(tmp_path: Path) -> None:
    job = {"corpus": write_tiny(tmp_path / "corpus"), "storage": str(tmp_path / "runs"), "train": {"micro_batches": 3}}
    job["cluster"] = {"workers": 3, "start_timeout_s": 15}
    found = on_nodes({"do": "wait", "head": {"num_cpus": 1}, "nodes": nodes_of(1), "job": job})
    (_, line), *_ = found["lines"]
    assert line.startswith("waiting 10 s for 3 workers with 1 CPU each; the cluster has 2 nodes with 2 CPU (2 free)")
    assert found["error"].startswith(
        "3 workers with 1 CPU each did not start within cluster.start_timeout_s, 15 s; the"
    )
    assert not list((tmp_path / "runs").rglob("started-*"))


@pytest.mark.long
def test_a_run_goes_on_without_a_node_that_is_gone_for_good(tmp_path: Path) -> None:
    settings = {"epochs": 40, "patience": 100, "checkpoint_every_steps": 1, "batch_conversations": 4}
    job: dict[str, Any] = {"corpus": write_tiny(tmp_path / "corpus"), "train": settings}
    alone = small_job(job, {"storage": str(tmp_path / "alone"), "cluster": {"workers": 0}})
    train(alone)
    cluster = {"workers": {"min": 1, "max": 2}, "max_failures": 1, "collective_timeout_s": 30}
    job |= {"storage": str(tmp_path / "runs"), "cluster": cluster}
    found = on_nodes({"do": "lose", "head": {"num_cpus": 0}, "nodes": nodes_of(2), "job": job, "notice": False})
    assert (found["workers"], found["epochs"]) == (1, 40)
    assert found["resumes"] >= 1
    assert found["repeated_steps"] <= 2, "at most the interval, and the step that was under way"
    expected = [line.losses["total"] for line in RunDirectory.of(alone).metrics()]
    assert found["losses"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.long
def test_a_run_is_saved_in_mid_epoch_because_a_node_is_announced_to_go(tmp_path: Path) -> None:
    """Nothing else asks for a checkpoint there. It is no failure: `max_failures: 0` survives it."""
    corpus = write_tiny(tmp_path / "corpus", counts={"train": 300, "dev": 7, "test": 5}, shard_conversations=100)
    settings = {"epochs": 30, "patience": 100, "batch_conversations": 2}
    cluster = {"workers": {"min": 1, "max": 2}, "max_failures": 0, "collective_timeout_s": 30}
    job = {"corpus": corpus, "train": settings, "storage": str(tmp_path / "runs"), "cluster": cluster}
    found = on_nodes({"do": "lose", "head": {"num_cpus": 0}, "nodes": nodes_of(2), "job": job, "notice": True})
    assert (found["workers"], found["epochs"]) == (1, 30)
    assert found["saved_before"], "no checkpoint in mid-epoch"


@pytest.mark.long
@pytest.mark.parametrize(("workers", "max_failures"), [(2, 1), (1, 1), (2, 0)])
def test_a_stopped_worker_ends_a_wait_within_a_minute_more_than_the_timeout(
    tmp_path: Path, workers: int, max_failures: int
) -> None:
    cluster = {"workers": workers, "max_failures": max_failures, "collective_timeout_s": 15}
    settings = {"epochs": 60, "patience": 100}
    job = {"corpus": write_tiny(tmp_path / "corpus"), "storage": str(tmp_path / "runs"), "train": settings}
    job["cluster"] = cluster
    found = on_nodes({"do": "hang", "head": {"num_cpus": 0}, "nodes": nodes_of(2), "job": job})
    assert found["waited"] < 15 + 60 + 15, "the timeout, a minute, and the start of new workers"
    assert found["workers_left"] == 0
    if max_failures:
        assert (found["error"], found["epochs"]) == (None, 60)
    else:
        assert re.match(r"rank \d: WorkerHealthCheckTimeoutError: .* hanging for", found["error"])
