"""Statistics of a split: those of numpy, and those of its parts together."""

from __future__ import annotations

import itertools
from collections import Counter
from functools import reduce
from operator import add

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from joyful_ray.corpora import statistics as module
from joyful_ray.corpora.shards import table_from_conversations
from joyful_ray.corpora.statistics import (
    FeatureStatistics,
    Statistics,
    conversation_list,
    counts_in_order,
    feature_statistics,
)
from joyful_ray.schema import TASKS, Conversation, Task
from tests.batches import quick
from tests.tiny_corpus import LABELS, WIDTHS, tiny_conversations


def table_of(conversations: list[Conversation], task: Task = "single-label") -> pa.Table:
    return table_from_conversations(conversations, task=task, modalities=list(WIDTHS), has_texts=False)


def test_statistics_are_those_of_the_cells_that_are_present() -> None:
    conversations = tiny_conversations("train", 12)
    found = feature_statistics(table_of(conversations), WIDTHS)
    for name in WIDTHS:
        matrix = np.concatenate([item.features[name] for item in conversations]).astype(np.float64)
        np.testing.assert_array_equal(found[name].count_W, (~np.isnan(matrix)).sum(0))
        np.testing.assert_allclose(found[name].mean_W, np.nanmean(matrix, 0))
        np.testing.assert_allclose(found[name].squares_W / found[name].count_W, np.nanvar(matrix, 0))
        np.testing.assert_array_equal(found[name].least_W, np.nanmin(matrix, 0))
        np.testing.assert_array_equal(found[name].most_W, np.nanmax(matrix, 0))


@quick
@given(st.integers(0, 40), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_features_are_read_a_few_utterances_at_a_time(count: int, at_a_time: int, seed: int) -> None:
    """Far from zero, with absent cells and features that are never present."""
    draw = np.random.default_rng(seed)
    values = 1e6 + draw.normal(size=(count, 5))
    values[draw.random(values.shape) < 0.3] = np.nan
    values[:, 2] = np.nan
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "UTTERANCES_AT_A_TIME", at_a_time)
        found = FeatureStatistics.of(values)
    for feature in range(5):
        known = values[~np.isnan(values[:, feature]), feature]
        assert found.count_W[feature] == len(known)
        if len(known):
            assert found.mean_W[feature] == pytest.approx(known.mean(), rel=1e-12)
            assert found.squares_W[feature] == pytest.approx(known.var() * len(known), rel=1e-5, abs=1e-8)
            assert (found.least_W[feature], found.most_W[feature]) == (known.min(), known.max())
        else:
            assert (found.mean_W[feature], found.squares_W[feature]) == (0.0, 0.0)
            assert np.isnan([found.least_W[feature], found.most_W[feature]]).all()


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("cuts", [(6,), (1, 2, 11)])
def test_statistics_of_parts_add_up_to_those_of_the_whole(task: Task, cuts: tuple[int, ...]) -> None:
    table = table_of(tiny_conversations("train", 12, task=task), task)
    whole = Statistics.of(table, task=task, widths=WIDTHS)
    parts = [table.slice(low, high - low) for low, high in itertools.pairwise([0, *cuts, 12])]
    added = reduce(add, (Statistics.of(part, task=task, widths=WIDTHS) for part in parts), Statistics())
    for name in ("conversations", "utterances", "unlabeled", "labels", "label_histogram", "present"):
        assert getattr(added, name) == getattr(whole, name), name
    for name in ("lengths", "speakers", "speaker_names"):
        assert getattr(added, name) == getattr(whole, name), name
    for modality in WIDTHS:
        assert added.absent_cells(modality) == whole.absent_cells(modality)
        np.testing.assert_allclose(added.features[modality].mean_W, whole.features[modality].mean_W)
        np.testing.assert_allclose(added.features[modality].squares_W, whole.features[modality].squares_W)


@pytest.mark.parametrize("task", TASKS)
def test_statistics_count_labels_speakers_and_lengths(task: Task) -> None:
    conversations = tiny_conversations("train", 12, task=task)
    found = Statistics.of(table_of(conversations, task), task=task, widths=WIDTHS)
    labels = [label for item in conversations for label in item.labels]
    known = [label for label in labels if label is not None]
    expected = {
        "single-label": {name: known.count(name) for name in LABELS},
        "multi-label": {name: sum(name in label for label in known if isinstance(label, list)) for name in LABELS},
        "regression": {},
    }[task]
    assert counts_in_order(LABELS if expected else [], found.labels) == expected
    assert found.unlabeled == len(labels) - len(known)
    nearest = [round(float(label) * 10) for label in known] if task == "regression" else []  # type: ignore[arg-type]
    assert found.label_histogram == Counter(nearest)
    assert found.speakers == max(len(set(item.speakers)) for item in conversations)
    assert found.speaker_names == {name for item in conversations for name in item.speakers}
    assert found.lengths == Counter(len(item) for item in conversations)
    assert found.present == {name: sum(int(item.present[name].sum()) for item in conversations) for name in WIDTHS}
    for name in WIDTHS:
        cells = sum(int(np.isnan(item.features[name][item.present[name]]).sum()) for item in conversations)
        assert found.absent_cells(name) == cells


def test_many_names_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    table = table_of(tiny_conversations("train", 12))
    names = Statistics.of(table, task="single-label", widths={}).speaker_names
    assert names is not None
    monkeypatch.setattr(module, "MOST_NAMES", len(names) - 1)
    assert Statistics.of(table, task="single-label", widths={}).speaker_names is None
    parts = [Statistics.of(table.slice(place, 1), task="single-label", widths={}) for place in range(12)]
    assert reduce(add, parts).speaker_names is None


def test_conversations_are_listed_with_their_lengths_and_speakers() -> None:
    conversations = tiny_conversations("train", 5)
    listed = conversation_list(table_of(conversations)).to_pylist()
    assert listed == [
        {"conversation_id": item.conversation_id, "length": len(item), "speakers": len(set(item.speakers))}
        for item in conversations
    ]


@pytest.mark.parametrize("task", TASKS)
def test_no_rows_change_nothing(task: Task) -> None:
    table = table_of(tiny_conversations("train", 4, task=task), task)
    some = Statistics.of(table, task=task, widths=WIDTHS)
    for none in (table.slice(0, 0), table.filter(pa.array([False] * 4))):
        empty = Statistics.of(none, task=task, widths=WIDTHS)
        assert (empty.conversations, empty.utterances, empty.speakers, dict(empty.lengths)) == (0, 0, 0, {})
        assert some + empty is some
        assert empty + some is some
        assert conversation_list(none).num_rows == 0
