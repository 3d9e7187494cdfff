"""A whole run in a bucket: corpus, checkpoints, events, record and bundle, as in a folder."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from joyful_ray.config import load_job
from joyful_ray.corpora.synthetic import synthesize
from joyful_ray.demo import demo_job
from joyful_ray.errors import CheckpointError
from joyful_ray.predict.job import predict_corpus
from joyful_ray.storage import Location, open_location
from joyful_ray.train.evaluate import evaluate_bundle
from joyful_ray.train.launch import train
from joyful_ray.train.run_directory import RunDirectory
from joyful_ray.tune.goals import Goal
from joyful_ray.tune.hparams import write_hparams
from tests.flaky_s3 import flaky_s3
from tests.s3_server import make_bucket, s3_server
from tests.train.test_loop import Crash, crash_in

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


@pytest.mark.long
@pytest.mark.parametrize("ingest", ["resident", "streaming"])
def test_a_bucket_that_fails_one_request_in_ten_changes_nothing(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ingest: str
) -> None:
    """Busy answers, dropped connections, half answers and slow ones: while the corpus is written, in a run that is
    stopped and continued, and in evaluation and prediction."""
    found = []
    with flaky_s3(os.environ["AWS_ENDPOINT_URL"], share=0.0, seed=3) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        for name, share in (("quiet", 0.0), ("flaky", 0.1)):
            proxy.share = share
            place = f"{bucket}/{name}"
            synthesize(f"{place}/corpus", conversations=40, seed=0)
            settings = demo_job(open_location("/nowhere").local_path(), workers=0).model_dump()
            settings |= {"corpus": f"{place}/corpus", "storage": f"{place}/runs", "name": "run"}
            settings["train"] |= {"epochs": 3, "min_steps": 0, "patience": 9}
            settings["data"] |= {"ingest": ingest}
            job = load_job().model_validate(settings)
            with pytest.MonkeyPatch.context() as patch:
                crash_in(1, "line", patch)
                with pytest.raises(Crash):
                    train(job)
            record = train(job)
            assert record.resumes == 1
            scores = evaluate_bundle(f"{place}/runs/run/bundle", f"{place}/corpus", device="cpu")
            predict_corpus(f"{place}/runs/run/bundle", f"{place}/corpus", f"{place}/predicted", device="cpu")
            written = [file for file in files_below(open_location(f"{place}/predicted")) if "parquet" in file.name]
            rows = pa.concat_tables(pq.read_table(io.BytesIO(file.read_bytes())) for file in written)
            lines = RunDirectory.of(job).metrics()
            found.append((record.dev, record.test, scores, [line.losses for line in lines], rows))
    assert sum(proxy.met.values()) > 10
    assert found[0][:4] == found[1][:4]
    assert found[0][4].equals(found[1][4])


def files_below(place: Location) -> list[Location]:
    """All files below a place, in the order of their names."""
    if not place.is_dir():
        return [place]
    return [file for name in place.list() for file in files_below(place.join(name))]
