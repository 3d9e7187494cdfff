"""Encodes rows of shards as numbers: labels and speakers as ids, features centred and scaled.

These are pure functions over Arrow tables. Ray Data maps them over blocks; without Ray they run over whole files.

Shapes: n = utterances of one conversation, W = width of a modality, K = labels.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from joyful_ray.corpora.statistics import FeatureStatistics
from joyful_ray.corpora.tables import one_piece
from joyful_ray.data.ngrams import NgramHasher
from joyful_ray.errors import CorpusError
from joyful_ray.schema import Modality, Task

UNLABELED = -1
SMALLEST_DEVIATION = 1e-6


@dataclass(frozen=True)
class Scaling:
    """Mean and standard deviation by which one modality is centred and scaled; part of a bundle."""

    mean_W: NDArray[np.float32]
    deviation_W: NDArray[np.float32]

    @classmethod
    def of(cls, found: FeatureStatistics) -> Scaling:
        """Scaling of features with these statistics. One that never varies, or is never present, is only centred."""
        variance = found.squares_W / np.maximum(found.count_W, 1.0)
        deviation = np.sqrt(variance)
        scale = np.maximum(np.abs(found.mean_W), 1.0)
        deviation = np.where(deviation > SMALLEST_DEVIATION * scale, deviation, 1.0)
        return cls(found.mean_W.astype(np.float32), deviation.astype(np.float32))


@dataclass(frozen=True)
class Encoding:
    """How the rows of a corpus become numbers.

    Attributes:
        scaling: per modality; empty if features are not scaled.
        ngrams: how texts become word n-grams; None if texts are not read.
        speaker_order: speakers that have the first numbers; others follow by first appearance.
    """

    task: Task
    labels: tuple[str, ...]
    widths: Mapping[Modality, int]
    scaling: Mapping[Modality, Scaling]
    ngrams: NgramHasher | None = None
    speaker_order: tuple[str, ...] = ()

    def columns(self, known: Collection[str]) -> list[str]:
        """The columns that are encoded, of those that a corpus has."""
        read = ["conversation_id", "speakers", "labels", *(["texts"] if self.ngrams is not None else [])]
        read += [column for name in self.widths for column in (name, f"{name}_present")]
        return [column for column in read if column in known]

    def table(self, rows: pa.Table, *, with_labels: bool = True) -> pa.Table:
        """Encode rows.

        Args:
            rows: rows of a shard.
            with_labels: False leaves every utterance unlabeled, so that rows may have another task or other labels.

        Returns:
            Columns `conversation_id`, `length`, `speakers` (ids), `labels`, per modality
            `<name>`, flat, with NaN where a cell is not present, and `<name>_present`; if texts are read, also `words`
            (ids of n-grams, flat) and `word_counts`.
        """
        rows = rows.combine_chunks()
        ids = rows["conversation_id"]
        columns: dict[str, pa.Array | pa.ChunkedArray] = {
            "conversation_id": ids,
            "length": pc.list_value_length(rows["speakers"]).cast(pa.int32()),
            "speakers": _speaker_ids(rows["speakers"], self.speaker_order),
            "labels": self.label_values(rows["labels"]) if with_labels else self._unlabeled(rows["speakers"]),
        }
        if self.ngrams is not None:
            columns |= _words(self.ngrams, rows)
        for name, width in self.widths.items():
            if name not in rows.column_names:
                columns |= _not_present(name, width, rows["speakers"])
                continue
            matrix = _flat(rows[name]).reshape(-1, width)
            if name in self.scaling:
                scaling = self.scaling[name]
                matrix = (matrix - scaling.mean_W) / scaling.deviation_W
            columns[name] = _relist(matrix.reshape(-1), rows[name])
            columns[f"{name}_present"] = rows[f"{name}_present"]
        return pa.table(columns)

    def label_values(self, column: pa.ChunkedArray) -> pa.Array:
        """Labels as numbers: ids with -1 for unlabeled, indicators, or the numbers given; one list per conversation.

        Raises:
            CorpusError: a label is not one of the names.
        """
        lists = one_piece(column)
        if self.task == "regression":
            return _relist(lists.flatten().to_numpy(zero_copy_only=False).astype(np.float32), lists)
        if self.task == "multi-label":
            return self._label_indicators(lists)
        values = lists.flatten()
        found = pc.fill_null(pc.index_in(values, value_set=pa.array(self.labels, pa.string())), UNLABELED)
        unknown = pc.and_(pc.equal(found, UNLABELED), pc.is_valid(values))
        if pc.any(unknown).as_py():
            name = pc.filter(values, unknown)[0].as_py()
            raise CorpusError(f"label {name!r} is not one of {', '.join(self.labels)}")
        return _relist(found.to_numpy(zero_copy_only=False).astype(np.float32), lists)

    def _unlabeled(self, like: pa.ChunkedArray) -> pa.Array:
        width = len(self.labels) if self.task == "multi-label" else 1
        absent = UNLABELED if self.task == "single-label" else np.nan
        return _relist(np.full(len(one_piece(like).flatten()) * width, absent, np.float32), like)

    def _label_indicators(self, lists: pa.ListArray) -> pa.Array:
        utterances = lists.flatten()
        indicators = np.zeros((len(utterances), len(self.labels)), np.float32)
        indicators[pc.is_null(utterances).to_numpy(zero_copy_only=False)] = np.nan
        rows = pc.list_parent_indices(utterances).to_numpy(zero_copy_only=False)
        found = pc.index_in(utterances.flatten(), value_set=pa.array(self.labels, pa.string()))
        if found.null_count:
            raise CorpusError(f"a label of an utterance is not one of {', '.join(self.labels)}")
        indicators[rows, found.to_numpy(zero_copy_only=False)] = 1.0
        return _relist(indicators.reshape(-1), lists)


def numbered_speakers(rows: pa.Table, order: Sequence[str]) -> int:
    """How many numbers the speakers of a conversation need, at most."""
    return int(pc.max(_speaker_ids(rows["speakers"], order).flatten()).as_py() or 0) + 1 if rows.num_rows else 0


def _words(hashing: NgramHasher, rows: pa.Table) -> dict[str, pa.Array]:
    """Columns of the n-grams; utterances of a corpus without texts have none."""
    like = one_piece(rows["speakers"])
    texts = (
        one_piece(rows["texts"]).flatten().to_pylist() if "texts" in rows.column_names else [None] * len(like.flatten())
    )
    ids, counts = hashing.ids(texts)
    ends = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    utterances = np.concatenate([[0], np.cumsum(pc.list_value_length(like).to_numpy(zero_copy_only=False))])
    return {
        "words": pa.LargeListArray.from_arrays(pa.array(ends[utterances], pa.int64()), pa.array(ids)),
        "word_counts": _relist(counts, like),
    }


def _not_present(name: str, width: int, like: pa.ChunkedArray) -> dict[str, pa.Array]:
    """Columns of a modality that a corpus does not have."""
    utterances = len(one_piece(like).flatten())
    return {
        name: _relist(np.full(utterances * width, np.nan, np.float32), like),
        f"{name}_present": _relist(np.zeros(utterances, np.bool_), like),
    }


def _flat(column: pa.ChunkedArray) -> NDArray[np.float32]:
    """All values of a list column, with NaN for null."""
    return one_piece(column).flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False)


def _relist(values: NDArray[np.generic], like: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Values as one list per conversation, each as long as that of `like` or a fixed multiple of it."""
    lists = one_piece(like)
    lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    total = int(lengths.sum())
    factor = len(values) // total if total else 1
    offsets = np.concatenate([[0], np.cumsum(lengths * factor)])
    return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pa.array(values))


