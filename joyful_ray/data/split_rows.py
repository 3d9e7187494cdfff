"""Which rows of which shards belong to a split. Tasks of Ray Data import this module, so it does not import torch."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from joyful_ray.config import JobConfig
from joyful_ray.corpora.shards import Corpus
from joyful_ray.data.plan import cut_dev, cut_fold
from joyful_ray.errors import CorpusError
from joyful_ray.schema import Split
from joyful_ray.storage import open_location


@dataclass(frozen=True)
class SplitRows:
    """The rows of a split: its shards, and the conversations to keep or to leave out."""

    split: Split
    uris: tuple[str, ...]
    keep: frozenset[str] | None = None
    leave: frozenset[str] = frozenset()

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


def read_pieces(reading: SplitRows, pieces: pa.Table) -> pa.Table:
    """The chosen rows of shards.

    Args:
        reading: which rows belong to the split.
        pieces: one row per piece: a shard `uri`, and its rows from `start` to before `stop`.
    """
    tables = []
    for piece in pieces.to_pylist():
        rows = reading.choose(read_shard(piece["uri"]))
        tables.append(rows.slice(piece["start"], piece["stop"] - piece["start"]))
    return pa.concat_tables(tables)


def _ids(uri: str) -> list[str]:
    filesystem, path = open_location(uri).arrow_filesystem()
    with filesystem.open_input_file(path) as file:
        return pq.ParquetFile(file).read(columns=["conversation_id"])["conversation_id"].to_pylist()
