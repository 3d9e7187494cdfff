from __future__ import annotations

import pytest

from joyful_ray.corpora.shards import table_from_conversations
from joyful_ray.data.encode import Encoding
from joyful_ray.data.ingest import smallest_store
from joyful_ray.data.loader import ResidentLoader
from joyful_ray.data.plan import draw_key
from joyful_ray.data.store import SplitStore
from tests.tiny_corpus import LABELS, WIDTHS, small_job, tiny_conversations

ENCODING = Encoding("single-label", tuple(LABELS), WIDTHS, {})
WORLDS = [1, 2, 3, 4, 5]


@pytest.fixture(scope="module")
def source() -> ResidentLoader:
    conversations = tiny_conversations("train", 23)
    table = table_from_conversations(conversations, task="single-label", modalities=list(WIDTHS), has_texts=False)
    return ResidentLoader.of(small_job(), SplitStore([ENCODING.table(table)], ENCODING))


@pytest.mark.parametrize("world_size", WORLDS)
def test_every_conversation_is_on_one_rank_once_per_epoch(source: ResidentLoader, world_size: int) -> None:
    seen = [
        c
        for rank in range(world_size)
        for work in source.epoch(1, rank=rank, world_size=world_size)
        for _, batch in work
        for c in batch.conversations
    ]
    assert sorted(seen) == list(range(23))


@pytest.mark.parametrize("world_size", WORLDS)
def test_all_ranks_have_the_same_number_of_steps(source: ResidentLoader, world_size: int) -> None:
    steps = [len(list(source.epoch(0, rank=rank, world_size=world_size))) for rank in range(world_size)]
    assert steps == [source.steps(world_size=world_size)] * world_size == [4] * world_size


@pytest.mark.parametrize("world_size", WORLDS)
def test_a_step_has_the_same_conversations_and_draws_on_any_ranks(source: ResidentLoader, world_size: int) -> None:
    whole = [batch for (_, batch), *_ in source.epoch(2, rank=0, world_size=1)]
    ranks = [list(source.epoch(2, rank=rank, world_size=world_size)) for rank in range(world_size)]
    for place, batch in enumerate(whole):
        parts = [part for rank in ranks for _, part in rank[place]]
        key = dict(zip(batch.conversations, batch.keys_C.tolist(), strict=True))
        found = {c: k for part in parts for c, k in zip(part.conversations, part.keys_C.tolist(), strict=True)}
        assert found == key, "a conversation draws alike wherever it is"


@pytest.mark.parametrize("world_size", WORLDS)
def test_evaluation_reads_everything_once_in_the_same_batches(source: ResidentLoader, world_size: int) -> None:
    found = {
        batch.conversations for rank in range(world_size) for batch in source.once(rank=rank, world_size=world_size)
    }
    alone = [batch.conversations for batch in source.once(rank=0, world_size=1)]
    assert found == set(alone)
    assert sorted(c for group in alone for c in group) == list(range(23))


def test_an_epoch_goes_on_from_any_step(source: ResidentLoader) -> None:
    whole = [[batch.conversations for _, batch in work] for work in source.epoch(1, rank=1, world_size=2)]
    for start in range(len(whole) + 1):
        later = source.epoch(1, rank=1, world_size=2, start=start)
        assert [[batch.conversations for _, batch in work] for work in later] == whole[start:]


def test_draws_differ_between_conversations_epochs_and_seeds() -> None:
    table = table_from_conversations(
        tiny_conversations("train", 5), task="single-label", modalities=list(WIDTHS), has_texts=False
    )
    store = SplitStore([ENCODING.table(table)], ENCODING)
    keys = [store.batch(range(5), draw_key=draw_key(seed, epoch)).keys_C for seed in (0, 1) for epoch in (0, 1)]
    assert len({key for each in keys for key in each.tolist()}) == 20
    assert store.batch(range(5)).keys_C is None, "nothing is drawn in evaluation"


MIB = 2**20


@pytest.mark.parametrize(
    ("nodes", "cluster", "expected"),
    [
        # The sum says nothing: every node that runs workers holds the whole corpus.
        ([(2, 0, 90), (2, 0, 90), (2, 0, 400)], {}, 90),
        # A head without cores runs no worker, however small its store is.
        ([(0, 0, 20), (4, 0, 300)], {}, 300),
        ([(1, 0, 50), (8, 0, 300)], {"cpus_per_worker": 4}, 300),
        ([(8, 0, 50), (8, 1, 300)], {"gpus_per_worker": 1}, 300),
        # A cluster that grows from nothing: what is there is all that is known.
        ([(0, 0, 70)], {}, 70),
        ([], {}, 0),
    ],
)
def test_a_corpus_must_fit_into_the_smallest_store_of_the_nodes_that_run_workers(
    nodes: list[tuple[int, int, int]], cluster: dict[str, int], expected: int
) -> None:
    found = [
        {"Alive": True, "Resources": {"CPU": cpus, "GPU": gpus, "object_store_memory": store * MIB}}
        for cpus, gpus, store in nodes
    ]
    dead = {"Alive": False, "Resources": {"CPU": 64, "GPU": 8, "object_store_memory": 1}}
    assert smallest_store([*found, dead], small_job(cluster={"workers": 2, **cluster})) == expected * MIB
