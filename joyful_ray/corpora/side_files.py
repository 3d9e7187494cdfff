"""The small files beside a split's shards: which shards it has, which conversations, and statistics of its features.

Nothing in them grows with the vectors. The manifest has the sha256 of each, so that it stays small for any number of
shards.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from joyful_ray.corpora.statistics import FeatureStatistics, Statistics
from joyful_ray.errors import CorpusError
from joyful_ray.schema import ShardEntry, SideFile, Split, SplitEntry
from joyful_ray.storage import Location

KINDS = SHARDS, CONVERSATIONS, FEATURES = "shards", "conversations", "features"
LABELS = "labels"
"""What the table of features calls numbers that are labels."""
ROWS_IN_A_GROUP = 2**16
AGAIN = "copy or import the corpus again"


def write_side_files(
    location: Location,
    split: Split,
    *,
    shards: Sequence[ShardEntry],
    conversations: Iterable[pa.Table],
    statistics: Statistics,
    suffix: str = "",
) -> dict[str, SideFile]:
    """Write the files of a split.

    Args:
        location: of the corpus.
        split: the split.
        shards: in order.
        conversations: what `conversation_list` returns for each shard.
        statistics: of the whole split.
        suffix: of their names, so that those of an earlier corpus stay.

    Returns:
        Their names and sha256, by what they have.
    """
    columns = {name: [getattr(shard, name) for shard in shards] for name in ShardEntry.model_fields}
    tables = {
        SHARDS: pa.table(columns),
        CONVERSATIONS: pa.concat_tables(conversations),
        FEATURES: _feature_table(statistics),
    }
    found = {}
    for kind, table in tables.items():
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd", row_group_size=ROWS_IN_A_GROUP)
        place = location.join(split, f"{kind}{suffix}.parquet")
        place.write_bytes(buffer.getvalue())
        found[kind] = SideFile(name=f"{split}/{place.name}", sha256=hashlib.sha256(buffer.getvalue()).hexdigest())
    return found


def read_shard_list(location: Location, entry: SplitEntry) -> list[ShardEntry]:
    """The shards of a split.

    Raises:
        CorpusError: the file differs from the manifest.
    """
    if SHARDS not in entry.side_files:
        return []
    table = _read(location, entry.side_files[SHARDS], list(ShardEntry.model_fields))
    return [ShardEntry.model_construct(**row) for row in table.to_pylist()]


def read_conversation_list(location: Location, entry: SplitEntry) -> pa.Table:
    """Id, number of utterances and number of speakers of each conversation, in the order of the shards.

    Raises:
        CorpusError: the file differs from the manifest.
    """
    return _read(location, entry.side_files[CONVERSATIONS], ["conversation_id", "length", "speakers"])


def read_statistics(location: Location, entry: SplitEntry) -> Statistics:
    """Statistics of a split.

    Raises:
        CorpusError: the file differs from the manifest.
    """
    names = list(FeatureStatistics.__dataclass_fields__)
    table = _read(location, entry.side_files[FEATURES], ["modality", *names])
    modalities = np.array(table["modality"].to_pylist())
    columns = {name: table[name].to_numpy() for name in names}

    def of(modality: str) -> FeatureStatistics:
        rows = modalities == modality
        return FeatureStatistics(**{name: values[rows] for name, values in columns.items()})

    return Statistics(
        conversations=entry.conversations,
        utterances=entry.utterances,
        labels=entry.labels,
        unlabeled=entry.unlabeled,
        label_histogram=entry.label_histogram,
        label_values=of(LABELS) if LABELS in modalities else None,
        present=entry.present,
        lengths=entry.lengths,
        speakers=entry.speakers,
        speaker_names=None if entry.speaker_names is None else frozenset(entry.speaker_names),
        features={modality: of(modality) for modality in entry.present},
    )


def _feature_table(statistics: Statistics) -> pa.Table:
    """A row for every feature of every modality, and for labels that are numbers."""
    parts: Mapping[str, FeatureStatistics] = {str(name): found for name, found in statistics.features.items()}
    if statistics.label_values is not None:
        parts = {**parts, LABELS: statistics.label_values}
    names = [name for name, found in parts.items() for _ in found.count_W]
    columns = {
        field: np.concatenate([np.zeros(0), *(getattr(found, field) for found in parts.values())])
        for field in FeatureStatistics.__dataclass_fields__
    }
    return pa.table({"modality": pa.array(names, pa.string()), **columns})


def _read(location: Location, file: SideFile, columns: list[str]) -> pa.Table:
    place = location.join(file.name)
    if not place.exists():
        raise CorpusError(f"{place.uri}: expected a file of the manifest, found no such file; {AGAIN}")
    data = place.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != file.sha256:
        raise CorpusError(
            f"{place.uri}: expected sha256 {file.sha256[:12]}…, found {digest[:12]}… in {len(data)} bytes; {AGAIN}"
        )
    return pq.read_table(pa.BufferReader(data), columns=columns)
