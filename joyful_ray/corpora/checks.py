"""Compares shards with the manifest when they are read, so that damage never goes unnoticed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from joyful_ray.corpora.manifest import refuse
from joyful_ray.corpora.side_files import AGAIN
from joyful_ray.corpora.tables import one_piece
from joyful_ray.schema import Manifest, Modality, ShardEntry, arrow_schema
from joyful_ray.storage import Location
from joyful_ray.wording import counted


def schema_of(manifest: Manifest) -> pa.Schema:
    """The columns of every shard of a corpus."""
    return arrow_schema(
        task=manifest.task,
        modalities=list(manifest.widths),
        has_texts=manifest.has_texts,
        speaker_attributes=manifest.speaker_attributes,
    )


def decoded(place: Location, data: bytes, shard: ShardEntry, manifest: Manifest) -> pa.Table:
    """The rows of a shard from its bytes.

    Raises:
        CorpusError: sha256, columns, counts or values are not those of the manifest.
    """
    check_digest(place, hashlib.sha256(data).hexdigest(), len(data), shard, pa.BufferReader(data))
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        check_footer(place, file, shard, manifest)
        table = file.read()
        check_rows(place, table, manifest.widths)
    except pa.ArrowException as error:
        refuse(place, "a Parquet file", str(error).splitlines()[0], AGAIN)
    utterances = int(pc.sum(_lengths(one_piece(table["utterance_ids"]))).as_py() or 0)
    if utterances != shard.utterances:
        refuse(place, counted(shard.utterances, "utterance"), str(utterances), AGAIN)
    schema = schema_of(manifest)
    return table.select(schema.names).cast(schema)


def check_digest(place: Location, digest: str, size: int, shard: ShardEntry, file: pa.NativeFile) -> None:
    """Compare the sha256 of a shard.

    Raises:
        CorpusError: it is another one; the message says which row group of the file is damaged.
    """
    if digest != shard.sha256:
        where = _damaged_part(file)
        found = f"{digest[:12]}… in {size} bytes" + (f", damaged in {where}" if where else "")
        refuse(place, f"sha256 {shard.sha256[:12]}…", found, AGAIN)


def _damaged_part(file: pa.NativeFile) -> str:
    """The first part of a file that cannot be read; empty if all of it can."""
    try:
        opened = pq.ParquetFile(file, page_checksum_verification=True)
    except (pa.ArrowException, OSError):
        return "its footer"
    start = 0
    for group in range(opened.num_row_groups):
        rows = opened.metadata.row_group(group).num_rows
        try:
            opened.read_row_group(group, use_threads=False)
        except (pa.ArrowException, OSError):
            return f"row group {group} (conversations {start} to {start + rows - 1})"
        start += rows
    return ""


def check_footer(place: Location, file: pq.ParquetFile, shard: ShardEntry, manifest: Manifest) -> None:
    """Compare columns and numbers of values in a shard's footer before anything is decoded.

    A small file can unfold to any size, and its sha256 says nothing of that.

    Raises:
        CorpusError: they are not those of the manifest.
    """
    _check_columns(place, file.schema_arrow, schema_of(manifest))
    metadata = file.metadata
    if metadata.num_rows != shard.rows:
        refuse(place, counted(shard.rows, "conversation"), str(metadata.num_rows), AGAIN)
    most: dict[str, int] = {str(name): width * shard.utterances for name, width in manifest.widths.items()}
    found: dict[str, int] = {}
    for group in range(metadata.num_row_groups):
        for index in range(metadata.num_columns):
            column = metadata.row_group(group).column(index)
            name = column.path_in_schema.split(".")[0]
            found[name] = found.get(name, 0) + column.num_values
    for name, values in found.items():
        several = max(len(manifest.labels), 1) if name == "labels" else 1
        allowed = shard.rows if name == "conversation_id" else most.get(name, several * shard.utterances)
        if values > max(allowed, shard.rows):  # an empty list counts as a value
            refuse(place, f"at most {allowed} values in {name}", str(values), AGAIN)


def check_rows(place: Location, rows: pa.Table, widths: Mapping[Modality, int]) -> None:
    """Check that every list has one entry per utterance, numbers are finite, and names are not null.

    Raises:
        CorpusError: the message has the column and the conversation.
    """
    ids, lengths = rows["conversation_id"], _lengths(one_piece(rows["utterance_ids"]))
    by_name: dict[str, int] = {str(name): width for name, width in widths.items()}
    for column in rows.column_names:
        if column == "conversation_id":
            continue
        lists = one_piece(rows[column])
        found, expected = _lengths(lists), pc.multiply(lengths, by_name.get(column, 1))
        wrong = pc.or_(pc.not_equal(found, expected), pc.equal(lengths, 0))
        if pc.any(wrong).as_py():
            row = pc.index(wrong, True).as_py()
            wanted = f"{expected[row].as_py() or 'some'} values in {column} of conversation {ids[row]}"
            refuse(place, wanted, str(found[row].as_py()), AGAIN)
        _check_values(place, column, lists, ids, is_vector=column in by_name)


def _check_values(place: Location, column: str, lists: pa.ListArray, ids: pa.ChunkedArray, *, is_vector: bool) -> None:
    values = lists.flatten()
    bad = None
    if is_vector:
        bad, expected, found = pc.invert(pc.fill_null(pc.is_finite(values), True)), "finite numbers", "NaN or infinity"
    elif column in ("utterance_ids", "speakers"):
        bad, expected, found = pc.is_null(values), "names", "a null"
    if bad is not None and pc.any(bad).as_py():
        row = pc.list_parent_indices(lists)[pc.index(bad, True).as_py()].as_py()
        refuse(place, f"{expected} in {column} of conversation {ids[row]}", found, AGAIN)


def _lengths(lists: pa.ListArray) -> pa.Array:
    """Number of values in the list of each conversation; 0 if the list is null."""
    return pc.fill_null(pc.list_value_length(lists), 0)


def _check_columns(place: Location, found: pa.Schema, expected: pa.Schema) -> None:
    missing = [name for name in expected.names if name not in found.names]
    if missing:
        refuse(place, f"column {missing[0]}", f"columns {', '.join(found.names)}", AGAIN)
    extra = [name for name in found.names if name not in expected.names]
    if extra:
        refuse(place, f"columns {', '.join(expected.names)}", f"column {extra[0]} too", AGAIN)
    for column in expected:
        kind = found.field(column.name).type
        if not kind.equals(column.type):
            refuse(place, f"column {column.name} of type {column.type}", str(kind), AGAIN)