def _speaker_ids(column: pa.ChunkedArray, order: Sequence[str] = ()) -> pa.Array:
    """Number the speakers of each conversation: those of the order by it, the others after them by first appearance."""
    lists = one_piece(column)
    names = lists.flatten()
    parents = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
    found = pc.fill_null(pc.index_in(names, value_set=pa.array(list(order), pa.string())), -1)
    ids = found.to_numpy(zero_copy_only=False).astype(np.int32)
    others = ids < 0
    if others.any():
        codes = names.dictionary_encode().indices.to_numpy(zero_copy_only=False)
        ids[others] = len(order) + _by_appearance(parents[others], codes[others])
    return _relist(ids, lists)


def _by_appearance(parents: NDArray, codes: NDArray) -> NDArray[np.int32]:
    """Number the codes of each conversation by first appearance."""
    pairs = parents.astype(np.int64) * (int(codes.max()) + 1) + codes
    unique, first, inverse = np.unique(pairs, return_index=True, return_inverse=True)
    by_appearance = np.argsort(first, kind="stable")
    conversation = parents[first[by_appearance]]
    starts = np.searchsorted(conversation, conversation, side="left")
    rank = np.empty(len(unique), np.int32)
    rank[by_appearance] = (np.arange(len(unique)) - starts).astype(np.int32)
    return rank[inverse]
