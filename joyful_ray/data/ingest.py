"""Ray Data: shards -> encoded splits, resident in the object store, or streamed every epoch with bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import add

import numpy as np
import pyarrow as pa
import ray
import ray.data
from ray import ObjectRef, cloudpickle

from joyful_ray.config import JobConfig
from joyful_ray.corpora.shards import Corpus
from joyful_ray.data.batch import Batch
from joyful_ray.data.encode import Encoding, Survey
from joyful_ray.data.plan import MicroBatch, cut_evenly, draw_seed
from joyful_ray.data.prepare import Facts, facts_of, unscaled_encoding
from joyful_ray.data.reading import Reading, read_pieces, read_shard, readings
from joyful_ray.data.source import ResidentSource, Source, Work
from joyful_ray.data.store import SplitStore
from joyful_ray.schema import SPLITS, Split

RESIDENT_SHARE = 0.3
ALL_ROWS = 2**62
_SHARDS, _ROWS = 4, 5


@dataclass(frozen=True)
class Resident:
    """A split in the object store, one zero-copy view a worker."""

    tables: tuple[ObjectRef, ...]

    def source(self, job: JobConfig, encoding: Encoding) -> Source:
        """The plan over all of it."""
        return ResidentSource.of(job, SplitStore(ray.get(list(self.tables)), encoding))


@dataclass(frozen=True)
class Streamed:
    """A split that stays on storage.

    Attributes:
        rows: chosen conversations of each shard.
    """

    reading: Reading
    rows: tuple[int, ...]

    def source(self, job: JobConfig, encoding: Encoding) -> Source:
        """A fresh pass over storage every epoch."""
        return StreamingSource(self, job, encoding)


Held = Resident | Streamed


def ingest(corpus: Corpus, job: JobConfig, splits: Sequence[Split] = SPLITS) -> tuple[Facts, dict[Split, Held]]:
    """Survey the training split and encode the splits with Ray Data, once.

    Args:
        splits: those that will be used; no other is read.

    Returns:
        The facts, and by split what a worker makes its source from.
    """
    ray.data.DataContext.get_current().use_datasource_v2 = False
    ray.data.DataContext.get_current().enable_progress_bars = False
    ray.data.DataContext.get_current().execution_options.preserve_order = True
    reading = {split: how for split, how in readings(corpus, job).items() if split in splits}
    plain = unscaled_encoding(corpus.manifest, job)
    raw = {split: _dataset(how, [(uri, 0, ALL_ROWS) for uri in how.uris]) for split, how in reading.items()}
    if not _is_resident(corpus, job):
        facts = facts_of(corpus, job, reading, _survey(raw["train"], plain))
        return facts, {split: Streamed(how, _chosen_rows(corpus, how)) for split, how in reading.items()}
    raw = {split: dataset.materialize() for split, dataset in raw.items()}
    facts = facts_of(corpus, job, reading, _survey(raw["train"], plain))
    held: dict[Split, Held] = {}
    for split, dataset in raw.items():
        encoded = dataset.map_batches(
            facts.encoding.table, batch_format="pyarrow", batch_size=None, zero_copy_batch=True
        )
        held[split] = Resident(tuple(encoded.materialize().to_arrow_refs()))
    return facts, held


def _is_resident(corpus: Corpus, job: JobConfig) -> bool:
    if job.data.ingest != "auto":
        return job.data.ingest == "resident"
    utterances = sum(entry.utterances for entry in corpus.manifest.splits.values())
    needed = 4 * utterances * sum(corpus.manifest.widths.values())
    return needed < RESIDENT_SHARE * ray.cluster_resources().get("object_store_memory", 0.0)


def _dataset(reading: Reading, pieces: Sequence[tuple[str, int, int]]) -> ray.data.Dataset:
    """The rows of some pieces (shard, first row, row behind the last), a block a piece."""
    items = [{"uri": uri, "start": start, "stop": stop} for uri, start, stop in pieces]
    return ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        partial(read_pieces, reading), batch_format="pyarrow", batch_size=None
    )


def _survey(rows: ray.data.Dataset, plain: Encoding) -> Survey:
    def of_block(block: pa.Table) -> pa.Table:
        first = block["conversation_id"][0].as_py() if block.num_rows else ""
        survey = cloudpickle.dumps(Survey.of(block, plain)) if block.num_rows else b""
        return pa.table({"first": [first], "survey": pa.array([survey], pa.binary())})

    parts = rows.map_batches(of_block, batch_format="pyarrow", batch_size=None).take_all()
    ordered = sorted((part["first"], part["survey"]) for part in parts if part["survey"])
    return reduce(add, (cloudpickle.loads(survey) for _, survey in ordered))


def _chosen_rows(corpus: Corpus, reading: Reading) -> tuple[int, ...]:
    if reading.keep is None and not reading.leave:
        return tuple(shard.rows for shard in corpus.manifest.splits[reading.split].shards)
    return tuple(reading.choose(read_shard(uri)).num_rows for uri in reading.uris)


class StreamingSource:
    """A split read anew every epoch: each rank reads its run of rows of a seeded order of shards, shuffled in a buffer.

    Every conversation comes once an epoch on one rank, and all ranks have equally many steps; the order is a function
    of (seed, epoch, workers).
    """

    def __init__(self, held: Streamed, job: JobConfig, encoding: Encoding) -> None:
        self._held, self._encoding, self._seed = held, encoding, job.seed
        self._batch, self._parts = job.train.batch_conversations, job.train.micro_batches
        self._buffer = job.data.streaming_buffer_conversations
        self._evaluation = job.train.evaluation_utterances

    def steps(self, *, world: int) -> int:
        """Steps of an epoch."""
        largest = -(-sum(self._held.rows) // world)
        return max(-(-largest // self._share(world)), 1)

    def epoch(self, epoch: int, *, rank: int, world: int) -> Iterator[Work]:
        """This rank's share of each step; empty where its rows have ended."""
        share, parts, step = self._share(world), max(self._parts // world, 1), 0
        order = np.random.default_rng([self._seed, epoch, _SHARDS]).permutation(len(self._held.rows))
        for index, store in enumerate(self._stores(order, rank, world, -(-self._buffer // share) * share)):
            places = np.random.default_rng([self._seed, epoch, rank, index, _ROWS]).permutation(len(store))
            for start in range(0, len(places), share):
                groups = cut_evenly(places[start : start + share], store.lengths, parts)
                micro_batches = [
                    MicroBatch(step, part, chosen, draw_seed(self._seed, epoch, step, part * world + rank))
                    for part, chosen in enumerate(groups)
                ]
                yield [(micro, store.batch(micro.conversations)) for micro in micro_batches]
                step += 1
        yield from ([] for _ in range(step, self.steps(world=world)))

    def once(self, *, rank: int, world: int) -> Iterator[Batch]:
        """This rank's share of one pass, in the order on storage."""
        for store in self._stores(np.arange(len(self._held.rows)), rank, world, self._buffer):
            batches = max(-(-store.utterances // self._evaluation), 1)
            for chosen in cut_evenly(np.arange(len(store)), store.lengths, batches):
                yield store.batch(chosen)

    def _share(self, world: int) -> int:
        return -(-self._batch // world)

    def _stores(self, order: np.ndarray, rank: int, world: int, buffer: int) -> Iterator[SplitStore]:
        pieces = rows_of_rank([self._held.rows[shard] for shard in order], rank, world)
        if not pieces:
            return
        uris = self._held.reading.uris
        rows = _dataset(self._held.reading, [(uris[order[place]], start, stop) for place, start, stop in pieces])
        encoded = rows.map_batches(self._encoding.table, batch_format="pyarrow", batch_size=None)
        for table in encoded.iter_batches(batch_size=buffer, batch_format="pyarrow", prefetch_batches=1):
            yield SplitStore([table], self._encoding)


def rows_of_rank(rows: Sequence[int], rank: int, world: int) -> list[tuple[int, int, int]]:
    """A rank's even share of the rows of all shards, as (shard, first row, row behind the last)."""
    total, pieces, begin = sum(rows), [], 0
    low, high = rank * total // world, (rank + 1) * total // world
    for shard, count in enumerate(rows):
        start, stop = max(low - begin, 0), min(high - begin, count)
        if start < stop:
            pieces.append((shard, start, stop))
        begin += count
    return pieces
