"""Predictions for a corpus: on Ray and without, killed and continued, and refused if the bundle does not fit."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd  # type: ignore[import-untyped]
import pyarrow.parquet as pq
import pytest

from joyful_ray.cli import main
from joyful_ray.corpora.shards import open_corpus, write_corpus
from joyful_ray.errors import CheckpointError, ConfigError, CorpusError, TrainingError
from joyful_ray.predict.decoder import VectorChoice
from joyful_ray.predict.job import predict_corpus
from joyful_ray.predict.predictor import Predictor
from joyful_ray.schema import FeatureContract
from joyful_ray.settings import ClusterConfig
from joyful_ray.storage import open_location
from joyful_ray.train.checkpoint import read_tensors, write_tensors
from joyful_ray.train.evaluate import evaluate_bundle
from tests.predict.bundles import LABELS, write_random_bundle
from tests.tiny_corpus import WIDTHS, tiny_conversations, write_tiny

HERE = ClusterConfig(workers=0)


@pytest.fixture(scope="module")
def bundle(tiny: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_random_bundle(tmp_path_factory.mktemp("bundle"), tiny())


def parts(out: Path) -> dict[str, int]:
    """Every file and the time when it was written."""
    return {str(place.relative_to(out)): place.stat().st_mtime_ns for place in sorted(out.rglob("*.parquet"))}


def test_pandas_reads_all_of_it_with_the_split_as_a_column(
    bundle: str, tiny: Callable[..., str], tmp_path: Path
) -> None:
    card = predict_corpus(bundle, tiny(), str(tmp_path / "out"), cluster=HERE)
    frame = pd.read_parquet(tmp_path / "out")
    corpus = open_corpus(tiny())
    assert list(frame.columns) == [*card.columns, "split"]
    assert list(card.columns) == [
        "conversation_id",
        "utterance_id",
        *(f"probability_{n}" for n in LABELS),
        "prediction",
    ]
    for split in corpus.splits():
        ids = [name for one in corpus.conversations(split) for name in one.utterance_ids]
        assert list(frame[frame["split"] == split]["utterance_id"]) == ids
        assert card.splits[split]["utterances"] == len(ids)
    columns = [f"probability_{name}" for name in LABELS]
    assert frame[columns].sum(axis=1).to_numpy() == pytest.approx(1.0, abs=1e-6)
    assert list(frame[columns].idxmax(axis=1).str.removeprefix("probability_")) == list(frame["prediction"])


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_an_actor_pool_on_ray_writes_what_one_process_writes_and_passes_errors_on(
    bundle: str, tiny: Callable[..., str], tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    two = ClusterConfig(workers=2)
    predict_corpus(
        bundle,
        tiny(),
        str(tmp_path / "ray"),
        cluster=two,
        vectors=VectorChoice(embedding=True),
        watch=lambda *at: seen.append(at),
    )
    predict_corpus(bundle, tiny(), str(tmp_path / "here"), cluster=HERE, vectors=VectorChoice(embedding=True))
    assert parts(tmp_path / "ray").keys() == parts(tmp_path / "here").keys()
    assert seen == [(done, 8) for done in range(1, 9)]
    for name in parts(tmp_path / "ray"):
        ours, theirs = (pd.read_parquet(tmp_path / place / name) for place in ("ray", "here"))
        assert ours["prediction"].equals(theirs["prediction"])
        pd.testing.assert_frame_equal(ours.drop(columns="embedding"), theirs.drop(columns="embedding"))
    frame = pd.read_parquet(tmp_path / "ray")
    truth = [label for one in open_corpus(tiny()).conversations("test") for label in one.labels]
    predicted = list(frame[frame["split"] == "test"]["prediction"])
    scores = evaluate_bundle(bundle, tiny(), device="cpu")
    pairs = [(one, its) for one, its in zip(truth, predicted, strict=True) if one is not None]
    assert scores.confusion == [[pairs.count((row, column)) for column in LABELS] for row in LABELS]

    damaged = shutil.copytree(tiny(), tmp_path / "damaged")
    (damaged / "train" / "part-00002.parquet").write_bytes(b"changed")
    with pytest.raises(CorpusError, match=r"part-00002\.parquet: expected sha256"):
        predict_corpus(bundle, str(damaged), str(tmp_path / "third"), cluster=two)
    assert not (tmp_path / "third" / "_card.json").exists()


def test_a_killed_prediction_continues_without_repeating_a_shard(bundle: str, tmp_path: Path) -> None:
    corpus = write_tiny(tmp_path / "corpus", counts={"train": 300}, shard_conversations=1)
    out = tmp_path / "out"
    command = ["predict", bundle, "--corpus", corpus, "--out", str(out), "--workers", "0"]
    killed = subprocess.Popen([sys.executable, "-m", "joyful_ray", *command], start_new_session=True)
    deadline = time.monotonic() + 120
    while len(parts(out)) < 10 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    before = parts(out)
    assert 10 <= len(before) < 300
    assert not (out / "_card.json").exists()
    left = out / "split=train" / "part-00299.parquet.1234.unfinished"
    left.write_bytes(b"half")

    assert main(command) == 0
    after = parts(out)
    assert {name: after[name] for name in before} == before
    assert len(after) == 300
    assert not left.exists()
    card = json.loads((out / "_card.json").read_text())
    assert card["kept_shards"] == len(before)
    assert main(command) == 0
    assert parts(out) == after


def test_another_bundle_corpus_or_choice_of_columns_cannot_use_the_same_folder(
    bundle: str, tiny: Callable[..., str], tmp_path: Path
) -> None:
    other_bundle = write_random_bundle(tmp_path / "other", tiny(), seed=6)
    other_corpus = write_tiny(tmp_path / "corpus", counts={"train": 24, "dev": 7, "test": 5})
    out = tmp_path / "out"
    predict_corpus(bundle, tiny(), str(out), cluster=HERE, splits=["test"])
    for is_finished in (True, False):
        if not is_finished:
            (out / "_card.json").unlink()
        for changed, message in (
            ({"bundle": other_bundle}, "with another bundle"),
            ({"corpus": other_corpus}, "from another corpus"),
            ({"vectors": VectorChoice(embedding=True)}, "(embeddings|vectors)"),
            ({"vectors": VectorChoice(shared=True)}, "vectors"),
        ):
            given = {"bundle": bundle, "corpus": tiny(), "out": str(out), "cluster": HERE} | changed
            with pytest.raises(CheckpointError, match=f"was predicted .*{message}.*; choose another --out"):
                predict_corpus(**given)  # type: ignore[arg-type]


def test_a_second_split_is_added_to_the_first(bundle: str, tiny: Callable[..., str], tmp_path: Path) -> None:
    predict_corpus(bundle, tiny(), str(tmp_path), cluster=HERE, splits=["test"])
    before = parts(tmp_path)
    card = predict_corpus(bundle, tiny(), str(tmp_path), cluster=HERE, splits=["dev"])
    assert set(card.splits) == {"dev", "test"}
    assert before.items() <= parts(tmp_path).items()


def test_a_folder_with_other_files_is_left_alone(bundle: str, tiny: Callable[..., str]) -> None:
    with pytest.raises(CheckpointError, match=r"contains dev, manifest\.json, test, which is not part of a prediction"):
        predict_corpus(bundle, tiny(), tiny(), cluster=HERE)


def test_labels_are_not_needed_and_those_of_another_task_do_not_matter(
    bundle: str, tiny: Callable[..., str], tmp_path: Path
) -> None:
    unlabeled = []
    for one in tiny_conversations("test", 5):
        one.labels[:] = [None] * len(one)
        unlabeled.append(one)
    contracts = {name: FeatureContract(extractor="made up", version="1", width=w) for name, w in WIDTHS.items()}
    write_corpus(
        str(tmp_path / "corpus"),
        name="unlabeled",
        task="regression",
        labels=[],
        modalities=contracts,
        splits={"test": unlabeled},
    )
    predict_corpus(bundle, str(tmp_path / "corpus"), str(tmp_path / "out"), cluster=HERE)
    predict_corpus(bundle, tiny(), str(tmp_path / "labeled"), cluster=HERE, splits=["test"])
    ours, theirs = (pd.read_parquet(tmp_path / name) for name in ("out", "labeled"))
    pd.testing.assert_frame_equal(ours, theirs)


def test_a_missing_modality_is_allowed_and_another_extractor_is_not(bundle: str, tmp_path: Path) -> None:
    def write(name: str, extractor: str) -> str:
        conversations = tiny_conversations("test", 3)
        for one in conversations:
            del one.features["audio"], one.present["audio"]
        contract = FeatureContract(extractor=extractor, version="1", width=WIDTHS["text"])
        splits = {"test": conversations}
        place = str(tmp_path / name)
        write_corpus(place, name=name, task="single-label", labels=LABELS, modalities={"text": contract}, splits=splits)
        return place

    predict_corpus(bundle, write("fits", "made up"), str(tmp_path / "out"), cluster=HERE)
    predict_corpus(bundle, write("unsaid", "unknown"), str(tmp_path / "out2"), cluster=HERE)
    with pytest.raises(CorpusError, match="found extractor other; extract them in the same way"):
        predict_corpus(bundle, write("unfit", "other"), str(tmp_path / "out3"), cluster=HERE)
    assert not (tmp_path / "out3").exists()


def test_more_workers_than_this_machine_can_run_are_refused(
    bundle: str, tiny: Callable[..., str], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="needs 1000 CPUs, but this machine has"):
        predict_corpus(bundle, tiny(), str(tmp_path), cluster=ClusterConfig(workers=1000))


def test_scores_that_are_not_finite_stop_the_prediction(bundle: str, tiny: Callable[..., str], tmp_path: Path) -> None:
    broken = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    weights = open_location(str(broken / "model.safetensors"))
    tensors = read_tensors(weights)
    tensors["classifier.scores.bias"][0] = float("nan")
    card = json.loads((broken / "bundle.json").read_text())
    (broken / "bundle.json").write_text(json.dumps(card | {"weights_sha256": write_tensors(weights, tensors)}))
    with pytest.raises(TrainingError, match="a score is not finite"):
        predict_corpus(str(broken), tiny(), str(tmp_path / "out"), cluster=HERE)


def test_every_file_names_its_bundle_and_corpus(bundle: str, tiny: Callable[..., str], tmp_path: Path) -> None:
    predict_corpus(bundle, tiny(), str(tmp_path), cluster=HERE, splits=["test"])
    metadata = pq.read_schema(tmp_path / "split=test" / "part-00000.parquet").metadata
    assert metadata[b"joyful.bundle"].decode() == Predictor.open(bundle).bundle.hash
    assert metadata[b"joyful.corpus"].decode() == open_corpus(tiny()).hash
