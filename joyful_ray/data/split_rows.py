"""Which rows of which shards belong to a split, and how they are read. Tasks of Ray Data import it: no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from joyful_ray.config import JobConfig
from joyful_ray.corpora.shards import Corpus, ShardReader
from joyful_ray.data.plan import cut_dev, cut_fold
from joyful_ray.errors import CorpusError
from joyful_ray.schema import ShardEntry, Split

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
        corpus: where they are, without its lists of shards.
        shards: its shards.
        rows: how many conversations of each shard belong to it.
        keep: those that belong to it; None for all but those in `leave`.
    """

    split: Split
    corpus: Corpus
    shards: tuple[ShardEntry, ...]
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

    def read(self, shard: ShardEntry) -> pa.Table:
        """The rows of a shard that belong to the split, checked against the manifest."""
        return self.choose(self.corpus.read_checked(shard))

    def first_shards(self, count: int) -> SplitRows:
        """The rows of the first shards alone."""
        return replace(self, shards=self.shards[:count], rows=self.rows[:count])


def split_rows(corpus: Corpus, job: JobConfig) -> dict[Split, SplitRows]:
    """The rows of each split.

    Raises:
        CorpusError: there are no conversations to train on, or no labels of dev to select an epoch by.
    """
    splits = corpus.splits()
    if "train" not in splits:
        raise CorpusError(f"{corpus.location.uri} has no train conversations; import a corpus with a train split")
    found = {split: _all_rows(corpus, split) for split in splits}
    if job.data.folds is not None:
        return found | _folded(found, corpus, fold=job.data.fold, folds=job.data.folds)
    if "dev" in found and corpus.manifest.splits["dev"].unlabeled >= corpus.manifest.splits["dev"].utterances:
        raise CorpusError(
            f"{corpus.location.uri}: no utterance of dev is labeled, so no epoch can be selected; label some, or "
            "import the corpus without dev, and training takes some conversations of train instead"
        )
    if "dev" not in found:
        by_shard = corpus.conversation_ids("train")
        ids = [name for names in by_shard for name in names]
        if len(ids) < 2:
            raise CorpusError(
                f"{corpus.location.uri} has no dev split, and too few train conversations to cut one from"
            )
        held_out = cut_dev(ids, fraction=job.data.dev_fraction, seed=job.seed)
        return found | _cut(corpus, corpus.shards("train"), by_shard, held_out)
    return found


def _all_rows(corpus: Corpus, split: Split) -> SplitRows:
    shards = tuple(corpus.shards(split))
    return SplitRows(split, corpus.without_shards, shards, tuple(shard.rows for shard in shards))


def _folded(found: dict[Split, SplitRows], corpus: Corpus, *, fold: int, folds: int) -> dict[Split, SplitRows]:
    """Train and dev, divided again for cross-validation."""
    divided = [split for split in found if split != "test"]
    shards = [shard for split in divided for shard in corpus.shards(split)]
    by_shard = [names for split in divided for names in corpus.conversation_ids(split)]
    ids = [name for names in by_shard for name in names]
    if len(ids) < folds:
        raise CorpusError(f"{corpus.location.uri} has {len(ids)} conversations to train on, too few for {folds} folds")
    return _cut(corpus, shards, by_shard, cut_fold(ids, fold=fold, folds=folds))


def _cut(
    corpus: Corpus, shards: Sequence[ShardEntry], ids: Sequence[Sequence[str]], held_out: frozenset[str]
) -> dict[Split, SplitRows]:
    """Train and dev of shards whose ids are known; dev is what is held out."""
    dev = tuple(sum(name in held_out for name in names) for names in ids)
    train = tuple(len(names) - out for names, out in zip(ids, dev, strict=True))
    return {
        "train": SplitRows("train", corpus.without_shards, tuple(shards), train, leave=held_out),
        "dev": SplitRows("dev", corpus.without_shards, tuple(shards), dev, keep=held_out),
    }


def rows_of_pieces(
    reading: SplitRows, pieces: Sequence[Piece], reader: ShardReader, *, columns: Sequence[str], at_a_time: int
) -> Iterator[pa.Table]:
    """The rows of some pieces, one after the other, so many at a time; the last table has what is left.

    Memory grows neither with a shard nor with a piece.

    Raises:
        CorpusError: a shard cannot be read, or differs from the manifest.
    """
    waiting, count = list[pa.Table](), 0
    for piece in pieces:
        for rows in _rows_of_piece(reading, piece, reader, columns, at_a_time):
            while count + rows.num_rows >= at_a_time:
                yield pa.concat_tables([*waiting, rows.slice(0, at_a_time - count)])
                rows = rows.slice(at_a_time - count)
                waiting, count = [], 0
            if rows.num_rows:
                waiting.append(rows)
                count += rows.num_rows
    if waiting:
        yield pa.concat_tables(waiting)


def _rows_of_piece(
    reading: SplitRows, piece: Piece, reader: ShardReader, columns: Sequence[str], at_a_time: int
) -> Iterator[pa.Table]:
    seen: int | None = None
    # Where only some rows belong to the split, those before the piece must be counted.
    first = piece.start if reading.has_all else 0
    shard = reading.shards[piece.shard]
    for before, batch in reader.batches(
        shard, columns=columns, first=first, at_a_time=at_a_time, buffer_bytes=READ_BYTES
    ):
        rows = reading.choose(batch)
        seen = before if seen is None else seen
        begin, end = max(piece.start - seen, 0), min(piece.stop - seen, rows.num_rows)
        seen += rows.num_rows
        if begin < end:
            yield rows.slice(begin, end - begin)
        if seen >= piece.stop:
            return
