from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from joyful_ray.corpora.shards import table_from_conversations
from joyful_ray.data.encode import Encoding
from joyful_ray.data.loader import blank_batch
from joyful_ray.data.store import SplitStore
from joyful_ray.schema import Conversation, Task
from tests.data.test_encode import TASKS, slow_label, slow_speakers
from tests.tiny_corpus import LABELS, WIDTHS, tiny_conversations


def encoding(task: Task) -> Encoding:
    return Encoding(task, () if task == "regression" else tuple(LABELS), WIDTHS, {})


def encoded(conversations: list[Conversation], task: Task = "single-label") -> pa.Table:
    table = table_from_conversations(conversations, task=task, modalities=list(WIDTHS), has_texts=False)
    return encoding(task).table(table)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("chosen", [(0,), (3, 1), (2, 2), tuple(range(8))])
def test_a_batch_has_the_chosen_conversations_in_that_order(task: Task, chosen: tuple[int, ...]) -> None:
    conversations = tiny_conversations("train", 8, task=task)
    store = SplitStore([encoded(conversations[:3], task), encoded(conversations[3:], task)], encoding(task))
    batch = store.batch(chosen)
    items = [conversations[place] for place in chosen]
    assert batch.conversations == chosen
    assert batch.lengths_C.tolist() == [len(item) for item in items]
    assert batch.speakers_N.tolist() == [who for item in items for who in slow_speakers(item.speakers)]
    labels = np.array([slow_label(label, task) for item in items for label in item.labels], np.float32)
    np.testing.assert_array_equal(batch.labels.numpy(), labels if task == "multi-label" else labels[:, 0])
    assert batch.labels.dtype == (torch.int64 if task == "single-label" else torch.float32)
    for name in WIDTHS:
        np.testing.assert_array_equal(batch.features[name], np.concatenate([item.features[name] for item in items]))
        np.testing.assert_array_equal(batch.present[name], np.concatenate([item.present[name] for item in items]))


def test_conversations_are_in_the_order_of_their_ids_for_every_order_of_the_tables() -> None:
    conversations = tiny_conversations("train", 9)
    orders = [[0, 1, 2, 3, 4, 5, 6, 7, 8], [8, 3, 1, 0, 7, 2, 5, 4, 6]]
    stores = [
        SplitStore(
            [encoded([conversations[p] for p in order[start : start + 4]]) for start in (0, 4, 8)],
            encoding("single-label"),
        )
        for order in orders
    ]
    assert stores[0].conversation_ids == stores[1].conversation_ids == sorted(stores[0].conversation_ids)
    assert stores[0].lengths.tolist() == stores[1].lengths.tolist()
    one, other = (store.batch(range(9)) for store in stores)
    assert torch.equal(one.labels, other.labels)
    assert all(torch.equal(one.features[n].nan_to_num(), other.features[n].nan_to_num()) for n in WIDTHS)


def test_a_store_counts_utterances_and_knows_an_empty_split() -> None:
    conversations = tiny_conversations("train", 5)
    store = SplitStore([encoded(conversations)], encoding("single-label"))
    assert (len(store), store.utterances) == (5, sum(len(item) for item in conversations))
    empty = SplitStore([encoded(conversations).slice(0, 0)], encoding("single-label"))
    assert (len(empty), empty.utterances) == (0, 0)


def test_a_store_holds_views_of_the_tables_memory() -> None:
    table = encoded(tiny_conversations("train", 6)).combine_chunks()
    store = SplitStore([table], encoding("single-label"))
    for name in WIDTHS:
        matrix = store._blocks[0].features[name]
        buffer = table[name].chunk(0).values.buffers()[1]
        assert buffer.address <= matrix.ctypes.data < buffer.address + buffer.size
        assert not matrix.flags.owndata


def test_a_batch_is_a_copy_that_may_be_written_to() -> None:
    store = SplitStore([encoded(tiny_conversations("train", 3))], encoding("single-label"))
    before = store.batch([0]).features["text"].clone()
    store.batch([0]).features["text"].fill_(7.0)
    assert torch.equal(store.batch([0]).features["text"].nan_to_num(), before.nan_to_num())


@pytest.mark.parametrize("task", TASKS)
def test_the_blank_batch_has_the_shapes_of_a_real_one_and_no_label(task: Task) -> None:
    real = SplitStore([encoded(tiny_conversations("train", 3, task=task), task)], encoding(task)).batch([0])
    blank = blank_batch(encoding(task))
    assert not blank.labeled_N.any()
    assert blank.utterances == 2
    assert blank.labels.dtype == real.labels.dtype
    assert blank.labels.shape[1:] == real.labels.shape[1:]
    assert all(blank.features[name].shape[1:] == real.features[name].shape[1:] for name in WIDTHS)
