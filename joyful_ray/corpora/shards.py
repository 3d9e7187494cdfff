"""Opens a corpus on disk. What is read of its shards is compared with the manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from threading import Lock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from joyful_ray.corpora.checks import check_digest, check_footer, check_rows, decoded, schema_of
from joyful_ray.corpora.manifest import read_manifest, refuse
from joyful_ray.corpora.side_files import AGAIN, read_conversation_list, read_statistics
from joyful_ray.corpora.statistics import Statistics
from joyful_ray.corpora.tables import conversations_from_table, table_from_conversations
from joyful_ray.corpora.writer import CorpusWriter, write_corpus
from joyful_ray.errors import CorpusError, StorageError
from joyful_ray.schema import SPLITS, Conversation, Manifest, ShardEntry, Split, SplitEntry
from joyful_ray.storage import Location, open_location

__all__ = [
    "Corpus",
    "CorpusWriter",
    "conversations_from_table",
    "open_corpus",
    "table_from_conversations",
    "write_corpus",
]

CONTENT_VERSION = 1
"""Part of the hash of a corpus; a format in which the same shards mean the same does not change it."""
MOST_LOOKED_FOR = 10_000
"""Shards of a split that are looked for when a corpus is opened; of more, a missing one is found when it is read."""
HASHED_BYTES = 2**20


@dataclass(frozen=True)
class Corpus:
    """An opened corpus: its manifest and access to its conversations. Picklable."""

    manifest: Manifest
    location: Location

    @cached_property
    def hash(self) -> str:
        """sha256 of everything that determines the data: task, labels, features and the content of every shard."""
        splits = self.manifest.splits
        content = {
            "format_version": CONTENT_VERSION,
            "task": self.manifest.task,
            "labels": self.manifest.labels,
            "has_texts": self.manifest.has_texts,
            "modalities": {
                name: self.manifest.modalities[name].model_dump(mode="json", exclude={"licence"})
                for name in self.manifest.widths
            },
            "splits": {split: [shard.sha256 for shard in splits[split].shards] for split in SPLITS if split in splits},
        }
        if self.manifest.speaker_attributes:
            content["speaker_attributes"] = self.manifest.speaker_attributes
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def schema(self) -> pa.Schema:
        """The columns of every shard."""
        return schema_of(self.manifest)

    @cached_property
    def without_shards(self) -> Corpus:
        """The same corpus without its lists of shards, for tasks that are told which shard to read."""
        return replace(self, manifest=self.manifest.model_copy(update={"splits": {}}))

    def splits(self) -> list[Split]:
        """The splits that have conversations, in the order train, dev, test."""
        entries = self.manifest.splits
        return [split for split in SPLITS if split in entries and entries[split].conversations]

    def shards(self, split: Split) -> Sequence[ShardEntry]:
        """The shards of a split; none if the split is missing or empty."""
        return self._entry(split).shards

    def statistics(self, split: Split) -> Statistics | None:
        """What is known of a split without reading its shards; None in a corpus of format version 1.

        Raises:
            CorpusError: the file with the statistics is damaged.
        """
        entry = self._entry(split)
        return read_statistics(self.location, entry) if entry.side_files else None

    def conversation_ids(self, split: Split) -> list[list[str]]:
        """Ids of the conversations of each shard.

        Raises:
            CorpusError: what has them is damaged.
        """
        shards = self.shards(split)
        if not self._entry(split).side_files:
            return [self._read_ids(shard) for shard in shards]
        ids = read_conversation_list(self.location, self._entry(split))["conversation_id"].to_pylist()
        found, start = [], 0
        for shard in shards:
            found.append(ids[start : start + shard.rows])
            start += shard.rows
        return found

    def tables(self, split: Split) -> Iterator[pa.Table]:
        """One table per shard, each checked against the manifest."""
        for shard in self.shards(split):
            yield self.read_checked(shard)

    def read_checked(self, shard: ShardEntry) -> pa.Table:
        """Read a shard once, and check all of it against the manifest.

        Raises:
            CorpusError: it differs from the manifest; the message has what was expected and found.
        """
        place = self.location.join(shard.name)
        return decoded(place, place.read_bytes(), shard, self.manifest)

    def read_table(self, split: Split) -> pa.Table:
        """The whole split; without rows if the split is missing or empty."""
        return pa.concat_tables([self.schema.empty_table(), *self.tables(split)])

    def conversations(self, split: Split) -> Iterator[Conversation]:
        """The conversations of a split, in order, with one shard in memory at a time."""
        for table in self.tables(split):
            yield from conversations_from_table(table, self.manifest)

    def read_columns(self, shard: ShardEntry, columns: Sequence[str]) -> pa.Table:
        """Some columns of a shard; only their bytes are read, so that its sha256 is not compared.

        Raises:
            CorpusError: it cannot be read.
        """
        with opened_shard(self.location.join(shard.name)) as file:
            return file.read(columns=list(columns))

    def _read_ids(self, shard: ShardEntry) -> list[str]:
        return self.read_columns(shard, ["conversation_id"])["conversation_id"].to_pylist()

    def _entry(self, split: Split) -> SplitEntry:
        return self.manifest.splits.get(split, SplitEntry(conversations=0, utterances=0))


class ShardReader:
    """Reads shards of a corpus in part. What is read is checked, and the first reading of a shard compares its sha256.

    Threads may share it.
    """

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus.without_shards
        self._locks: dict[str, Lock] = {}
        self._checked: dict[str, NDArray[np.bool_]] = {}

    def batches(
        self, shard: ShardEntry, *, columns: Sequence[str], first: int, at_a_time: int, buffer_bytes: int
    ) -> Iterator[tuple[int, pa.Table]]:
        """Rows of a shard, so many at a time, beginning with the row group that has the first one wanted.

        Args:
            shard: the shard.
            columns: the columns that are wanted; others are only read to be checked.
            first: the first row that is wanted.
            at_a_time: most rows of a table.
            buffer_bytes: bytes of a column that are read from storage at a time.

        Returns:
            Tables, each with the number of rows of the shard before it.

        Raises:
            CorpusError: the shard differs from the manifest, or cannot be read.
        """
        place, manifest = self._corpus.location.join(shard.name), self._corpus.manifest
        checked = self._compared(place, shard)
        with opened_shard(place, buffer_bytes=buffer_bytes) as file:
            check_footer(place, file, shard, manifest)
            groups, seen = list(range(file.num_row_groups)), 0
            while groups and seen + file.metadata.row_group(groups[0]).num_rows <= first:
                seen += file.metadata.row_group(groups.pop(0)).num_rows
            read = list(columns) if checked.all() else None
            for batch in file.iter_batches(batch_size=at_a_time, row_groups=groups, columns=read, use_threads=False):
                rows, end = pa.Table.from_batches([batch]), seen + batch.num_rows
                if not checked[seen:end].all():
                    check_rows(place, rows, manifest.widths)
                    checked[seen:end] = True
                yield seen, rows.select(list(columns))
                seen = end

    def _compared(self, place: Location, shard: ShardEntry) -> NDArray[np.bool_]:
        """Compare the sha256 of a shard, the first time; returns which of its rows have been checked."""
        with self._locks.setdefault(shard.name, Lock()):
            if shard.name in self._checked:
                return self._checked[shard.name]
            digest, size = hashlib.sha256(), 0
            with _opened(place) as file:
                while chunk := file.read(HASHED_BYTES):
                    digest.update(chunk)
                    size += len(chunk)
                file.seek(0)
                check_digest(place, digest.hexdigest(), size, shard, file)
            return self._checked.setdefault(shard.name, np.zeros(shard.rows, np.bool_))


def open_corpus(uri: str) -> Corpus:
    """Open a corpus. Its shards are compared with the manifest when they are read.

    Args:
        uri: a path or s3:// prefix.

    Raises:
        CorpusError: the message has the file, what was expected and found, and what to do.
        StorageError: the folder cannot be read.
    """
    location = open_location(uri)
    manifest = read_manifest(location)
    for split, entry in manifest.splits.items():
        names = set(location.join(split).list()) if 0 < len(entry.shards) <= MOST_LOOKED_FOR else None
        for shard in entry.shards:
            place = location.join(shard.name)
            if shard.name != f"{split}/{place.name}" or (names is not None and place.name not in names):
                refuse(place, "a shard of the manifest", "no such file", AGAIN)
    return Corpus(manifest, location)


@contextmanager
def opened_shard(place: Location, *, buffer_bytes: int = 0) -> Iterator[pq.ParquetFile]:
    """A shard to read in the block.

    Args:
        place: the file.
        buffer_bytes: bytes of a column that are read from storage at a time; 0 is all of a row group's.

    Raises:
        CorpusError: it is missing or damaged.
        StorageError: storage failed.
    """
    with _opened(place) as file:
        yield pq.ParquetFile(file, buffer_size=buffer_bytes)


@contextmanager
def _opened(place: Location) -> Iterator[pa.NativeFile]:
    filesystem, path = place.arrow_filesystem()
    try:
        with filesystem.open_input_file(path) as file:
            yield file
    except (pa.ArrowException, FileNotFoundError) as error:
        raise CorpusError(f"cannot read {place.uri} ({str(error).splitlines()[0]}); {AGAIN}") from None
    except OSError as error:
        raise StorageError(f"cannot read {place.uri} ({str(error).splitlines()[0]})") from None
