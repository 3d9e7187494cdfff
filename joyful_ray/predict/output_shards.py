"""The files of a prediction: one Parquet file per shard of the corpus; each names its model and its shard.

The files are `<out>/split=<split>/part-00000.parquet`. pandas and DuckDB read `split` from the folder as one more
column, and they skip files that begin with `_`, such as the card.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from joyful_ray.corpora.shards import Corpus
from joyful_ray.errors import CheckpointError
from joyful_ray.predict.decoder import VectorChoice
from joyful_ray.schema import ShardEntry, Split
from joyful_ray.storage import Location
from joyful_ray.storage.local import UNFINISHED

CARD = "_card.json"
FOLDER = "split="
READERS = 16
ADVICE = "choose another --out, or remove this folder"
DIFFERENCES = {
    "joyful.bundle": "with another bundle",
    "joyful.corpus": "from another corpus",
    "joyful.embedding": "with another choice of vectors",
    "joyful.shard": "from another shard",
}


@dataclass(frozen=True)
class OutputShard:
    """The predictions for one shard of the corpus.

    Attributes:
        split: the split of the shard.
        source: the shard of the corpus.
        index: its position in the split, from 0.
    """

    split: Split
    source: ShardEntry
    index: int

    @property
    def name(self) -> str:
        """Name of the file below `out`."""
        return f"{FOLDER}{self.split}/part-{self.index:05d}.parquet"


@dataclass(frozen=True)
class Origin:
    """Where the predictions come from; every file of a prediction contains it.

    Attributes:
        bundle, corpus: hashes.
        vectors: which columns of vectors the files have.
    """

    bundle: str
    corpus: str
    vectors: VectorChoice

    def metadata(self, shard: OutputShard) -> dict[str, str]:
        """Return the key-value metadata of a shard's file."""
        return {
            "joyful.bundle": self.bundle,
            "joyful.corpus": self.corpus,
            "joyful.embedding": str(self.vectors.embedding) + (" and shared" if self.vectors.shared else ""),
            "joyful.shard": shard.source.sha256,
        }


def write_shard(out: Location, shard: OutputShard, table: pa.Table, origin: Origin) -> None:
    """Write the predictions for a shard in one step, so that a reader never sees half a file."""
    buffer = io.BytesIO()
    names = [field.name for field in table.schema if not _holds_numbers(field.type)]
    with_origin = table.replace_schema_metadata(origin.metadata(shard))
    pq.write_table(with_origin, buffer, compression="zstd", use_dictionary=names)
    out.join(shard.name).write_bytes(buffer.getvalue())


def _holds_numbers(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_fixed_size_list(kind)


def output_shards(corpus: Corpus, splits: list[Split]) -> list[OutputShard]:
    """Return the shards of these splits."""
    return [
        OutputShard(split, source, index)
        for split in splits
        for index, source in enumerate(corpus.manifest.splits[split].shards)
    ]


def finished_shards(out: Location, shards: list[OutputShard], origin: Origin) -> set[OutputShard]:
    """Return the shards that are already predicted, and remove files that a killed command left unfinished.

    Raises:
        CheckpointError: `out` contains other files, or predictions of another bundle, corpus or choice of columns.
    """
    names = out.list()
    foreign = [name for name in names if name != CARD and not name.startswith(FOLDER)]
    if foreign:
        raise CheckpointError(
            f"{out.uri} contains {', '.join(foreign[:3])}, which is not part of a prediction; choose another --out"
        )
    existing = {f"{folder}/{name}" for folder in names if folder != CARD for name in out.join(folder).list()}
    for name in existing:
        if name.endswith(UNFINISHED):
            out.join(name).remove()
    finished = [shard for shard in shards if shard.name in existing]
    with ThreadPoolExecutor(READERS) as readers:
        list(readers.map(lambda shard: _check_origin(out, shard, origin), finished))
    return set(finished)


def columns_of(out: Location, shard: OutputShard) -> dict[str, str]:
    """Return the names and Arrow types of the columns in a shard's file."""
    return {field.name: str(field.type) for field in _read_schema(out.join(shard.name))}


def _check_origin(out: Location, shard: OutputShard, origin: Origin) -> None:
    place = out.join(shard.name)
    metadata = _read_schema(place).metadata or {}
    for key, expected in origin.metadata(shard).items():
        if metadata.get(key.encode()) != expected.encode():
            raise CheckpointError(f"{place.uri} was predicted {DIFFERENCES[key]}; {ADVICE}")


def _read_schema(place: Location) -> pa.Schema:
    filesystem, path = place.arrow_filesystem()
    try:
        with filesystem.open_input_file(path) as file:
            return pq.read_schema(file)
    except (pa.ArrowException, OSError) as error:
        raise CheckpointError(f"{place.uri} is damaged ({str(error).splitlines()[0]}); remove it") from None


def groups_of(shards: list[OutputShard], size: int) -> Iterator[list[OutputShard]]:
    """Divide shards into groups of `size`; the last group may be smaller."""
    for start in range(0, len(shards), size):
        yield shards[start : start + size]
