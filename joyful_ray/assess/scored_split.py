"""Scores a split with a model, and collects everything by which utterances can be grouped.

Shapes: N = utterances, K = labels of the model, L = labels of the corpus, C = conversations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from joyful_ray.assess.shift import Distances, shift_of
from joyful_ray.corpora.shards import Corpus
from joyful_ray.data.encode import UNLABELED, Encoding
from joyful_ray.errors import CorpusError
from joyful_ray.predict.predictor import Predictor
from joyful_ray.records import ModalityShift
from joyful_ray.schema import Manifest, Modality, Split, attribute_column
from joyful_ray.train.evaluate import tables_by_batch


@dataclass(frozen=True)
class ScoredSplit:
    """One split with the scores of a model, in the order of the corpus.

    Attributes:
        scores_NK: scores of the model.
        truth: label ids (N,), indicators (N, L), or numbers (N,); unlabeled utterances have -1 or NaN.
        owner_N: the index of each utterance's conversation.
        position_N: the position of each utterance in its conversation, from 0.
        lengths_C: utterances in each conversation.
        speakers_N: names of the speakers.
        attributes: by name, the attribute of the speaker of each utterance; None is unknown.
        presence_N: modalities of each utterance, such as `text+audio`.
        texts_N: texts, or None if the corpus has none.
        shift: how far the features of each modality differ from the training data.
    """

    scores_NK: Tensor
    truth: NDArray
    owner_N: NDArray[np.int64]
    position_N: NDArray[np.int64]
    lengths_C: NDArray[np.int64]
    speakers_N: list[str]
    attributes: dict[str, list[str | None]]
    presence_N: NDArray
    texts_N: list[str] | None
    shift: dict[Modality, ModalityShift]

    @property
    def labeled_N(self) -> NDArray[np.bool_]:
        """Whether each utterance is labeled."""
        if self.truth.ndim == 2:
            return ~np.isnan(self.truth).any(axis=1)
        return self.truth != UNLABELED if self.truth.dtype == np.int64 else ~np.isnan(self.truth)


def score_split(
    predictor: Predictor,
    corpus: Corpus,
    split: Split,
    labels: tuple[str, ...],
    *,
    watch: Callable[[int, int], None] | None = None,
) -> ScoredSplit:
    """Score every utterance of a split; the vectors of one shard are in memory at a time.

    Args:
        predictor: the model.
        corpus: the corpus with the split.
        split: the split.
        labels: names whose order gives the label ids of the truth.
        watch: called with the number of utterances scored so far, and with that of all.

    Raises:
        CorpusError: the corpus has no such split, or the split has a label that is not in `labels`.
    """
    if split not in corpus.splits():
        raise CorpusError(f"{corpus.location.uri} has no {split} split; it has {', '.join(corpus.splits())}")
    label_encoding = Encoding(corpus.manifest.task, labels, {}, {})
    encoding = predictor.bundle.encoding
    widths = [name for name in encoding.widths if name in corpus.manifest.widths]
    scaled = {name: encoding.scaling[name] for name in widths if name in encoding.scaling}
    parts, distances = list[_Part](), dict[Modality, Distances]()
    total, seen = corpus.manifest.splits[split].utterances, 0
    together = any(bundle.depends_on_batch for bundle in predictor.bundles)
    for tables in tables_by_batch(corpus, split, together=together):
        of_part = None if watch is None else (lambda done, _, before=seen: watch(before + done, total))
        scores_NK = predictor.scores(tables, watch=of_part)[0]
        for table, scores in zip(tables, scores_NK.split([_utterances(table) for table in tables]), strict=True):
            parts.append(_Part.of(table, scores, label_encoding, widths, corpus.manifest))
            found = Distances.of(table, scaled)
            distances = {name: distances[name] + found[name] for name in found} if distances else found
        seen += len(scores_NK)
    lengths_C = np.concatenate([part.lengths_C for part in parts])
    starts_C = np.cumsum(lengths_C) - lengths_C
    owner_N = np.repeat(np.arange(len(lengths_C)), lengths_C)
    return ScoredSplit(
        scores_NK=torch.cat([part.scores_NK for part in parts]),
        truth=np.concatenate([part.truth for part in parts]),
        owner_N=owner_N,
        position_N=np.arange(len(owner_N)) - starts_C[owner_N],
        lengths_C=lengths_C,
        speakers_N=[name for part in parts for name in part.speakers_N],
        attributes={
            name: [value for part in parts for value in part.attributes[name]]
            for name in corpus.manifest.speaker_attributes
        },
        presence_N=np.concatenate([part.presence_N for part in parts]),
        texts_N=[text for part in parts for text in part.texts_N] if corpus.manifest.has_texts else None,
        shift=shift_of(distances),
    )


class _Part(NamedTuple):
    """What is kept of a shard."""

    scores_NK: Tensor
    truth: NDArray
    lengths_C: NDArray[np.int64]
    speakers_N: list[str]
    attributes: dict[str, list[str | None]]
    presence_N: NDArray
    texts_N: list[str]

    @classmethod
    def of(
        cls, table: pa.Table, scores_NK: Tensor, labels: Encoding, widths: Sequence[Modality], manifest: Manifest
    ) -> _Part:
        return cls(
            scores_NK=scores_NK,
            truth=_truth(labels, table),
            lengths_C=_lengths(table),
            speakers_N=_names(table, "speakers"),
            attributes={name: _names(table, attribute_column(name)) for name in manifest.speaker_attributes},
            presence_N=_presence(table, widths),
            texts_N=_flat(table, "texts").to_pylist() if manifest.has_texts else [],
        )


def _utterances(table: pa.Table) -> int:
    return int(_lengths(table).sum())


def _names(table: pa.Table, column: str) -> list[Any]:
    """Values of which few differ; equal ones are one object."""
    known: dict[Any, Any] = {}
    return [known.setdefault(name, name) for name in _flat(table, column).to_pylist()]


def _truth(label_encoding: Encoding, table: pa.Table) -> NDArray:
    values = label_encoding.label_values(table["labels"]).flatten().to_numpy(zero_copy_only=False)
    if label_encoding.task == "single-label":
        return values.astype(np.int64)
    return (
        values.reshape(-1, len(label_encoding.labels))
        if label_encoding.task == "multi-label"
        else values.astype(np.float64)
    )


def _lengths(table: pa.Table) -> NDArray[np.int64]:
    return np.diff(table["utterance_ids"].combine_chunks().offsets.to_numpy()).astype(np.int64)


def _flat(table: pa.Table, column: str) -> pa.Array:
    return table[column].combine_chunks().flatten()


def _presence(table: pa.Table, names: Sequence[Modality]) -> NDArray:
    """The modalities of every utterance, such as `text+audio`."""
    present = [_flat(table, f"{name}_present").to_numpy(zero_copy_only=False) for name in names]
    code_N = sum(flags.astype(np.int64) << bit for bit, flags in enumerate(present))
    combinations = [
        "+".join(name for bit, name in enumerate(names) if code >> bit & 1) or "none" for code in range(2 ** len(names))
    ]
    return np.array(combinations, dtype=object)[code_N]
