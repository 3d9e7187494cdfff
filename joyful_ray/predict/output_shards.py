"""The files of a prediction: one Parquet file a shard of the corpus, each saying of which model and shard it is.

`<out>/split=<split>/part-00000.parquet`: pandas and DuckDB read `split` from the folder as one more column. What begins
with `_`, such as the card, they pass over.
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
from joyful_ray.schema import ShardEntry, Split
from joyful_ray.storage import Location

CARD = "_card.json"
FOLDER = "split="
UNFINISHED = ".unfinished"
READERS = 16
AGAIN = "name another --out, or remove this one"
DIFFERENCES = {
    "joyful.bundle": "from another bundle",
    "joyful.corpus": "from another corpus",
    "joyful.embedding": "with another choice of embeddings",
    "joyful.shard": "from another shard",
}


@dataclass(frozen=True)
class OutputShard:
    """One shard to be done, and its place in its split."""

    split: Split
    shard: ShardEntry
    place: int

    @property
    def name(self) -> str:
        """Its file below `out`."""
        return f"{FOLDER}{self.split}/part-{self.place:05d}.parquet"


@dataclass(frozen=True)
class Origin:
    """What every file of one prediction has in common; written into each of them."""

    bundle: str
    corpus: str
    embedding: bool

    def metadata(self, piece: OutputShard) -> dict[str, str]:
        """The key-value metadata of a shard's file."""
        return {
            "joyful.bundle": self.bundle,
            "joyful.corpus": self.corpus,
            "joyful.embedding": str(self.embedding),
            "joyful.shard": piece.shard.sha256,
        }


def write_part(out: Location, piece: OutputShard, table: pa.Table, origin: Origin) -> None:
    """Write a shard's predictions; a reader sees the whole file or none."""
    buffer = io.BytesIO()
    words = [field.name for field in table.schema if not pa.types.is_floating(field.type) and field.name != "embedding"]
    marked = table.replace_schema_metadata(origin.metadata(piece))
    pq.write_table(marked, buffer, compression="zstd", use_dictionary=words)
    out.join(piece.name).write_bytes(buffer.getvalue())


def output_shards(corpus: Corpus, splits: list[Split]) -> list[OutputShard]:
    """The shards of these splits."""
    return [
        OutputShard(split, shard, place)
        for split in splits
        for place, shard in enumerate(corpus.manifest.splits[split].shards)
    ]


def finished_shards(out: Location, pieces: list[OutputShard], origin: Origin) -> set[OutputShard]:
    """Those of the pieces whose predictions are there; what a killed command left half-written is removed.

    Raises:
        CheckpointError: `out` holds something else, or predictions of another bundle, corpus or choice of columns.
    """
    names = out.list()
    foreign = [name for name in names if name != CARD and not name.startswith(FOLDER)]
    if foreign:
        raise CheckpointError(f"{out.uri} holds {', '.join(foreign[:3])}, no part of predictions; name another --out")
    there = {f"{folder}/{name}" for folder in names if folder != CARD for name in out.join(folder).list()}
    for name in there:
        if name.endswith(UNFINISHED):
            out.join(name).remove()
    done = [piece for piece in pieces if piece.name in there]
    with ThreadPoolExecutor(READERS) as readers:
        list(readers.map(lambda piece: _check_origin(out, piece, origin), done))
    return set(done)


def columns_of(out: Location, piece: OutputShard) -> dict[str, str]:
    """Names and Arrow types of the columns of a shard's file."""
    return {field.name: str(field.type) for field in _schema_of(out.join(piece.name))}


def _check_origin(out: Location, piece: OutputShard, origin: Origin) -> None:
    place = out.join(piece.name)
    metadata = _schema_of(place).metadata or {}
    for key, expected in origin.metadata(piece).items():
        if metadata.get(key.encode()) != expected.encode():
            raise CheckpointError(f"{place.uri} was predicted {DIFFERENCES[key]}; {AGAIN}")


def _schema_of(place: Location) -> pa.Schema:
    filesystem, path = place.arrow_filesystem()
    try:
        with filesystem.open_input_file(path) as file:
            return pq.read_schema(file)
    except (pa.ArrowException, OSError) as error:
        raise CheckpointError(f"{place.uri} is damaged ({str(error).splitlines()[0]}); remove it") from None


def runs_of(pieces: list[OutputShard], length: int) -> Iterator[list[OutputShard]]:
    """The pieces, `length` at a time."""
    for start in range(0, len(pieces), length):
        yield pieces[start : start + length]
