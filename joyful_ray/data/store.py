"""An encoded split in memory: a zero-copy view of Arrow tables, also of those in Ray's object store.

Shapes: as in batch.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from joyful_ray.data.batch import Batch, NgramIds
from joyful_ray.data.draws import at, key_of
from joyful_ray.data.encode import Encoding
from joyful_ray.schema import Modality


@dataclass(frozen=True)
class _BlockWords:
    """N-grams of one table: ids, their number per utterance, and where each conversation starts in the ids."""

    ids: NDArray[np.int32]
    counts: NDArray[np.int32]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, table: pa.Table) -> _BlockWords:
        offsets = table["words"].chunk(0).offsets.to_numpy()
        return cls(_values(table, "words"), _values(table, "word_counts"), offsets - offsets[0])


@dataclass(frozen=True)
class _Block:
    """Flat columns of one table, and where each conversation starts in them (in utterances)."""

    starts: NDArray[np.int64]
    speakers: NDArray[np.int32]
    labels: NDArray[np.float32]
    features: Mapping[Modality, NDArray[np.float32]]
    present: Mapping[Modality, NDArray[np.bool_]]
    ngrams: _BlockWords | None


class SplitStore:
    """Conversations of one split, in the order of their ids.

    Args:
        tables: encoded by `encoding.table`, in any order.
        encoding: how they were encoded.

    Attributes:
        tables: the encoded tables that have rows.
        rows: row of each conversation in the concatenated tables.
    """

    def __init__(self, tables: Sequence[pa.Table], encoding: Encoding) -> None:
        self._encoding = encoding
        self.tables = tables = [table.combine_chunks() for table in tables if table.num_rows]
        self._blocks = [_block(table, encoding) for table in tables]
        ids = [name for table in tables for name in table["conversation_id"].to_pylist()]
        order = np.argsort(np.array(ids, dtype=object), kind="stable") if ids else np.zeros(0, np.int64)
        rows = [(block, row) for block, table in enumerate(tables) for row in range(table.num_rows)]
        lengths = np.array([n for table in tables for n in table["length"].to_pylist()], np.int64)
        self.conversation_ids = [ids[int(place)] for place in order]
        self._places = [rows[int(place)] for place in order]
        self.rows: NDArray[np.int64] = order
        self.lengths: NDArray[np.int64] = lengths[order] if ids else lengths

    def __len__(self) -> int:
        return len(self._places)

    @cached_property
    def _keys_C(self) -> Tensor:
        """What each conversation adds to the key of an epoch's draws; only training needs it."""
        return torch.tensor([key_of(name) for name in self.conversation_ids], dtype=torch.int64)

    @property
    def utterances(self) -> int:
        """Number of utterances of the split."""
        return int(self.lengths.sum())

    def batch(self, conversations: Sequence[int], *, draw_key: int | None = None) -> Batch:
        """A batch of conversations; only their rows are copied.

        Args:
            conversations: positions in the split.
            draw_key: of the epoch's random draws; None for a batch that is not trained on.
        """
        spans = []
        for chosen in conversations:
            block, row = self._places[chosen]
            start = int(self._blocks[block].starts[row])
            spans.append((self._blocks[block], slice(start, start + int(self.lengths[chosen]))))
        labels = torch.from_numpy(np.concatenate([block.labels[span] for block, span in spans]))
        return Batch(
            features={
                name: torch.from_numpy(np.concatenate([block.features[name][span] for block, span in spans]))
                for name in self._encoding.widths
            },
            present={
                name: torch.from_numpy(np.concatenate([block.present[name][span] for block, span in spans]))
                for name in self._encoding.widths
            },
            speakers_N=torch.from_numpy(np.concatenate([block.speakers[span] for block, span in spans])).long(),
            lengths_C=torch.from_numpy(self.lengths[list(conversations)]),
            labels=labels.long() if self._encoding.task == "single-label" else labels,
            conversations=tuple(int(chosen) for chosen in conversations),
            conversation_ids=tuple(self.conversation_ids[chosen] for chosen in conversations),
            ngrams=self._words(conversations),
            keys_C=None if draw_key is None else at(self._keys_C[list(conversations)] + draw_key, "epoch"),
        )

    def _words(self, conversations: Sequence[int]) -> NgramIds | None:
        ids, counts = [], []
        for chosen in conversations:
            number, row = self._places[chosen]
            ngrams, start = self._blocks[number].ngrams, int(self._blocks[number].starts[row])
            if ngrams is None:
                return None
            ids.append(ngrams.ids[ngrams.starts[row] : ngrams.starts[row + 1]])
            counts.append(ngrams.counts[start : start + int(self.lengths[chosen])])
        return NgramIds(torch.from_numpy(np.concatenate(ids)), torch.from_numpy(np.concatenate(counts)))


def _block(table: pa.Table, encoding: Encoding) -> _Block:
    lengths = table["length"].to_numpy().astype(np.int64)
    labels = _values(table, "labels")
    return _Block(
        starts=np.cumsum(lengths) - lengths,
        speakers=_values(table, "speakers"),
        labels=labels.reshape(-1, len(encoding.labels)) if encoding.task == "multi-label" else labels,
        features={name: _values(table, name).reshape(-1, width) for name, width in encoding.widths.items()},
        present={name: _values(table, f"{name}_present") for name in encoding.widths},
        ngrams=_BlockWords.of(table) if encoding.ngrams is not None else None,
    )


def _values(table: pa.Table, column: str) -> NDArray:
    values = table[column].chunk(0).flatten()
    return values.to_numpy(zero_copy_only=False)
