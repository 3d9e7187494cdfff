"""Ingests splits with Ray Data: statistics, and what is resident, encoded once into the object store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray import ObjectRef, cloudpickle

from joyful_ray.config import JobConfig
from joyful_ray.corpora.shards import Corpus
from joyful_ray.data.encode import Encoding, SplitStatistics
from joyful_ray.data.loader import BatchLoader, ResidentLoader
from joyful_ray.data.prepare import CorpusInfo, corpus_info_of, unscaled_encoding
from joyful_ray.data.split_rows import SplitRows, read_shard, split_rows
from joyful_ray.data.store import SplitStore
from joyful_ray.data.streaming import StreamedSplit
from joyful_ray.schema import SPLITS, Split

RESIDENT_SHARE = 0.3


@dataclass(frozen=True)
class ResidentSplit:
    """A split in the object store; each worker has a zero-copy view of it."""

    tables: tuple[ObjectRef, ...]

    def source(self, job: JobConfig, encoding: Encoding) -> BatchLoader:
        """A loader over the whole split."""
        return ResidentLoader.of(job, SplitStore(ray.get(list(self.tables)), encoding))


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
    raw = {split: _dataset(how) for split, how in reading.items()}
    if not _is_resident(corpus, job):
        corpus_info = corpus_info_of(corpus, job, reading, _statistics(raw["train"], plain))
        return corpus_info, {split: StreamedSplit(how) for split, how in reading.items()}
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


def _dataset(reading: SplitRows) -> ray.data.Dataset:
    """The rows of a split, one block per shard."""

    def read(shard: pa.Table) -> pa.Table:
        return pa.concat_tables(reading.choose(read_shard(uri)) for uri in shard["uri"].to_pylist())

    items = [{"uri": uri} for uri in reading.uris]
    return ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        read, batch_format="pyarrow", batch_size=None
    )


def _statistics(rows: ray.data.Dataset, plain: Encoding) -> SplitStatistics:
    def of_block(block: pa.Table) -> pa.Table:
        first = block["conversation_id"][0].as_py() if block.num_rows else ""
        statistics = cloudpickle.dumps(SplitStatistics.of(block, plain)) if block.num_rows else b""
        return pa.table({"first": [first], "statistics": pa.array([statistics], pa.binary())})

    parts = rows.map_batches(of_block, batch_format="pyarrow", batch_size=None).take_all()
    ordered = sorted((part["first"], part["statistics"]) for part in parts if part["statistics"])
    return reduce(add, (cloudpickle.loads(statistics) for _, statistics in ordered))
