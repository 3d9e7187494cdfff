"""Ingests splits: what is resident is read, checked and encoded once into the object store, with Ray Data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray import ObjectRef

from joyful_ray.config import JobConfig
from joyful_ray.corpora.shards import Corpus
from joyful_ray.data.encode import Encoding
from joyful_ray.data.loader import BatchLoader, ResidentLoader
from joyful_ray.data.prepare import CorpusInfo, survey_here
from joyful_ray.data.split_rows import SplitRows
from joyful_ray.data.store import SplitStore
from joyful_ray.data.streaming import StreamedSplit
from joyful_ray.schema import SPLITS, ShardEntry, Split


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
    """Find out what is known of the corpus, and encode what is resident with Ray Data, once.

    Args:
        corpus: the opened corpus.
        job: the settings; its `data.ingest` is decided.
        splits: the splits to read.

    Returns:
        Information about the corpus, and by split what a worker builds its loader from.
    """
    ray.data.DataContext.get_current().use_datasource_v2 = False
    ray.data.DataContext.get_current().enable_progress_bars = False
    ray.data.DataContext.get_current().execution_options.preserve_order = True
    corpus_info, reading = survey_here(corpus, job, splits)
    if job.data.ingest == "streaming":
        return corpus_info, {split: StreamedSplit(rows) for split, rows in reading.items()}
    ingested: dict[Split, IngestedSplit] = {}
    for split, rows in reading.items():
        encoded = _encoded(rows, corpus_info.encoding)
        ingested[split] = ResidentSplit(tuple(encoded.materialize().to_arrow_refs()))
    return corpus_info, ingested


def store_bytes(job: JobConfig) -> float:
    """Bytes of the object store that must hold the corpus of a job, in this cluster."""
    return smallest_store(ray.nodes(), job)


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


def _encoded(reading: SplitRows, encoding: Encoding) -> ray.data.Dataset:
    """The rows of a split, read, checked and encoded, one block per shard."""

    def read(places: pa.Table) -> pa.Table:
        rows = [reading.read(shard) for shard in map(ShardEntry.model_validate, places.to_pylist())]
        return encoding.table(pa.concat_tables(rows))

    items = [shard.model_dump() for shard in reading.shards]
    reading = replace(reading, shards=(), rows=())
    return ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        read, batch_format="pyarrow", batch_size=None
    )
