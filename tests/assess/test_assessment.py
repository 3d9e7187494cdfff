"""Scores of a bundle on its own labels, and on other labels through a label map."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from joyful_ray.assess.assessment import assess_bundle
from joyful_ray.assess.shared_labels import SharedLabels
from joyful_ray.cli import main
from joyful_ray.corpora.label_map import LabelMap
from joyful_ray.corpora.shards import open_corpus, write_corpus
from joyful_ray.errors import ConfigError, CorpusError
from joyful_ray.predict.decoder import PredictionDecoder
from joyful_ray.predict.predictor import Predictor
from joyful_ray.schema import Conversation, FeatureContract
from joyful_ray.train.evaluate import evaluate_bundle
from tests.predict.bundles import LABELS, write_random_bundle
from tests.tiny_corpus import WIDTHS, tiny_conversations

TASKS = ["single-label", "multi-label", "regression"]


@pytest.fixture(scope="module")
def bundles(tiny: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("bundles")
    return {task: write_random_bundle(folder / task, tiny(task)) for task in TASKS}


@pytest.mark.parametrize("task", TASKS)
def test_scores_equal_those_of_evaluate(task: str, bundles: dict[str, str], tiny: Callable[..., str]) -> None:
    found = assess_bundle(bundles[task], tiny(task), split="train", device="cpu")
    expected = evaluate_bundle(bundles[task], tiny(task), split="train", device="cpu")
    assert found.values == pytest.approx(expected.values, rel=1e-5)
    assert found.confusion == expected.confusion
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)
    for name, interval in found.intervals.items():
        assert interval.low <= found.values[name] <= interval.high
    assert (found.calibration is None) == (task == "regression")


def test_progress_counts_the_utterances_of_the_split(bundles: dict[str, str], tiny: Callable[..., str]) -> None:
    seen: list[tuple[int, int]] = []
    assess_bundle(
        bundles["single-label"],
        tiny(),
        split="train",
        device="cpu",
        watch=lambda done, total: seen.append((done, total)),
    )
    utterances = open_corpus(tiny()).manifest.splits["train"].utterances
    assert seen[-1] == (utterances, utterances)


def test_groups_contain_every_labeled_utterance_once(bundles: dict[str, str], tiny: Callable[..., str]) -> None:
    found = assess_bundle(bundles["single-label"], tiny(), split="train", device="cpu")
    assert set(found.groups) == {"speaker", "conversation length", "position", "modalities"}
    for groups in found.groups.values():
        assert sum(group.utterances for group in groups) == found.utterances
    first = next(group for group in found.groups["position"] if group.group == "1")
    rows = open_corpus(tiny()).read_table("train").to_pylist()
    assert first.utterances == first.conversations == sum(row["labels"][0] is not None for row in rows)
    both = next(group for group in found.groups["modalities"] if group.group == "text+audio")
    here = [
        label is not None and text and audio
        for row in rows
        for label, text, audio in zip(row["labels"], row["text_present"], row["audio_present"], strict=True)
    ]
    assert both.utterances == sum(here)


def test_a_group_is_scored_by_its_own_utterances(bundles: dict[str, str], tiny: Callable[..., str]) -> None:
    found = assess_bundle(bundles["single-label"], tiny(), split="train", device="cpu")
    rows = open_corpus(tiny()).read_table("train")
    predicted = Predictor.open(bundles["single-label"], device="cpu").table(rows)["prediction"].to_pylist()
    truth = [label for labels in rows["labels"].to_pylist() for label in labels]
    place = [spot for labels in rows["labels"].to_pylist() for spot in range(len(labels))]
    pairs = [(a, b) for a, b, p in zip(truth, predicted, place, strict=True) if a is not None and 1 <= p <= 4]
    from sklearn.metrics import f1_score

    group = next(group for group in found.groups["position"] if group.group == "2 to 5")
    expected = f1_score([a for a, _ in pairs], [b for _, b in pairs], average="weighted", labels=LABELS)
    assert group.score == pytest.approx(expected)


def test_the_training_split_has_no_shift_and_a_changed_split_has(
    bundles: dict[str, str], tiny: Callable[..., str], tmp_path: Path
) -> None:
    same = assess_bundle(bundles["single-label"], tiny(), split="train", device="cpu").shift["text"]
    assert same.mean_shift == pytest.approx(0.0, abs=1e-5)
    assert same.width_ratio == pytest.approx(1.0, abs=1e-5)
    scaling = Predictor.open(bundles["single-label"]).bundle.encoding.scaling["text"]
    moved = tiny_conversations("train", 23)
    for one in moved:
        one.features["text"][:] = (one.features["text"] - scaling.mean_W) * 2 + scaling.mean_W + 3 * scaling.deviation_W
    corpus = write(tmp_path / "moved", {"test": moved})
    found = assess_bundle(bundles["single-label"], corpus, device="cpu").shift
    assert found["text"].mean_shift == pytest.approx(3.0, rel=1e-3)
    assert found["text"].width_ratio == pytest.approx(2.0, rel=1e-3)
    assert found["text"].far_share > 0.9
    assert found["audio"].mean_shift == pytest.approx(0.0, abs=1e-5)
    assert 0.8 < found["text"].present_share < 1.0


def write(folder: Path, splits: dict[str, list[Conversation]], labels: list[str] = LABELS) -> str:
    contracts = {name: FeatureContract(extractor="made up", version="1", width=w) for name, w in WIDTHS.items()}
    write_corpus(
        str(folder),
        name="other",
        task="single-label",
        labels=labels,
        modalities={
            name: contract for name, contract in contracts.items() if name in next(iter(splits.values()))[0].features
        },
        splits=splits,  # type: ignore[arg-type]
    )
    return str(folder)


OTHER = ["happy", "mad", "calm", "bored"]
MAP: dict[str, Any] = {
    "from": {"name": "tiny", "labels": LABELS},
    "to": {"name": "other", "labels": OTHER},
    "map": {"joy": "happy", "anger": "mad"},
    "drop": {"from": ["neutral"], "to": ["calm", "bored"]},
}
RENAMED = {"joy": "happy", "anger": "mad", "neutral": "calm"}


@pytest.fixture
def other(tmp_path: Path) -> tuple[str, str]:
    """The tiny corpus with other labels and without audio, and the label map to it."""
    conversations = tiny_conversations("train", 23)
    for one in conversations:
        one.labels[:] = [None if label is None else RENAMED[str(label)] for label in one.labels]
        del one.features["audio"], one.present["audio"]
    label_map = tmp_path / "map.yaml"
    label_map.write_text(yaml.safe_dump(MAP))
    return write(tmp_path / "corpus", {"test": conversations}, OTHER), str(label_map)


def test_raw_and_mapped_scores_of_another_corpus(bundles: dict[str, str], other: tuple[str, str]) -> None:
    corpus, label_map = other
    found = assess_bundle(bundles["single-label"], corpus, label_map=label_map, device="cpu")
    rows = open_corpus(corpus).read_table("test")
    table = Predictor.open(bundles["single-label"], device="cpu").table(rows)
    truth = [label for labels in rows["labels"].to_pylist() for label in labels]
    raw = [[0] * 4 for _ in range(4)]
    mapped = [[0, 0], [0, 0]]
    names = ["happy", "mad", "calm", "bored"]
    answers = zip(
        truth,
        table["prediction"].to_pylist(),
        table["probability_joy"].to_pylist(),
        table["probability_anger"].to_pylist(),
        strict=True,
    )
    for label, prediction, joy, anger in answers:
        if label is None:
            continue
        if prediction != "neutral":
            raw[names.index(label)][names.index(RENAMED[prediction])] += 1
        if label in ("happy", "mad"):
            mapped[names.index(label)][0 if joy > anger else 1] += 1
    assert found.raw is not None
    assert found.raw.confusion == raw
    assert found.raw.labels == names
    assert found.confusion == mapped
    assert found.labels == ["happy", "mad"]
    labeled = sum(label is not None for label in truth)
    assert found.raw.utterances == labeled
    assert found.left_out == truth.count("calm")
    assert found.raw.per_label["calm"]["support"] == truth.count("calm")
    assert found.raw.per_label["calm"]["recall"] == 0.0
    assert set(found.shift) == {"text"}


def test_without_a_map_the_error_suggests_one_and_an_incomplete_map_is_refused(
    bundles: dict[str, str], other: tuple[str, str], tmp_path: Path
) -> None:
    corpus, _ = other
    with pytest.raises(CorpusError, match=r"label 'mad' is not one of joy, anger, neutral; .*--label-map"):
        assess_bundle(bundles["single-label"], corpus, device="cpu")
    short = MAP | {"to": {"name": "other", "labels": OTHER[:3]}, "drop": {"from": ["neutral"], "to": ["calm"]}}
    (tmp_path / "short.yaml").write_text(yaml.safe_dump(short))
    with pytest.raises(ConfigError, match=r"to \(other\) of the label map lacks 'bored', a label of the corpus"):
        assess_bundle(bundles["single-label"], corpus, label_map=str(tmp_path / "short.yaml"), device="cpu")


def test_the_command_prints_one_object_with_everything(
    bundles: dict[str, str], other: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    corpus, label_map = other
    command = ["evaluate", bundles["single-label"], "--corpus", corpus, "--label-map", label_map, "--details"]
    assert main([*command, "--device", "cpu"]) == 0
    shown = capsys.readouterr().out
    assert "labels mapped from tiny to other" in shown
    assert "far outside" in shown
    assert main([*command, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {"values", "raw", "intervals", "groups", "shift", "calibration"} <= set(answer)


def two_to_one(**changes: Any) -> SharedLabels:
    tree = {
        "from": {"name": "m", "labels": ["a", "b", "c"]},
        "to": {"name": "c", "labels": ["x", "y"]},
        "map": {"a": "x", "b": "x", "c": "y"},
    } | changes
    return SharedLabels.from_label_map(["a", "b", "c"], ["x", "y"], LabelMap.model_validate(tree))


def test_probabilities_of_labels_with_the_same_name_add_up() -> None:
    # The single best is c, but a and b together are x.
    scores = torch.log(torch.tensor([[0.3, 0.3, 0.4]]))
    shared, answers = two_to_one(), PredictionDecoder("single-label", ["a", "b", "c"])
    assert shared.mapped(answers, scores, np.array([0]), "single-label").predicted.tolist() == [0]
    assert shared.raw(answers, scores, np.array([0]), "single-label").predicted.tolist() == [1]


def test_several_labels_per_utterance_on_either_side() -> None:
    scores = torch.logit(torch.tensor([[0.2, 0.7, 0.4], [0.1, 0.3, 0.9]]))
    several = PredictionDecoder("multi-label", ["a", "b", "c"])
    single = PredictionDecoder("single-label", ["a", "b", "c"])
    shared = two_to_one()
    both = shared.mapped(several, scores, np.array([[1.0, 0.0], [0.0, 1.0]]), "multi-label")
    assert both.probability == pytest.approx(np.array([[0.7, 0.4], [0.3, 0.9]]))
    assert both.predicted.tolist() == [[True, False], [False, True]]
    onto_one = shared.mapped(several, scores, np.array([0, 1]), "single-label")
    assert onto_one.predicted.tolist() == [0, 1]
    onto_several = shared.mapped(single, scores, np.array([[1.0, 0.0], [0.0, 1.0]]), "multi-label")
    assert onto_several.predicted.sum(axis=1).tolist() == [1, 1]
