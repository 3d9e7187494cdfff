"""Which rows of which shards belong to a split, and how they are read. Tasks of Ray Data import it: no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from joyful_ray.config import JobConfig
from joyful_ray.corpora.shards import AGAIN, Corpus
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
    """The rows of a split: its shards, and the conversations to keep or to leave out."""

    split: Split
    uris: tuple[str, ...]
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
    found = {split: SplitRows(split, tuple(corpus.shard_uris(split))) for split in splits}
    if job.data.folds is not None:
        return found | _folded(found, corpus, fold=job.data.fold, folds=job.data.folds)
    if "dev" in found and corpus.manifest.splits["dev"].unlabeled >= corpus.manifest.splits["dev"].utterances:
        raise CorpusError(
            f"{corpus.location.uri}: no utterance of dev is labeled, so no epoch can be selected; label some, or "
            "import the corpus without dev, and training takes some conversations of train instead"
        )
    if "dev" not in found:
        ids = [name for uri in found["train"].uris for name in _ids(uri)]
        if len(ids) < 2:
            raise CorpusError(
                f"{corpus.location.uri} has no dev split, and too few train conversations to cut one from"
            )
        cut = cut_dev(ids, fraction=job.data.dev_fraction, seed=job.seed)
        found["train"] = SplitRows("train", found["train"].uris, leave=cut)
        found["dev"] = SplitRows("dev", found["train"].uris, keep=cut)
    return found


def _folded(found: dict[Split, SplitRows], corpus: Corpus, *, fold: int, folds: int) -> dict[Split, SplitRows]:
    """Train and dev, divided again for cross-validation."""
    uris = tuple(uri for split, rows in found.items() if split != "test" for uri in rows.uris)
    ids = [name for uri in uris for name in _ids(uri)]
    if len(ids) < folds:
        raise CorpusError(f"{corpus.location.uri} has {len(ids)} conversations to train on, too few for {folds} folds")
    held_out = cut_fold(ids, fold=fold, folds=folds)
    return {"train": SplitRows("train", uris, leave=held_out), "dev": SplitRows("dev", uris, keep=held_out)}


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
    location = open_location(reading.uris[piece.shard])
    filesystem, path = location.arrow_filesystem()
    try:
        with filesystem.open_input_file(path) as source:
            file = pq.ParquetFile(source, buffer_size=READ_BYTES)
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
    except (pa.ArrowException, OSError) as error:
        raise CorpusError(f"cannot read {location.uri} ({str(error).splitlines()[0]}); {AGAIN}") from None


def chosen_rows(corpus: Corpus, reading: SplitRows) -> tuple[int, ...]:
    """How many rows of each shard belong to the split."""
    if reading.has_all:
        shards = (shard for entry in corpus.manifest.splits.values() for shard in entry.shards)
        rows = {corpus.location.join(shard.name).uri: shard.rows for shard in shards}
        return tuple(rows[uri] for uri in reading.uris)
    return tuple(reading.choose(pa.table({"conversation_id": _ids(uri)})).num_rows for uri in reading.uris)


def _ids(uri: str) -> list[str]:
    filesystem, path = open_location(uri).arrow_filesystem()
    with filesystem.open_input_file(path) as file:
        return pq.ParquetFile(file).read(columns=["conversation_id"])["conversation_id"].to_pylist()
