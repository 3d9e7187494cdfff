"""What is planted in a synthetic corpus is learned, and is lost with the part of the method that reads it.

Scores are functions of the seeds. `make bench` has the larger measurements; here every margin is at most about half of
what these very runs show, which stands beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from joyful_ray.config import load_job
from joyful_ray.corpora import synthetic_optimum
from joyful_ray.corpora.synthetic import synthesize
from joyful_ray.records import RunRecord
from joyful_ray.schema import Manifest, Task
from joyful_ray.train.launch import train

pytestmark = pytest.mark.slow

NARROW = [
    "model.fusion={global_width: 16, global_layers: 1, global_feedforward: 32, global_heads: 4, specific_width: 16}",
    "model.fusion={basis_vectors: 8, dropout: 0.1}",
    "model.context={width: 32, layers: 1, heads: 4, feedforward: 64, dropout: 0.1}",
    "model.encoder={width: 32, heads: 2}",
    "model.classifier={hidden: 32, dropout: 0.1}",
    "train={device: cpu, micro_batches: 1, diagnostics: false}",
    "cluster.workers=0",
]
EVERYTHING = ["train={epochs: 6, batch_conversations: 8, learning_rate: 0.005}"]
# Chains of states are what a recurrent context reads best; with 19,000 utterances nothing needs to be dropped.
RECURRENT = [
    "model.context.kind=gru",
    "model.encoder.kind=none",
    "objective.contrast_weight=0",
    "model={fusion: {dropout: 0}, context: {dropout: 0}, classifier: {dropout: 0}}",
    "train={epochs: 5, batch_conversations: 16, learning_rate: 0.01}",
]
NO_CONTEXT = ["model.context.kind=none", "model.fusion.global_branch=false", "model.encoder.kind=none"]


def trained(corpus: Path, storage: Path, *switches: str) -> RunRecord:
    places: list[Any] = [f"corpus={corpus}", f"storage={storage}"]
    return train(load_job(None, [*NARROW, *switches, *places]))


@pytest.fixture(scope="module")
def conversations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 conversations with one label an utterance."""
    folder = tmp_path_factory.mktemp("synthetic") / "single-label"
    synthesize(str(folder), conversations=400, seed=0)
    return folder


@pytest.fixture(scope="module")
def with_everything(conversations: Path, tmp_path_factory: pytest.TempPathFactory) -> float:
    """Weighted F1 on dev with all parts of the method and all modalities."""
    return trained(conversations, tmp_path_factory.mktemp("runs"), *EVERYTHING).dev.values["weighted_f1"]


@pytest.mark.parametrize(
    "left_out",
    [
        pytest.param(NO_CONTEXT, id="context"),
        pytest.param(["data.modalities=[audio,vision]"], id="text"),
        pytest.param(["data.modalities=[text,vision]"], id="audio"),
        pytest.param(["data.modalities=[text,audio]"], id="vision"),
    ],
)
def test_without_context_or_a_modality_dev_f1_falls(
    left_out: list[str], with_everything: float, conversations: Path, tmp_path: Path
) -> None:
    without = trained(conversations, tmp_path, *EVERYTHING, *left_out).dev.values["weighted_f1"]
    print("everything", with_everything, "without", left_out, without)
    assert without < with_everything - 0.03


@pytest.fixture
def optimal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes 2,000 conversations, and gives the best possible scores on all of test."""

    def write(task: Task) -> tuple[Path, dict[str, Any]]:
        monkeypatch.setattr(synthetic_optimum, "MOST_CONVERSATIONS", 2000)
        manifest: Manifest = synthesize(str(tmp_path / "corpus"), conversations=2000, seed=0, task=task)
        return tmp_path / "corpus", manifest.notes

    return write


def test_multi_label_training_comes_near_the_planted_optimum(optimal: Any, tmp_path: Path) -> None:
    corpus, notes = optimal("multi-label")
    test = trained(corpus, tmp_path / "runs", *RECURRENT).test
    assert test is not None
    print(test.values, notes)
    assert notes["optimum"]["accuracy"] - 0.03 < test.values["accuracy"] < notes["optimum"]["accuracy"] + 0.005
    for left_out, best in notes["optimum_without"].items():
        assert test.values["accuracy"] > best["accuracy"], f"a reader without {left_out} could do as well"


def test_regression_comes_near_the_planted_optimum(optimal: Any, tmp_path: Path) -> None:
    corpus, notes = optimal("regression")
    test = trained(corpus, tmp_path / "runs", *RECURRENT).test
    assert test is not None
    print(test.values, notes)
    assert test.values["mae"] < notes["optimum"]["mean_absolute_error"] + 0.03
    assert test.values["correlation"] > notes["optimum"]["correlation"] - 0.03
    for left_out, best in notes["optimum_without"].items():
        assert test.values["mae"] < best["mean_absolute_error"], f"a reader without {left_out} could do as well"
