"""A component of the user travels with `joyful submit`, and trains on the cluster."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from joyful_ray.storage import open_location
from tests.cluster.conftest import BUCKET, CHECKOUT, Head

pytestmark = [pytest.mark.cluster, pytest.mark.ray, pytest.mark.s3, pytest.mark.slow]
JOB = """
name: gated
model: {fusion: {kind: "my_package.gated:GatedSum", options: {width: 8}}}
train: {epochs: 1}
cluster: {workers: 2}
"""


def test_a_submitted_job_takes_its_component_along(head: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(CHECKOUT / "tests/components/my_package", tmp_path / "my_package")
    shutil.copy(CHECKOUT / "requirements.lock", tmp_path)
    (tmp_path / "job.yaml").write_text(JOB)
    bucket = f"s3://{BUCKET}/components"

    def submit(*words: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "joyful_ray", "submit", *words],
            cwd=tmp_path,
            env={**head.shell, "PYTHONPATH": str(CHECKOUT)},
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"

    submit("synth", "--conversations", "30", "--out", f"{bucket}/corpus")
    submit("train", "job.yaml", "--set", f"corpus={bucket}/corpus", "--set", f"storage={bucket}/runs")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "cluster")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", head.secret)
    run = open_location(f"{bucket}/runs/gated?endpoint_override={head.endpoint}")
    record = json.loads(run.join("record.json").read_text())
    assert record["workers"] == 2
    assert list(record["components"]) == ["my_package.gated:GatedSum"]
