"""Opens a corpus on disk, and checks it so that damage never goes unnoticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import NoReturn

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import ValidationError

from joyful_ray.corpora.tables import conversations_from_table, table_from_conversations
from joyful_ray.corpora.writer import CorpusWriter, write_corpus
from joyful_ray.errors import CorpusError
from joyful_ray.schema import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    SPLITS,
    Conversation,
    Manifest,
    ShardEntry,
    Split,
    SplitEntry,
    arrow_schema,
)
from joyful_ray.storage import Location, open_location
from joyful_ray.wording import counted

__all__ = [
    "Corpus",
    "CorpusWriter",
    "conversations_from_table",
    "open_corpus",
    "table_from_conversations",
    "write_corpus",
]

AGAIN = "copy or import the corpus again"


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
            "format_version": self.manifest.format_version,
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
        return _schema_of(self.manifest)

    def splits(self) -> list[Split]:
        """The splits that have conversations, in the order train, dev, test."""
        entries = self.manifest.splits
        return [split for split in SPLITS if split in entries and entries[split].conversations]

    def shard_uris(self, split: Split) -> list[str]:
        """URIs of the shards of a split; none if the split is missing or empty."""
        return [self.location.join(shard.name).uri for shard in self._entry(split).shards]

    def tables(self, split: Split) -> Iterator[pa.Table]:
        """One table per shard."""
        for shard in self._entry(split).shards:
            yield _read_table(self.location.join(shard.name), self.schema)

    def read_checked(self, shard: ShardEntry) -> pa.Table:
        """Read a shard once, and check it against the manifest as `open_corpus` does.

        Raises:
            CorpusError: it differs from the manifest; the message has what was expected and found.
        """
        place = self.location.join(shard.name)
        data = place.read_bytes()
        table = _check_shard(place, data, shard, self.manifest, whole=True)
        assert table is not None
        return table.select(self.schema.names).cast(self.schema)

    def read_table(self, split: Split) -> pa.Table:
        """The whole split; without rows if the split is missing or empty."""
        return pa.concat_tables([self.schema.empty_table(), *self.tables(split)])

    def conversations(self, split: Split) -> Iterator[Conversation]:
        """The conversations of a split, in order, with one shard in memory at a time."""
        for table in self.tables(split):
            yield from conversations_from_table(table, self.manifest)

    def _entry(self, split: Split) -> SplitEntry:
        return self.manifest.splits.get(split, SplitEntry(conversations=0, utterances=0))


def open_corpus(uri: str, *, verify: bool = True) -> Corpus:
    """Open a corpus and check it against its manifest.

    Args:
        uri: a path or s3:// prefix.
        verify: read every shard once and compare its sha256, rows, columns and utterances. Otherwise check only that
            each shard exists.

    Raises:
        CorpusError: the message has the file, what was expected and found, and what to do.
        StorageError: the folder cannot be read.
    """
    location = open_location(uri)
    manifest = _read_manifest(location)
    _check_sums(location, manifest)
    for split, entry in manifest.splits.items():
        names = set(location.join(split).list())
        for shard in entry.shards:
            place = location.join(shard.name)
            if shard.name != f"{split}/{place.name}" or place.name not in names:
                _refuse(place, "a shard of the manifest", "no such file", AGAIN)
            if verify:
                _check_shard(place, place.read_bytes(), shard, manifest)
    return Corpus(manifest, location)


def _read_manifest(location: Location) -> Manifest:
    place = location.join(MANIFEST_NAME)
    if not place.exists():
        if not location.exists():
            raise CorpusError(f"there is no corpus at {location.uri}; check the path, or make one with joyful import")
        raise CorpusError(
            f"{location.uri} is not a corpus: it has no {MANIFEST_NAME}, which an import writes last; import it again"
        )
    try:
        content = json.loads(place.read_text())
    except json.JSONDecodeError as error:
        raise CorpusError(f"{place.uri} is not JSON (line {error.lineno}: {error.msg}); {AGAIN}") from None
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{place.uri} cannot be read as JSON ({error}); {AGAIN}") from None
    version = content.get("format_version") if isinstance(content, dict) else None
    if version != FORMAT_VERSION:
        advice = "import the corpus again with this version of joyful_ray, or use the version that wrote it"
        _refuse(place, f"format version {FORMAT_VERSION}", f"format version {version}", advice)
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CorpusError(f"{place.uri}: {where}: {first['msg']}; {AGAIN}") from None


def _check_sums(location: Location, manifest: Manifest) -> None:
    place = location.join(MANIFEST_NAME)
    for split, entry in manifest.splits.items():
        for word, total, parts in (
            ("conversations", entry.conversations, sum(shard.rows for shard in entry.shards)),
            ("utterances", entry.utterances, sum(shard.utterances for shard in entry.shards)),
        ):
            if total != parts:
                _refuse(place, f"{total} {word} in {split}", f"{parts} in its shards", AGAIN)


def _check_shard(
    place: Location, data: bytes, shard: ShardEntry, manifest: Manifest, *, whole: bool = False
) -> pa.Table | None:
    """Compare a shard with the manifest; `whole` decodes and returns it, else one column is in memory at a time."""
    digest = hashlib.sha256(data).hexdigest()
    if digest != shard.sha256:
        _refuse(place, f"sha256 {shard.sha256[:12]}…", f"{digest[:12]}… in {len(data)} bytes", AGAIN)
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        _check_columns(place, file.schema_arrow, _schema_of(manifest))
        if file.metadata.num_rows != shard.rows:
            _refuse(place, counted(shard.rows, "conversation"), str(file.metadata.num_rows), AGAIN)
        table = file.read() if whole else None
        lengths = _lengths(_lists(file if table is None else table, "utterance_ids"))
        utterances = int(pc.sum(lengths).as_py())
        if utterances != shard.utterances:
            _refuse(place, counted(shard.utterances, "utterance"), str(utterances), AGAIN)
        _check_lists(place, file if table is None else table, lengths, manifest)
    except pa.ArrowException as error:
        _refuse(place, "a Parquet file", str(error).splitlines()[0], AGAIN)
    return table


def _check_lists(place: Location, shard: pa.Table | pq.ParquetFile, lengths: pa.Array, manifest: Manifest) -> None:
    """Check that every list has one entry per utterance, numbers are finite, and names are not null."""
    widths: dict[str, int] = {str(name): width for name, width in manifest.widths.items()}
    for column in _schema_of(manifest).names:
        if column == "conversation_id":
            continue
        lists = _lists(shard, column)
        found = _lengths(lists)
        expected = pc.multiply(lengths, widths.get(column, 1))
        wrong = pc.or_(pc.not_equal(found, expected), pc.equal(lengths, 0))
        if pc.any(wrong).as_py():
            row = pc.index(wrong, True).as_py()
            _refuse(
                place,
                f"{expected[row].as_py() or 'some'} values in {column} of conversation {row}",
                str(found[row].as_py()),
                AGAIN,
            )

        _check_values(place, column, lists, is_vector=column in widths)


def _check_values(place: Location, column: str, lists: pa.ListArray, *, is_vector: bool) -> None:
    values = lists.flatten()
    bad = None
    if is_vector:
        bad, expected, found = pc.invert(pc.fill_null(pc.is_finite(values), True)), "finite numbers", "NaN or infinity"
    elif column in ("utterance_ids", "speakers"):
        bad, expected, found = pc.is_null(values), "names", "a null"
    if bad is not None and pc.any(bad).as_py():
        row = pc.list_parent_indices(lists)[pc.index(bad, True).as_py()].as_py()
        _refuse(place, f"{expected} in {column} of conversation {row}", found, AGAIN)


def _lists(shard: pa.Table | pq.ParquetFile, column: str) -> pa.ListArray:
    table = shard.read(columns=[column]) if isinstance(shard, pq.ParquetFile) else shard
    return table.column(column).combine_chunks()


def _lengths(lists: pa.ListArray) -> pa.Array:
    """Number of values in the list of each conversation; 0 if the list is null."""
    return pc.fill_null(pc.list_value_length(lists), 0)


def _schema_of(manifest: Manifest) -> pa.Schema:
    return arrow_schema(
        task=manifest.task,
        modalities=list(manifest.widths),
        has_texts=manifest.has_texts,
        speaker_attributes=manifest.speaker_attributes,
    )


def _check_columns(place: Location, found: pa.Schema, expected: pa.Schema) -> None:
    missing = [name for name in expected.names if name not in found.names]
    if missing:
        _refuse(place, f"column {missing[0]}", f"columns {', '.join(found.names)}", AGAIN)
    extra = [name for name in found.names if name not in expected.names]
    if extra:
        _refuse(place, f"columns {', '.join(expected.names)}", f"column {extra[0]} too", AGAIN)
    for column in expected:
        kind = found.field(column.name).type
        if not kind.equals(column.type):
            _refuse(place, f"column {column.name} of type {column.type}", str(kind), AGAIN)


@contextmanager
def opened_shard(place: Location, *, buffer_bytes: int = 0) -> Iterator[pq.ParquetFile]:
    """A shard to read in the block.

    Args:
        place: the file.
        buffer_bytes: bytes of a column that are read from storage at a time; 0 is all of a row group's.

    Raises:
        CorpusError: it cannot be read.
    """
    filesystem, path = place.arrow_filesystem()
    try:
        with filesystem.open_input_file(path) as file:
            yield pq.ParquetFile(file, buffer_size=buffer_bytes)
    except (pa.ArrowException, OSError) as error:
        raise CorpusError(f"cannot read {place.uri} ({str(error).splitlines()[0]}); {AGAIN}") from None


def _read_table(place: Location, schema: pa.Schema) -> pa.Table:
    with opened_shard(place) as file:
        table = file.read()
    _check_columns(place, table.schema, schema)
    return table.select(schema.names).cast(schema)


def _refuse(place: Location, expected: str, found: str, advice: str) -> NoReturn:
    raise CorpusError(f"{place.uri}: expected {expected}, found {found}; {advice}")
