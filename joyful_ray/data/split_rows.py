"""Which rows of which shards belong to a split, and how they are read. Tasks of Ray Data import it: no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from joyful_ray.config import JobConfig
from joyful_ray.corpora.shards import Corpus, opened_shard
from joyful_ray.data.plan import cut_dev, cut_fold
from joyful_ray.errors import CorpusError
from joyful_ray.schema import Split
from joyful_ray.storage import open_location

READ_BYTES = 2**20
"""Bytes of a column that are read from storage at a time."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some of the chosen rows of a shard: from `start` to before `stop`."""

    shard: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class SplitRows:
    """The rows of a split.

    Attributes:
        uris: its shards.
        rows: how many conversations of each shard belong to it.
        keep: those that belong to it; None for all but those in `leave`.
    """

    split: Split
    uris: tuple[str, ...]
    rows: tuple[int, ...]
    keep: frozenset[str] | None = None
    leave: frozenset[str] = frozenset()

    @property
    def has_all(self) -> bool:
        """Whether all rows of its shards belong to the split."""
        return self.keep is None and not self.leave

    def choose(self, rows: pa.Table) -> pa.Table:
        """The rows that belong to the split."""
        if self.keep is not None:
            return rows.filter(pc.is_in(rows["conversation_id"], pa.array(sorted(self.keep))))
        if self.leave:
            return rows.filter(pc.invert(pc.is_in(rows["conversation_id"], pa.array(sorted(self.leave)))))
        return rows


def split_rows(corpus: Corpus, job: JobConfig) -> dict[Split, SplitRows]:
    """The rows of each split.

    Raises:
        CorpusError: there are no conversations to train on, or no labels of dev to select an epoch by.
    """
    splits = corpus.splits()
    if "train" not in splits:
        raise CorpusError(f"{corpus.location.uri} has no train conversations; import a corpus with a train split")
    found = {
        split: SplitRows(
            split,
            tuple(corpus.shard_uris(split)),
            tuple(shard.rows for shard in corpus.manifest.splits[split].shards),
        )
        for split in splits
    }
    if job.data.folds is not None:
        return found | _folded(found, corpus, fold=job.data.fold, folds=job.data.folds)
    if "dev" in found and corpus.manifest.splits["dev"].unlabeled >= corpus.manifest.splits["dev"].utterances:
        raise CorpusError(
            f"{corpus.location.uri}: no utterance of dev is labeled, so no epoch can be selected; label some, or "
            "import the corpus without dev, and training takes some conversations of train instead"
        )
    if "dev" not in found:
        shards = {uri: _ids(uri) for uri in found["train"].uris}
        ids = [name for names in shards.values() for name in names]
        if len(ids) < 2:
            raise CorpusError(
                f"{corpus.location.uri} has no dev split, and too few train conversations to cut one from"
            )
        return found | _cut(shards, cut_dev(ids, fraction=job.data.dev_fraction, seed=job.seed))
    return found


def _folded(found: dict[Split, SplitRows], corpus: Corpus, *, fold: int, folds: int) -> dict[Split, SplitRows]:
    """Train and dev, divided again for cross-validation."""
    shards = {uri: _ids(uri) for split, rows in found.items() if split != "test" for uri in rows.uris}
    ids = [name for names in shards.values() for name in names]
    if len(ids) < folds:
        raise CorpusError(f"{corpus.location.uri} has {len(ids)} conversations to train on, too few for {folds} folds")
    return _cut(shards, cut_fold(ids, fold=fold, folds=folds))


def _cut(shards: Mapping[str, Sequence[str]], held_out: frozenset[str]) -> dict[Split, SplitRows]:
    """Train and dev of shards whose ids are known; dev is what is held out."""
    uris, dev = tuple(shards), tuple(sum(name in held_out for name in names) for names in shards.values())
    train = tuple(len(names) - out for names, out in zip(shards.values(), dev, strict=True))
    return {
        "train": SplitRows("train", uris, train, leave=held_out),
        "dev": SplitRows("dev", uris, dev, keep=held_out),
    }


def read_shard(uri: str) -> pa.Table:
    """The rows of a shard."""
    filesystem, path = open_location(uri).arrow_filesystem()
    with filesystem.open_input_file(path) as file:
        return pq.ParquetFile(file).read()


def rows_of_pieces(reading: SplitRows, pieces: Sequence[Piece], *, at_a_time: int) -> Iterator[pa.Table]:
    """The rows of some pieces, one after the other, so many at a time; the last table has what is left.

    Memory grows neither with a shard nor with a piece.

    Raises:
        CorpusError: a shard cannot be read.
    """
    waiting, count = list[pa.Table](), 0
    for piece in pieces:
        for rows in _rows_of_piece(reading, piece, at_a_time):
            while count + rows.num_rows >= at_a_time:
                yield pa.concat_tables([*waiting, rows.slice(0, at_a_time - count)])
                rows = rows.slice(at_a_time - count)
                waiting, count = [], 0
            if rows.num_rows:
                waiting.append(rows)
                count += rows.num_rows
    if waiting:
        yield pa.concat_tables(waiting)


def _rows_of_piece(reading: SplitRows, piece: Piece, at_a_time: int) -> Iterator[pa.Table]:
    with opened_shard(open_location(reading.uris[piece.shard]), buffer_bytes=READ_BYTES) as file:
        groups, seen = list(range(file.num_row_groups)), 0
        while reading.has_all and groups and seen + file.metadata.row_group(groups[0]).num_rows <= piece.start:
            seen += file.metadata.row_group(groups.pop(0)).num_rows
        for batch in file.iter_batches(batch_size=at_a_time, row_groups=groups, use_threads=False):
            rows = reading.choose(pa.Table.from_batches([batch]))
            begin, end = max(piece.start - seen, 0), min(piece.stop - seen, rows.num_rows)
            seen += rows.num_rows
            if begin < end:
                yield rows.slice(begin, end - begin)
            if seen >= piece.stop:
                return


def _ids(uri: str) -> list[str]:
    filesystem, path = open_location(uri).arrow_filesystem()
    with filesystem.open_input_file(path) as file:
        return pq.ParquetFile(file).read(columns=["conversation_id"])["conversation_id"].to_pylist()
