"""A whole run in a bucket: corpus, checkpoints, events, record and bundle, as in a folder."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from joyful_ray.config import load_job
from joyful_ray.corpora.synthetic import synthesize
from joyful_ray.demo import demo_job
from joyful_ray.errors import CheckpointError
from joyful_ray.storage import open_location
from joyful_ray.train.evaluate import evaluate_bundle
from joyful_ray.train.launch import train
from joyful_ray.tune.goals import Goal
from joyful_ray.tune.hparams import write_hparams
from tests.s3_server import make_bucket, s3_server

pytestmark = pytest.mark.s3


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with s3_server() as endpoint:
        for name, value in (
            ("AWS_ACCESS_KEY_ID", "testing"),
            ("AWS_SECRET_ACCESS_KEY", "testing"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL", endpoint),
        ):
            monkeypatch.setenv(name, value)
        yield make_bucket(endpoint, "runs").split("?")[0]


def test_a_run_in_a_bucket_writes_what_a_run_in_a_folder_writes(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    synthesize(f"{bucket}/corpus", conversations=24, seed=0)
    settings = demo_job(open_location("/nowhere").local_path(), workers=0).model_dump()
    settings |= {"corpus": f"{bucket}/corpus", "storage": f"{bucket}/runs", "name": "run"}
    settings["train"] |= {"epochs": 2}
    job = load_job().model_validate(settings)

    record = train(job)

    run = open_location(f"{bucket}/runs/run")
    assert {"bundle", "checkpoints", "config.yaml", "metrics.jsonl", "record.json", "tensorboard"} <= set(run.list())
    assert [name for name in run.join("tensorboard").list() if name.startswith("events.")]
    assert record.test is not None
    again = evaluate_bundle(f"{bucket}/runs/run/bundle", f"{bucket}/corpus", device="cpu")
    assert again.values == pytest.approx(record.test.values)
    with pytest.raises(CheckpointError, match="is finished"):
        train(job)
    write_hparams(run.join("tensorboard"), {"seed": 1}, Goal("weighted_f1", 1))
    assert [name for name in run.join("tensorboard").list() if name.endswith(".hparams")]
    assert not [entry.name for entry in tmp_path.iterdir() if entry.name.startswith("joyful-")], (
        "no temporary files stay"
    )
