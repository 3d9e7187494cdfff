"""Splits that are streamed: every conversation once an epoch, the same steps on any number of ranks, from any step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from joyful_ray.config import JobConfig
from joyful_ray.corpora import shard_file
from joyful_ray.corpora.shards import Corpus, ShardReader, open_corpus
from joyful_ray.data import streaming
from joyful_ray.data.batch import Batch
from joyful_ray.data.here import loaders_here
from joyful_ray.data.plan import StepRules
from joyful_ray.data.prepare import prepare_here, survey_here
from joyful_ray.data.split_rows import Piece, rows_of_pieces
from joyful_ray.data.streaming import EVALUATED_TOGETHER, LANES, StreamingLoader, cut_pieces, plan_lanes
from joyful_ray.errors import ConfigError, CorpusError, StorageError
from joyful_ray.schema import Split
from joyful_ray.train.launch import train
from joyful_ray.train.run_directory import RunDirectory
from tests.tiny_corpus import COUNTS, small_job, write_tiny

WORLDS = [1, 2, 3, 5]


def rows_in(pieces: Any) -> list[tuple[int, int]]:
    return [(piece.shard, row) for piece in pieces for row in range(piece.start, piece.stop)]


@pytest.fixture(scope="module", params=["dev", "no dev"])
def corpus(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Shards of 5 conversations, each in row groups of 2; without a dev split, some rows of a shard are not train's."""
    counts: dict[Split, int] = {"train": 23, "test": 5} | ({"dev": 7} if request.param == "dev" else {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard_file, "ROW_GROUP_BYTES", 500)
        folder = write_tiny(tmp_path_factory.mktemp("streamed") / "corpus", counts=counts, shard_conversations=5)
    assert pq.read_metadata(Path(folder, "train/part-00000.parquet")).num_row_groups > 2
    return open_corpus(folder)


def job_of(*, workers: int = 0, units: bool = True, **data: Any) -> JobConfig:
    """A job whose unit is a conversation, or one of two fixed micro-batches."""
    looks_further: dict[str, Any] = {} if units else {"model": {"encoder": {"normalisation": "batch"}}}
    settings: dict[str, Any] = {"data": {"ingest": "streaming", "streaming_buffer_conversations": 12, **data}}
    return small_job(looks_further, settings, objective={"negatives": "conversation"}, cluster={"workers": workers})


def loader_of(corpus: Corpus, job: JobConfig, split: Split = "train") -> StreamingLoader:
    corpus_info, reading = survey_here(corpus, job)
    return StreamingLoader(reading[split], job, corpus_info.encoding)


Steps = list[list[list[tuple[tuple[str, ...], list[int]]]]]


def steps_of(loader: StreamingLoader, epoch: int, world_size: int, start: int = 0) -> Steps:
    """By step and rank, the batches: ids of their conversations, and keys of their draws."""
    ranks = []
    for rank in range(world_size):
        work = list(loader.epoch(epoch, rank=rank, world_size=world_size, start=start))
        assert len(work) == loader.steps(world_size=world_size) - start
        ranks.append([[(batch.conversation_ids, keys_of(batch)) for _, batch in step] for step in work])
    return [list(step) for step in zip(*ranks, strict=True)]


def keys_of(batch: Batch) -> list[int]:
    assert batch.keys_C is not None
    return batch.keys_C.tolist()


def content(steps: Steps) -> list[dict[str, int]]:
    """By step, its conversations and the keys of their draws, wherever they are."""
    return [
        {name: key for rank in step for ids, keys in rank for name, key in zip(ids, keys, strict=True)}
        for step in steps
    ]


@given(
    rows=st.lists(st.integers(0, 30), min_size=1, max_size=8),
    batch=st.integers(1, 80),
    parts=st.one_of(st.none(), st.integers(1, 6)),
    epoch=st.integers(0, 3),
)
def test_lanes_have_every_row_once_and_give_every_step_its_share(
    rows: list[int], batch: int, parts: int | None, epoch: int
) -> None:
    lanes = plan_lanes(rows, StepRules(batch, micro_batches=parts), seed=1, epoch=epoch)
    seen = [row for lane in lanes for row in rows_in(lane.pieces)]
    assert sorted(seen) == [(shard, row) for shard, count in enumerate(rows) for row in range(count)]
    assert sum(lane.share for lane in lanes) == batch
    steps = -(-sum(rows) // batch)
    assert all(sum(map(len, lane.pieces)) <= steps * lane.share for lane in lanes)
    assert len(lanes) <= LANES


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 6))), st.integers(0, 40), st.integers(0, 40)
)
def test_pieces_are_cut_at_any_row(drawn: list[tuple[int, int, int]], low: int, high: int) -> None:
    pieces = [Piece(shard, start, start + size) for shard, start, size in drawn]
    assert rows_in(cut_pieces(pieces, low, high)) == rows_in(pieces)[low : max(high, low)]


