"""Several bundles predict the mean of their probabilities, wherever one bundle can predict."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import joyful_ray
from joyful_ray.cli import main
from joyful_ray.corpora.shards import open_corpus
from joyful_ray.errors import ConfigError
from joyful_ray.predict.decoder import VectorChoice
from joyful_ray.predict.predictor import Predictor
from tests.predict.bundles import write_random_bundle

TASKS = ["single-label", "multi-label", "regression"]


@pytest.fixture(scope="module")
def bundles(tiny: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    folder = tmp_path_factory.mktemp("members")
    return {
        task: [write_random_bundle(folder / f"{task}-{seed}", tiny(task), seed=seed) for seed in (1, 2, 3)]
        for task in TASKS
    }


@pytest.mark.parametrize("task", TASKS)
def test_the_probabilities_are_the_mean_of_those_of_the_members(
    task: str, bundles: dict[str, list[str]], tiny: Callable[..., str]
) -> None:
    rows = open_corpus(tiny(task)).read_table("test")
    together = Predictor.open(bundles[task], device="cpu").table(rows)
    alone = [Predictor.open(bundle, device="cpu").table(rows) for bundle in bundles[task]]
    columns = ["prediction"] if task == "regression" else [n for n in together.column_names if "probability" in n]
    for name in columns:
        mean = np.mean([member[name].to_numpy() for member in alone], axis=0)
        np.testing.assert_allclose(together[name].to_numpy(), mean, atol=1e-6)
    if task == "single-label":
        found = np.stack([together[name].to_numpy() for name in columns], axis=1).argmax(axis=1)
        labels = [name.removeprefix("probability_") for name in columns]
        assert together["prediction"].to_pylist() == [labels[index] for index in found]


def test_one_bundle_alone_predicts_what_it_did_before(bundles: dict[str, list[str]], tiny: Callable[..., str]) -> None:
    rows = open_corpus(tiny()).read_table("test")
    one, listed = bundles["single-label"][0], bundles["single-label"][:1]
    assert Predictor.open(listed, device="cpu").table(rows).equals(Predictor.open(one, device="cpu").table(rows))


def test_a_threshold_is_the_mean_of_the_members_calibrated_ones(bundles: dict[str, list[str]]) -> None:
    together = Predictor.open(bundles["multi-label"], device="cpu").decoder
    members = [Predictor.open(bundle, device="cpu").decoder for bundle in bundles["multi-label"]]
    for name, threshold in together.calibrated_thresholds.items():
        expected = statistics.fmean(member.calibrated_thresholds[name] for member in members)
        assert threshold == pytest.approx(expected)


def test_the_commands_take_several_bundles(
    bundles: dict[str, list[str]], tiny: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    members, out = bundles["single-label"], tmp_path / "out"
    command = ["predict", *members, "--corpus", tiny(), "--out", str(out), "--split", "test", "--workers", "0"]
    assert main(command) == 0
    written = pq.ParquetFile(out / "split=test" / "part-00000.parquet").read()
    expected = joyful_ray.load(members, device="cpu").table(open_corpus(tiny()).read_table("test"))
    assert written["prediction"].to_pylist() == expected["prediction"].to_pylist()
    assert main(["predict", *members[::-1], *command[4:]]) == 0, "another order is the same ensemble"
    assert main(["predict", *members[:2], *command[4:]]) == 2
    assert "was predicted with another bundle" in capsys.readouterr().err
    assert main(["evaluate", *members, "--corpus", tiny()]) == 0
    found = joyful_ray.evaluate(members, tiny(), device="cpu")
    truth = [label for labels in open_corpus(tiny()).read_table("test")["labels"].to_pylist() for label in labels]
    right = [one == other for one, other in zip(expected["prediction"].to_pylist(), truth, strict=True) if other]
    assert found.assessment.values["accuracy"] == pytest.approx(statistics.fmean(right))


def test_bundles_that_do_not_fit_together_are_refused(
    bundles: dict[str, list[str]], tiny: Callable[..., str], tmp_path: Path
) -> None:
    one, other = bundles["single-label"][0], bundles["multi-label"][0]
    with pytest.raises(ConfigError, match="only bundles with the same labels can be averaged"):
        Predictor.open([one, other])
    with pytest.raises(ConfigError, match="is named twice"):
        Predictor.open([one, one])
    predictor = Predictor.open(bundles["single-label"], device="cpu")
    with pytest.raises(ConfigError, match="name one bundle"):
        predictor.table(open_corpus(tiny()).read_table("test"), VectorChoice(embedding=True))
    with pytest.raises(ConfigError, match="with one bundle, not with several"):
        predictor.start_conversation()
    command = ["predict", *bundles["single-label"], "--corpus", tiny(), "--out", str(tmp_path / "o"), "--embedding"]
    assert main(command) == 2
