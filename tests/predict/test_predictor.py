"""Predictions of a bundle: the labels that evaluate counts, from shards and from dicts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

import joyful_ray
from joyful_ray.corpora.shards import open_corpus
from joyful_ray.errors import CorpusError
from joyful_ray.predict.decoder import PredictionDecoder, VectorChoice
from joyful_ray.predict.predictor import Predictor
from joyful_ray.train.evaluate import evaluate_bundle
from tests.predict.bundles import LABELS, write_random_bundle
from tests.tiny_corpus import WIDTHS

TASKS = ["single-label", "multi-label", "regression"]


@pytest.fixture(scope="module")
def predictors(tiny: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Predictor]:
    folder = tmp_path_factory.mktemp("bundles")
    return {task: joyful_ray.load(write_random_bundle(folder / task, tiny(task)), device="cpu") for task in TASKS}


@pytest.mark.parametrize("task", TASKS)
def test_predicted_labels_are_those_that_evaluate_counts(
    task: str, predictors: dict[str, Predictor], tiny: Callable[..., str]
) -> None:
    predictor, corpus = predictors[task], open_corpus(tiny(task))
    rows = corpus.read_table("train")
    predicted = predictor.table(rows)["prediction"].to_pylist()
    truth = [label for labels in rows["labels"].to_pylist() for label in labels]
    pairs = [(one, its) for one, its in zip(truth, predicted, strict=True) if one is not None]
    scores = evaluate_bundle(predictor.bundle.location.uri, tiny(task), split="train", device="cpu")
    assert scores.utterances == len(pairs)
    if task == "single-label":
        found = [[sum(pair == (row, column) for pair in pairs) for column in LABELS] for row in LABELS]
        assert found == scores.confusion
        assert len(set(predicted)) > 1
    elif task == "multi-label":
        for name in LABELS:
            hits = sum(name in one and name in its for one, its in pairs)
            assert scores.per_label[name]["recall"] == pytest.approx(
                hits / max(sum(name in one for one, _ in pairs), 1)
            )
            assert scores.per_label[name]["precision"] == pytest.approx(
                hits / max(sum(name in its for _, its in pairs), 1)
            )
    else:
        assert scores.values["mae"] == pytest.approx(np.mean([abs(one - its) for one, its in pairs]), rel=1e-5)


def as_dict(row: dict[str, Any]) -> dict[str, Any]:
    """Convert a row of a shard to a line of the JSONL format."""
    line: dict[str, Any] = {key: row[key] for key in ("conversation_id", "utterance_ids", "speakers", "labels")}
    for name, width in WIDTHS.items():
        vectors = [row[name][start : start + width] for start in range(0, len(row[name]), width)]
        line[name] = [vector if here else None for vector, here in zip(vectors, row[f"{name}_present"], strict=True)]
    return line


@pytest.mark.parametrize("task", TASKS)
def test_dicts_give_the_predictions_of_the_shard(
    task: str, predictors: dict[str, Predictor], tiny: Callable[..., str]
) -> None:
    rows = open_corpus(tiny(task)).read_table("test")
    conversations = [as_dict(row) for row in rows.to_pylist()]
    assert predictors[task].predict(conversations).equals(predictors[task].table(rows))


def test_arrays_and_lists_give_the_same_predictions(predictors: dict[str, Predictor]) -> None:
    vectors = np.random.default_rng(0).normal(size=(2, WIDTHS["text"])).astype(np.float32)
    with_lists = predictors["single-label"].predict([{"speakers": ["a", "b"], "text": vectors.tolist()}])
    with_arrays = predictors["single-label"].predict([{"speakers": ["a", "b"], "text": vectors}])
    assert with_arrays.equals(with_lists)
    assert with_arrays["utterance_id"].to_pylist() == ["conversation-1_0", "conversation-1_1"]


def test_conversations_do_not_affect_each_other(predictors: dict[str, Predictor], tiny: Callable[..., str]) -> None:
    rows = open_corpus(tiny()).read_table("dev")
    together = predictors["single-label"].scores([rows])[0]
    alone = torch.cat([predictors["single-label"].scores([rows.slice(place, 1)])[0] for place in range(rows.num_rows)])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize(
    ("conversation", "reason"),
    [
        ({"speakers": ["a"], "text": [[0.0] * 5]}, "text: vector 0 should have 6 values, found 5 values"),
        ({"speakers": ["a"], "text": np.zeros((1, 5))}, "text vectors have width 5, expected 6"),
        ({"speakers": ["a"], "text": [[float("nan")] * 6]}, "text value 0 is nan"),
        ({"speakers": ["a", "b"], "text": [[0.0] * 6]}, "text: expected a list of 2 vectors, found 1"),
        ({"speakers": []}, "the conversation has no utterances"),
        ({"speaker": ["a"]}, "unknown key 'speaker'; did you mean speakers?"),
        ({"speakers": ["a"], "vision": [[1.0]]}, "the bundle does not read vision; it reads text, audio"),
        (7, "expected a dict, found a value of type int"),
    ],
)
def test_an_invalid_conversation_is_named_by_its_number(
    conversation: Any, reason: str, predictors: dict[str, Predictor]
) -> None:
    good = {"speakers": ["a"], "text": [[0.0] * 6]}
    with pytest.raises(CorpusError) as caught:
        predictors["single-label"].predict([good, conversation])
    assert str(caught.value).startswith("conversation 2: ")
    assert reason in str(caught.value)


def test_no_conversations_give_a_table_without_rows(predictors: dict[str, Predictor]) -> None:
    table = predictors["single-label"].predict([])
    assert table.num_rows == 0
    assert table.column_names[:2] == ["conversation_id", "utterance_id"]


def test_the_embedding_is_what_the_contrast_compares(
    predictors: dict[str, Predictor], tiny: Callable[..., str]
) -> None:
    rows = open_corpus(tiny()).read_table("test")
    table = predictors["single-label"].table(rows, VectorChoice(embedding=True))
    width = predictors["single-label"].bundle.job.model.encoder.width
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), width)
    assert table.drop_columns(["embedding"]).equals(predictors["single-label"].table(rows))


def test_probabilities_and_thresholds_at_exact_values() -> None:
    scores_NK = torch.log(torch.tensor([[1.0, 3.0], [9.0, 1.0]]))
    single = PredictionDecoder("single-label", ["a", "b"])
    assert single.probabilities(scores_NK).tolist() == [pytest.approx([0.25, 0.75]), pytest.approx([0.9, 0.1])]
    assert single.predictions(scores_NK).to_pylist() == ["b", "a"]
    halved = PredictionDecoder("single-label", ["a", "b"], temperature=2.0)
    assert halved.probabilities(scores_NK)[1].tolist() == pytest.approx([0.75, 0.25])
    several = PredictionDecoder("multi-label", ["a", "b"], thresholds={"a": 0.5, "b": 0.8})
    assert several.probabilities(scores_NK)[0].tolist() == pytest.approx([0.5, 0.75])
    assert several.predictions(scores_NK).to_pylist() == [["a"], ["a"]]


def test_temperature_moves_probabilities_and_thresholds_together() -> None:
    scores_NK = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)) * 3
    limits = {"a": 0.2, "b": 0.5, "c": 0.85}
    plain = PredictionDecoder("multi-label", list("abc"), thresholds=limits)
    cooled = PredictionDecoder("multi-label", list("abc"), thresholds=limits, temperature=2.5)
    assert cooled.predictions(scores_NK).equals(plain.predictions(scores_NK))
    moved = torch.tensor(list(cooled.calibrated_thresholds.values()), dtype=torch.float64)
    assert torch.equal(cooled.probabilities(scores_NK) >= moved, plain.chosen(scores_NK))


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, joyful_ray; print([name for name in ('torch', 'ray', 'pyarrow', 'numpy') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert found.stdout.strip() == "[]"


def test_a_predictor_shows_its_task_labels_and_features_in_one_line(predictors: dict[str, Predictor]) -> None:
    shown = repr(predictors["single-label"])
    assert "single-label, " in shown
    assert "features text " in shown
    assert len(shown) < 120
