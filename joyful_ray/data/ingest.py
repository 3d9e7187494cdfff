"""Ingests splits with Ray Data: encoded once into the object store, or streamed every epoch with bounded memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from operator import add
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
from ray import ObjectRef, cloudpickle

from joyful_ray.config import JobConfig
from joyful_ray.corpora.shards import Corpus
from joyful_ray.data.batch import Batch
from joyful_ray.data.encode import Encoding, SplitStatistics
from joyful_ray.data.loader import BatchLoader, ResidentLoader, Work
from joyful_ray.data.plan import MicroBatch, cut_evenly, draw_key, draw_seed
from joyful_ray.data.prepare import CorpusInfo, corpus_info_of, unscaled_encoding
from joyful_ray.data.scope import step_rules
from joyful_ray.data.split_rows import SplitRows, read_pieces, read_shard, split_rows
from joyful_ray.data.store import SplitStore
from joyful_ray.schema import SPLITS, Split

RESIDENT_SHARE = 0.3
ALL_ROWS = 2**62
BESIDE_A_WORKER = 0
"""CPUs that a task of a streaming worker asks Ray for: it runs beside the worker, in whose cores it is counted. Asked
for, a core would never be free where workers or trials hold all of them, and Ray would wait for ever."""
_SHARDS, _ROWS = 4, 5


@dataclass(frozen=True)
class ResidentSplit:
    """A split in the object store; each worker has a zero-copy view of it."""

    tables: tuple[ObjectRef, ...]

    def source(self, job: JobConfig, encoding: Encoding) -> BatchLoader:
        """A loader over the whole split."""
        return ResidentLoader.of(job, SplitStore(ray.get(list(self.tables)), encoding))


@dataclass(frozen=True)
class StreamedSplit:
    """A split that stays on storage.

    Attributes:
        rows: number of chosen conversations per shard.
    """

    reading: SplitRows
    rows: tuple[int, ...]

    def source(self, job: JobConfig, encoding: Encoding) -> BatchLoader:
        """A loader that reads the split from storage every epoch."""
        return StreamingLoader(self, job, encoding)


IngestedSplit = ResidentSplit | StreamedSplit


def are_resident(splits: Iterable[IngestedSplit]) -> bool:
    """Whether all of these splits are in the object store."""
    return all(isinstance(split, ResidentSplit) for split in splits)


def train_and_dev(ingested: Mapping[Split, IngestedSplit]) -> ResidentSplit:
    """Both splits as one; they must be resident."""
    train, dev = ingested["train"], ingested["dev"]
    assert isinstance(train, ResidentSplit)
    assert isinstance(dev, ResidentSplit)
    return ResidentSplit((*train.tables, *dev.tables))


def ingest(
    corpus: Corpus, job: JobConfig, splits: Sequence[Split] = SPLITS
) -> tuple[CorpusInfo, dict[Split, IngestedSplit]]:
    """Compute statistics of the training split, and encode the splits with Ray Data, once.

    Args:
        corpus: the opened corpus.
        job: the settings.
        splits: the splits to read.

    Returns:
        Information about the corpus, and by split what a worker builds its loader from.
    """
    ray.data.DataContext.get_current().use_datasource_v2 = False
    ray.data.DataContext.get_current().enable_progress_bars = False
    ray.data.DataContext.get_current().execution_options.preserve_order = True
    reading = {split: how for split, how in split_rows(corpus, job).items() if split in splits}
    plain = unscaled_encoding(corpus.manifest, job)
    raw = {split: _dataset(how, [(uri, 0, ALL_ROWS) for uri in how.uris]) for split, how in reading.items()}
    if not _is_resident(corpus, job):
        corpus_info = corpus_info_of(corpus, job, reading, _statistics(raw["train"], plain))
        return corpus_info, {split: StreamedSplit(how, _chosen_rows(corpus, how)) for split, how in reading.items()}
    raw = {split: dataset.materialize() for split, dataset in raw.items()}
    corpus_info = corpus_info_of(corpus, job, reading, _statistics(raw["train"], plain))
    ingested: dict[Split, IngestedSplit] = {}
    for split, dataset in raw.items():
        encoded = dataset.map_batches(
            corpus_info.encoding.table, batch_format="pyarrow", batch_size=None, zero_copy_batch=True
        )
        ingested[split] = ResidentSplit(tuple(encoded.materialize().to_arrow_refs()))
    return corpus_info, ingested


def _is_resident(corpus: Corpus, job: JobConfig) -> bool:
    if job.data.ingest != "auto":
        return job.data.ingest == "resident"
    utterances = sum(entry.utterances for entry in corpus.manifest.splits.values())
    needed = 4 * utterances * sum(corpus.manifest.widths.values())
    return needed < RESIDENT_SHARE * smallest_store(ray.nodes(), job)


def smallest_store(nodes: Sequence[Mapping[str, Any]], job: JobConfig) -> float:
    """Bytes of the smallest object store among the nodes that can run a worker; each of them holds the whole corpus.

    Where none can yet, because the cluster grows on demand, all nodes count.

    Args:
        nodes: what `ray.nodes()` returns.
        job: its `cluster` section says what a worker needs.
    """
    cluster = job.cluster
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    able = [
        resources
        for resources in alive
        if resources.get("CPU", 0.0) >= cluster.cpus_per_worker and resources.get("GPU", 0.0) >= cluster.gpus_per_worker
    ]
    return min((resources.get("object_store_memory", 0.0) for resources in able or alive), default=0.0)


def _dataset(
    reading: SplitRows,
    pieces: Sequence[tuple[str, int, int]],
    **options: Any,
) -> ray.data.Dataset:
    """The rows of some pieces (shard, first row, row after the last), one block per piece; options are of the tasks."""
    items = [{"uri": uri, "start": start, "stop": stop} for uri, start, stop in pieces]
    return ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        partial(read_pieces, reading),
        batch_format="pyarrow",
        batch_size=None,
        **options,
    )


def _statistics(rows: ray.data.Dataset, plain: Encoding) -> SplitStatistics:
    def of_block(block: pa.Table) -> pa.Table:
        first = block["conversation_id"][0].as_py() if block.num_rows else ""
        statistics = cloudpickle.dumps(SplitStatistics.of(block, plain)) if block.num_rows else b""
        return pa.table({"first": [first], "statistics": pa.array([statistics], pa.binary())})

    parts = rows.map_batches(of_block, batch_format="pyarrow", batch_size=None).take_all()
    ordered = sorted((part["first"], part["statistics"]) for part in parts if part["statistics"])
    return reduce(add, (cloudpickle.loads(statistics) for _, statistics in ordered))


def _chosen_rows(corpus: Corpus, reading: SplitRows) -> tuple[int, ...]:
    if reading.keep is None and not reading.leave:
        return tuple(shard.rows for shard in corpus.manifest.splits[reading.split].shards)
    return tuple(reading.choose(read_shard(uri)).num_rows for uri in reading.uris)


class StreamingLoader:
    """A split that is read from storage every epoch.

    The shards have a seeded order; each rank reads a contiguous part of their rows and shuffles it in a buffer. Every
    conversation comes once per epoch on one rank, and all ranks have the same number of steps. The order is a function
    of (seed, epoch, workers).
    """

    depends_on_workers = True

    def __init__(self, split: StreamedSplit, job: JobConfig, encoding: Encoding) -> None:
        self._split, self._encoding, self._seed = split, encoding, job.seed
        self._rules = step_rules(job)
        self._buffer = job.data.streaming_buffer_conversations
        self._evaluation = job.train.evaluation_utterances
        self._tasks = max(math.ceil(job.cluster.cpus_per_worker), 1)

    def steps(self, *, world_size: int) -> int:
        """Number of steps per epoch."""
        largest = -(-sum(self._split.rows) // world_size)
        return max(-(-largest // self._share(world_size)), 1)

    def epoch(self, epoch: int, *, rank: int, world_size: int, start: int = 0) -> Iterator[Work]:
        """This rank's share of each step; empty once its rows have ended. Buffers before `start` are not read."""
        share, key, step = self._share(world_size), draw_key(self._seed, epoch), start
        parts = self._rules.micro_batches
        rules = self._rules if parts is None else replace(self._rules, micro_batches=max(parts // world_size, 1))
        order = np.random.default_rng([self._seed, epoch, _SHARDS]).permutation(len(self._split.rows))
        buffer = -(-self._buffer // share) * share
        skipped, begin = divmod(start * share, buffer)
        stores = self._stores(order, rank, world_size, buffer, skip=skipped * buffer)
        for index, store in enumerate(stores, start=skipped):
            places = np.random.default_rng([self._seed, epoch, rank, index, _ROWS]).permutation(len(store))
            for place in range(begin, len(places), share):
                units = rules.cut(places[place : place + share], store.lengths)
                micro_batches = [
                    MicroBatch(step, part, chosen, draw_seed(self._seed, epoch, step, part * world_size + rank))
                    for part, chosen in enumerate(rules.passes(units, store.lengths))
                ]
                yield [(micro, store.batch(micro.conversations, draw_key=key)) for micro in micro_batches]
                step += 1
            begin = 0
        yield from ([] for _ in range(step, self.steps(world_size=world_size)))

    def once(self, *, rank: int, world_size: int) -> Iterator[Batch]:
        """This rank's share of one pass, in the order of storage."""
        for store in self._stores(np.arange(len(self._split.rows)), rank, world_size, self._buffer):
            batches = max(-(-store.utterances // self._evaluation), 1)
            for chosen in cut_evenly(np.arange(len(store)), store.lengths, batches):
                yield store.batch(chosen)

    def _share(self, world_size: int) -> int:
        return -(-self._rules.batch_conversations // world_size)

    def _stores(
        self, order: np.ndarray, rank: int, world_size: int, buffer: int, *, skip: int = 0
    ) -> Iterator[SplitStore]:
        pieces = without_first(rows_of_rank([self._split.rows[shard] for shard in order], rank, world_size), skip)
        if not pieces:
            return
        uris = self._split.reading.uris
        options: dict[str, Any] = {"num_cpus": BESIDE_A_WORKER, "concurrency": self._tasks}
        rows = _dataset(
            self._split.reading,
            [(uris[order[place]], start, stop) for place, start, stop in pieces],
            **options,
        )
        encoded = rows.map_batches(
            self._encoding.table,
            batch_format="pyarrow",
            batch_size=None,
            **options,
        )
        for table in encoded.iter_batches(batch_size=buffer, batch_format="pyarrow", prefetch_batches=1):
            yield SplitStore([table], self._encoding)


def rows_of_rank(rows: Sequence[int], rank: int, world_size: int) -> list[tuple[int, int, int]]:
    """A rank's even share of the rows of all shards, as (shard, first row, row after the last)."""
    total, pieces, begin = sum(rows), [], 0
    low, high = rank * total // world_size, (rank + 1) * total // world_size
    for shard, count in enumerate(rows):
        start, stop = max(low - begin, 0), min(high - begin, count)
        if start < stop:
            pieces.append((shard, start, stop))
        begin += count
    return pieces


def without_first(pieces: Sequence[tuple[int, int, int]], rows: int) -> list[tuple[int, int, int]]:
    """Pieces without so many rows at their beginning."""
    left = []
    for shard, start, stop in pieces:
        gone = min(rows, stop - start)
        rows -= gone
        if start + gone < stop:
            left.append((shard, start + gone, stop))
    return left
