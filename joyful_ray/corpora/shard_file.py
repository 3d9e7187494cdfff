"""Writes the rows of a shard as a Parquet file."""

from __future__ import annotations

import hashlib
import io

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from joyful_ray.schema import MODALITIES, ShardEntry
from joyful_ray.storage import Location

ROW_GROUP_BYTES = 2**20
"""Bytes of a part of a shard that can be read without the rest."""


def write_shard(place: Location, table: pa.Table, *, name: str) -> ShardEntry:
    """Write the rows of a shard, in row groups of `ROW_GROUP_BYTES`; returns what the manifest says of it."""
    buffer = io.BytesIO()
    vectors = [column for column in table.column_names if column in MODALITIES]
    pq.write_table(
        table,
        buffer,
        compression="zstd",
        use_dictionary=[column for column in table.column_names if column not in vectors],
        row_group_size=max(ROW_GROUP_BYTES * table.num_rows // max(table.nbytes, 1), 1),
        write_page_checksum=True,
    )
    data = buffer.getvalue()
    place.write_bytes(data)
    return ShardEntry(
        name=name,
        rows=table.num_rows,
        utterances=len(pc.list_flatten(table["utterance_ids"])),
        sha256=hashlib.sha256(data).hexdigest(),
        bytes=len(data),
    )
