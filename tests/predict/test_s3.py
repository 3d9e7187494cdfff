"""A prediction from one bucket to another, stopped and continued."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from joyful_ray.errors import StorageError
from joyful_ray.predict.job import predict_corpus
from joyful_ray.settings import ClusterConfig
from joyful_ray.storage import open_location
from tests.predict.bundles import write_random_bundle
from tests.s3_server import make_bucket, s3_server
from tests.tiny_corpus import write_tiny

pytestmark = pytest.mark.s3
HERE = ClusterConfig(workers=0)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with s3_server() as endpoint:
        for name, value in (
            ("AWS_ACCESS_KEY_ID", "testing"),
            ("AWS_SECRET_ACCESS_KEY", "planted-secret"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL", endpoint),
        ):
            monkeypatch.setenv(name, value)
        yield make_bucket(endpoint, "runs").split("?")[0]


class StoppedError(Exception):
    """Stands for Ctrl-C in this test."""


def test_a_prediction_in_a_bucket_equals_that_in_a_folder_and_continues(bucket: str, tmp_path: Path) -> None:
    corpus = write_tiny(f"{bucket}/corpus", counts={"test": 12})
    bundle = write_random_bundle(tmp_path / "bundle", write_tiny(tmp_path / "train", counts={"train": 9, "dev": 3}))
    for name in ("bundle.json", "model.safetensors"):
        data = (tmp_path / "bundle" / name).read_bytes()
        open_location(f"{bucket}/bundle").join(name).write_bytes(data)

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        predict_corpus(f"{bucket}/bundle", corpus, f"{bucket}/out", cluster=HERE, watch=stop)
    out = open_location(f"{bucket}/out")
    assert out.list() == ["split=test"]
    assert len(out.join("split=test").list()) == 2
    card = predict_corpus(f"{bucket}/bundle", corpus, f"{bucket}/out", cluster=HERE)
    assert (card.kept_shards, card.shards) == (2, 3)
    assert "planted-secret" not in out.join("_card.json").read_text()

    predict_corpus(bundle, corpus, str(tmp_path / "out"), cluster=HERE)
    for name in out.join("split=test").list():
        ours = out.join("split=test", name).read_bytes()
        assert ours == (tmp_path / "out" / "split=test" / name).read_bytes()


def test_a_missing_bucket_is_one_clear_line(bucket: str, tmp_path: Path) -> None:
    corpus = write_tiny(tmp_path / "corpus", counts={"train": 9, "dev": 3})
    bundle = write_random_bundle(tmp_path / "bundle", corpus)
    with pytest.raises(StorageError, match="no bucket elsewhere"):
        predict_corpus(bundle, corpus, "s3://elsewhere/out", cluster=HERE)