@pytest.mark.parametrize("units", [True, False])
@pytest.mark.parametrize("world_size", WORLDS)
def test_a_step_has_the_same_conversations_and_draws_on_any_ranks(corpus: Corpus, world_size: int, units: bool) -> None:
    job = job_of(units=units)
    loader = loader_of(corpus, job)
    kept = set(prepare_here(corpus, job)[1]["train"].conversation_ids)
    alone, together = content(steps_of(loader, 1, 1)), content(steps_of(loader, 1, world_size))
    assert together == alone
    names = [name for step in alone for name in step]
    assert len(names) == len(set(names))
    assert set(names) == kept
    assert max(map(len, alone)) == job.train.batch_conversations
    assert alone != content(steps_of(loader, 2, 1))


def test_fixed_micro_batches_are_the_same_on_any_ranks(corpus: Corpus) -> None:
    loader = loader_of(corpus, job_of(units=False))
    found = [
        {frozenset(ids) for step in steps_of(loader, 0, world_size) for rank in step for ids, _ in rank}
        for world_size in WORLDS
    ]
    assert all(groups == found[0] for groups in found)
    assert max(map(len, found[0])) == 3, "half of a batch"


def test_ranks_share_the_work(corpus: Corpus) -> None:
    for step in steps_of(loader_of(corpus, job_of()), 0, 3)[:-1]:
        assert [sum(len(ids) for ids, _ in rank) for rank in step] == [2, 2, 2]


@pytest.mark.parametrize("world_size", [1, 2])
def test_an_epoch_streams_on_from_any_step(corpus: Corpus, world_size: int) -> None:
    loader = loader_of(corpus, job_of())
    whole = steps_of(loader, 1, world_size)
    for start in range(len(whole) + 1):
        assert steps_of(loader, 1, world_size, start) == whole[start:]


def test_an_epoch_is_the_same_whatever_was_read_before(corpus: Corpus) -> None:
    fresh = {epoch: steps_of(loader_of(corpus, job_of()), epoch, 2) for epoch in range(4)}
    loader = loader_of(corpus, job_of())
    for epoch in (0, 1, 3, 2, 2, 3):
        assert steps_of(loader, epoch, 2) == fresh[epoch]
    assert [step for step, _ in zip(loader.epoch(0, rank=0, world_size=2), range(2), strict=False)]
    assert steps_of(loader, 1, 2) == fresh[1], "after an epoch that was left"


