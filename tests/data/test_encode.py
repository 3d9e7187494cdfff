from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from joyful_ray.corpora.shards import table_from_conversations
from joyful_ray.corpora.statistics import FeatureStatistics, feature_statistics
from joyful_ray.data.encode import Encoding, Scaling, _speaker_ids
from joyful_ray.errors import CorpusError
from joyful_ray.schema import Conversation, Task
from tests.tiny_corpus import LABELS, WIDTHS, tiny_conversation, tiny_conversations

TASKS: list[Task] = ["single-label", "multi-label", "regression"]


def encoding(task: Task = "single-label", **changes: Any) -> Encoding:
    labels = () if task == "regression" else tuple(LABELS)
    return Encoding(**{"task": task, "labels": labels, "widths": WIDTHS, "scaling": {}, **changes})


def table_of(conversations: list[Conversation], task: Task = "single-label") -> pa.Table:
    return table_from_conversations(conversations, task=task, modalities=list(WIDTHS), has_texts=False)


def scaling() -> dict[Any, Scaling]:
    return {
        name: Scaling(np.linspace(-1, 1, width, dtype=np.float32), np.linspace(1, 3, width, dtype=np.float32))
        for name, width in WIDTHS.items()
    }


def slow_label(label: Any, task: Task) -> list[float]:
    """One utterance's label as numbers, flat."""
    if task == "single-label":
        return [-1.0 if label is None else float(LABELS.index(label))]
    if task == "multi-label":
        return [np.nan] * len(LABELS) if label is None else [float(name in label) for name in LABELS]
    return [np.nan if label is None else label]


@pytest.mark.parametrize("order", [(), ("F", "M"), ("M",), ("nobody", "Ben")])
def test_speakers_of_the_order_come_first_and_others_by_appearance(order: tuple[str, ...]) -> None:
    conversations = [["M", "F", "M"], ["F", "M"], ["Ben", "Ann", "F", "Ben"], []]
    table = pa.table({"speakers": pa.array(conversations, pa.list_(pa.string()))})
    expected = []
    for names in conversations:
        seen = list(dict.fromkeys([*order, *names]))
        expected.append([seen.index(name) for name in names])
    assert _speaker_ids(table["speakers"], order).to_pylist() == expected


def slow_speakers(speakers: list[str]) -> list[int]:
    seen: list[str] = []
    for name in speakers:
        if name not in seen:
            seen.append(name)
    return [seen.index(name) for name in speakers]


def assert_encodes(found: pa.Table, conversations: list[Conversation], task: Task, scales: dict[Any, Scaling]) -> None:
    assert found["conversation_id"].to_pylist() == [item.conversation_id for item in conversations]
    assert found["length"].to_pylist() == [len(item) for item in conversations]
    assert found["speakers"].to_pylist() == [slow_speakers(item.speakers) for item in conversations]
    for row, item in enumerate(conversations):
        expected = [number for label in item.labels for number in slow_label(label, task)]
        np.testing.assert_array_equal(found["labels"][row].as_py(), expected)
        for name in WIDTHS:
            matrix = item.features[name]
            if name in scales:
                matrix = (matrix - scales[name].mean_W) / scales[name].deviation_W
            values = np.array(found[name][row].as_py(), np.float32).reshape(-1, WIDTHS[name])
            np.testing.assert_allclose(values, matrix, rtol=1e-6)
            assert found[f"{name}_present"][row].as_py() == item.present[name].tolist()


@pytest.mark.parametrize("scales", [{}, scaling()], ids=["plain", "scaled"])
@pytest.mark.parametrize("task", TASKS)
def test_a_table_is_encoded_as_its_conversations_one_by_one(task: Task, scales: dict[Any, Scaling]) -> None:
    conversations = tiny_conversations("train", 12, task=task)
    found = encoding(task, scaling=scales).table(table_of(conversations, task))
    assert_encodes(found, conversations, task, scales)


@pytest.mark.parametrize("task", TASKS)
def test_a_slice_of_a_table_is_encoded_as_those_rows(task: Task) -> None:
    conversations = tiny_conversations("train", 12, task=task)
    found = encoding(task).table(table_of(conversations, task).slice(5, 4))
    assert_encodes(found, conversations[5:9], task, {})


@pytest.mark.parametrize("task", TASKS)
def test_a_table_of_many_chunks_is_encoded_as_one(task: Task) -> None:
    conversations = tiny_conversations("train", 9, task=task)
    parts = [table_of(conversations[start : start + 3], task) for start in (0, 3, 6)]
    assert_encodes(encoding(task).table(pa.concat_tables(parts)), conversations, task, {})


@pytest.mark.parametrize("task", TASKS)
def test_a_table_without_rows_is_encoded_as_a_table_without_rows(task: Task) -> None:
    table = table_of(tiny_conversations("train", 2, task=task), task)
    none = table.filter(pa.array([False] * table.num_rows))
    for empty in (table.slice(0, 0), table.schema.empty_table(), none):
        found = encoding(task).table(empty)
        assert found.num_rows == 0
        assert found.schema.equals(encoding(task).table(table).schema)


def test_a_modality_that_the_rows_lack_is_nowhere_present() -> None:
    conversations = tiny_conversations("train", 3)
    found = encoding(widths={**WIDTHS, "vision": 2}).table(table_of(conversations))
    for row, item in enumerate(conversations):
        assert np.isnan(found["vision"][row].as_py()).all()
        assert len(found["vision"][row].as_py()) == 2 * len(item)
        assert found["vision_present"][row].as_py() == [False] * len(item)


@pytest.mark.parametrize(("task", "bad"), [("single-label", "boredom"), ("multi-label", ["joy", "boredom"])])
def test_a_label_of_no_known_name_is_refused(task: Task, bad: Any) -> None:
    conversation = tiny_conversation("train-001", task=task)
    conversation.labels[0] = bad
    with pytest.raises(CorpusError, match="joy, anger, neutral"):
        encoding(task).table(table_of([conversation], task))


def test_scaled_features_have_mean_zero_and_deviation_one() -> None:
    table = table_of(tiny_conversations("train", 23))
    scales = {name: Scaling.of(found) for name, found in feature_statistics(table, WIDTHS).items()}
    found = feature_statistics(encoding(scaling=scales).table(table), WIDTHS)
    for name in WIDTHS:
        np.testing.assert_allclose(found[name].mean_W, 0, atol=1e-5)
        np.testing.assert_allclose(found[name].squares_W / found[name].count_W, 1, rtol=1e-5)


def test_a_feature_that_never_varies_or_is_never_present_is_only_centred() -> None:
    count_W, mean_W, squares_W = np.array([[5.0, 0.0, 5.0], [7.0, 0.0, 1e6], [0.0, 0.0, 1e-4]])
    scale = Scaling.of(FeatureStatistics(count_W, mean_W, squares_W, mean_W, mean_W))
    assert scale.mean_W.tolist() == [7.0, 0.0, 1e6]
    assert scale.deviation_W.tolist() == [1.0, 1.0, 1.0]