def begun(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Notes from now on which epochs begin to be read."""
    epochs: list[int] = []
    real = streaming.plan_lanes

    def noted(*args: Any, epoch: int, **settings: Any) -> list[streaming.Lane]:
        epochs.append(epoch)
        return real(*args, epoch=epoch, **settings)

    monkeypatch.setattr(streaming, "plan_lanes", noted)
    return epochs


def test_the_next_epoch_is_read_while_the_last_window_is_trained_on(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = loader_of(corpus, job_of(streaming_buffer_conversations=1000))
    epochs = begun(monkeypatch)
    next(loader.epoch(0, rank=0, world_size=1))
    assert epochs == [0, 1]


def test_what_is_read_for_another_rank_keeps_what_was_read_ahead(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first rank's diagnostics read the first step of one rank alone, in the middle of its own epoch."""
    loader = loader_of(corpus, job_of(streaming_buffer_conversations=1000))
    mine = loader.epoch(0, rank=0, world_size=2)
    next(mine)
    next(loader.epoch(0, rank=0, world_size=1))
    list(mine)
    epochs = begun(monkeypatch)
    next(loader.epoch(1, rank=0, world_size=2))
    assert epochs == [2], "epoch 1 had been begun"


def test_the_order_depends_on_the_buffer_and_the_seed(corpus: Corpus) -> None:
    orders = [
        content(steps_of(loader_of(corpus, job), 0, 1))
        for job in (job_of(), job_of(streaming_buffer_conversations=1), job_of().model_copy(update={"seed": 1}))
    ]
    assert orders[0] not in orders[1:]
    assert orders[1] != orders[2]


def test_streamed_batches_have_the_values_of_resident_ones(corpus: Corpus) -> None:
    job = job_of()
    store = prepare_here(corpus, job)[1]["train"]
    position = {name: place for place, name in enumerate(store.conversation_ids)}
    for work in loader_of(corpus, job).epoch(0, rank=0, world_size=1):
        for _, batch in work:
            expected = store.batch([position[name] for name in batch.conversation_ids])
            assert torch.equal(batch.lengths_C, expected.lengths_C)
            assert torch.equal(batch.labels, expected.labels)
            for name, values in batch.features.items():
                assert torch.equal(values.nan_to_num(9e9), expected.features[name].nan_to_num(9e9))


@pytest.mark.parametrize("split", ["dev", "test"])
def test_evaluation_reads_everything_once_in_batches_that_no_rank_changes(corpus: Corpus, split: Split) -> None:
    job = job_of()
    loader = loader_of(corpus, job, split)
    expected = prepare_here(corpus, job)[1][split].conversation_ids
    for world_size in WORLDS:
        batches = [
            batch.conversation_ids
            for rank in range(world_size)
            for batch in loader.once(rank=rank, world_size=world_size)
        ]
        assert sorted(name for ids in batches for name in ids) == expected
        assert set(batches) == {batch.conversation_ids for batch in loader.once(rank=0, world_size=1)}


def test_evaluation_of_many_conversations_is_divided_in_fixed_groups(tmp_path: Path) -> None:
    count = 2 * EVALUATED_TOGETHER + 9
    corpus = open_corpus(
        write_tiny(tmp_path / "many", counts={"train": 3, "dev": 2, "test": count}, shard_conversations=70)
    )
    loader = loader_of(corpus, job_of(), "test")
    alone = [batch.conversation_ids for batch in loader.once(rank=0, world_size=1)]
    ranks = [[batch.conversation_ids for batch in loader.once(rank=rank, world_size=2)] for rank in range(2)]
    assert all(ranks)
    assert sorted(ranks[0] + ranks[1]) == sorted(alone)
    assert sum(map(len, alone)) == count


@pytest.mark.parametrize("at_a_time", [1, 3, 100])
def test_rows_come_so_many_at_a_time(corpus: Corpus, at_a_time: int) -> None:
    reading = survey_here(corpus, job_of())[1]["train"]
    rows = reading.rows
    pieces = [Piece(shard, 1, count) for shard, count in enumerate(rows) if count > 1]
    tables = list(
        rows_of_pieces(reading, pieces, ShardReader(corpus), columns=corpus.schema.names, at_a_time=at_a_time)
    )
    assert all(table.num_rows == at_a_time for table in tables[:-1])
    found = [name for table in tables for name in table["conversation_id"].to_pylist()]
    expected = [reading.read(shard)["conversation_id"].to_pylist()[1:] for shard in reading.shards]
    assert found == [name for names in expected for name in names]


def test_a_shard_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    corpus = open_corpus(write_tiny(tmp_path / "corpus"))
    shard = tmp_path / "corpus" / corpus.shards("train")[0].name
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(CorpusError, match=rf"{shard}: expected sha256 .* in 100 bytes, .*import the corpus again"):
        list(loader_of(corpus, job_of()).epoch(0, rank=0, world_size=1))
    shard.unlink()
    with pytest.raises(CorpusError, match=rf"cannot read {shard}.*import the corpus again"):
        list(loader_of(corpus, job_of()).epoch(0, rank=0, world_size=1))


def test_a_storage_that_fails_is_no_damaged_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may work again, so that a run on Ray tries once more."""
    corpus = open_corpus(write_tiny(tmp_path / "corpus"))
    loader = loader_of(corpus, job_of())

    def fails(*_: Any, **__: Any) -> Any:
        raise OSError("the connection was reset")

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", fails)
    with pytest.raises(StorageError, match=r"cannot read .*part-.*\.parquet \(the connection was reset\)"):
        list(loader.epoch(0, rank=0, world_size=1))


def test_a_run_without_ray_streams(tmp_path: Path) -> None:
    where = {"corpus": write_tiny(tmp_path / "corpus"), "storage": str(tmp_path / "runs")}
    record = train(job_of().model_copy(update=where | {"name": "run"}))
    lines = RunDirectory.of(job_of().model_copy(update=where | {"name": "run"})).metrics()
    assert [line.conversations for line in lines] == [COUNTS["train"]] * 3
    assert record.test is not None
    assert record.workers == 0


def test_once_more_on_train_and_dev_needs_both_in_memory(tmp_path: Path) -> None:
    job = job_of()
    refitted = job.model_copy(update={"train": job.train.model_copy(update={"refit": True})})
    with pytest.raises(ConfigError, match=r"train.refit needs train and dev in memory; set data.ingest: resident"):
        loaders_here(open_corpus(write_tiny(tmp_path / "corpus")), refitted)


def test_a_loader_is_made_for_every_split(tmp_path: Path) -> None:
    corpus = open_corpus(write_tiny(tmp_path / "corpus"))
    found: dict[str, Callable[..., Any]] = dict(loaders_here(corpus, job_of()).sources)
    assert {split: type(make()) for split, make in found.items()} == dict.fromkeys(COUNTS, StreamingLoader)
