"""Statistics of the conversations of a split, so that it need not be read to be known; those of its parts add up.

Shapes: N = utterances, W = width of one modality's vectors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from joyful_ray.corpora.tables import one_piece
from joyful_ray.schema import LABEL_BIN, Manifest, Modality, Task

MOST_NAMES = 64
"""Names of speakers that are kept; with more, none are."""
UTTERANCES_AT_A_TIME = 2048


@dataclass(frozen=True)
class FeatureStatistics:
    """Count, mean, sum of squared deviations, minimum and maximum of each feature over cells that are present.

    All are float64, (W,). A feature that is never present has a mean of 0, and NaN as minimum and maximum.
    """

    count_W: NDArray[np.float64]
    mean_W: NDArray[np.float64]
    squares_W: NDArray[np.float64]
    least_W: NDArray[np.float64]
    most_W: NDArray[np.float64]

    @classmethod
    def none(cls, width: int) -> FeatureStatistics:
        """Statistics of no utterance."""
        return cls(*(np.zeros(width) for _ in range(3)), *(np.full(width, np.nan) for _ in range(2)))

    @classmethod
    def of(cls, values_NW: NDArray[np.floating]) -> FeatureStatistics:
        """Statistics of the cells that are not NaN; memory does not grow with N."""
        found = cls.none(values_NW.shape[1])
        for start in range(0, len(values_NW), UTTERANCES_AT_A_TIME):
            found += cls._of_some(values_NW[start : start + UTTERANCES_AT_A_TIME].astype(np.float64))
        return found

    @classmethod
    def _of_some(cls, values_NW: NDArray[np.float64]) -> FeatureStatistics:
        valid_NW = ~np.isnan(values_NW)
        count_W = valid_NW.sum(axis=0).astype(np.float64)
        whole = bool(valid_NW.all())
        mean_W = (values_NW if whole else np.where(valid_NW, values_NW, 0.0)).sum(axis=0) / np.maximum(count_W, 1.0)
        deviations_NW = values_NW - mean_W if whole else np.where(valid_NW, values_NW - mean_W, 0.0)
        squares_W = np.einsum("nw,nw->w", deviations_NW, deviations_NW)
        return cls(count_W, mean_W, squares_W, np.fmin.reduce(values_NW), np.fmax.reduce(values_NW))

    def __add__(self, other: FeatureStatistics) -> FeatureStatistics:
        """Statistics of both together (Chan, Golub and LeVeque 1983)."""
        count = self.count_W + other.count_W
        share = np.divide(other.count_W, count, out=np.zeros_like(count), where=count > 0)
        delta = other.mean_W - self.mean_W
        return FeatureStatistics(
            count,
            self.mean_W + delta * share,
            self.squares_W + other.squares_W + delta**2 * self.count_W * share,
            np.fmin(self.least_W, other.least_W),
            np.fmax(self.most_W, other.most_W),
        )


@dataclass(frozen=True)
class Statistics:
    """What is known of some conversations.

    Attributes:
        labels: number of utterances by label; empty for regression.
        label_histogram: number of labels by their nearest multiple of `LABEL_BIN`; only for regression.
        label_values: statistics of the labels, of width 1; only for regression.
        present: number of utterances that have a modality's vector.
        lengths: number of conversations by number of utterances.
        speakers: largest number of speakers in a conversation.
        speaker_names: all of them; None if there are more than `MOST_NAMES`.
        features: by modality.
    """

    conversations: int = 0
    utterances: int = 0
    labels: Mapping[str, int] = field(default_factory=dict)
    unlabeled: int = 0
    label_histogram: Mapping[int, int] = field(default_factory=dict)
    label_values: FeatureStatistics | None = None
    present: Mapping[Modality, int] = field(default_factory=dict)
    lengths: Mapping[int, int] = field(default_factory=dict)
    speakers: int = 0
    speaker_names: frozenset[str] | None = frozenset()
    features: Mapping[Modality, FeatureStatistics] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: pa.Table, *, task: Task, widths: Mapping[Modality, int]) -> Statistics:
        """Statistics of rows of shards."""
        rows = rows.combine_chunks()
        lengths = _lengths(rows)
        labels, unlabeled, values = _labels(one_piece(rows["labels"]).flatten(), task)
        names = pc.unique(one_piece(rows["speakers"]).flatten())
        return cls(
            conversations=rows.num_rows,
            utterances=int(lengths.sum()),
            labels=labels,
            unlabeled=unlabeled,
            label_histogram=_histogram(values) if values is not None else {},
            label_values=FeatureStatistics.of(values[:, None]) if values is not None else None,
            present={name: int(pc.sum(one_piece(rows[f"{name}_present"]).flatten()).as_py() or 0) for name in widths},
            lengths=Counter(lengths.tolist()),
            speakers=int(_distinct_speakers(rows).max(initial=0)),
            speaker_names=frozenset(names.to_pylist()) if len(names) <= MOST_NAMES else None,
            features=feature_statistics(rows, widths),
        )

    def __add__(self, other: Statistics) -> Statistics:
        if not self.conversations:
            return other
        if not other.conversations:
            return self
        values = None
        if self.label_values is not None and other.label_values is not None:
            values = self.label_values + other.label_values
        return Statistics(
            conversations=self.conversations + other.conversations,
            utterances=self.utterances + other.utterances,
            labels=Counter(self.labels) + Counter(other.labels),
            unlabeled=self.unlabeled + other.unlabeled,
            label_histogram=Counter(self.label_histogram) + Counter(other.label_histogram),
            label_values=values,
            present={name: self.present[name] + other.present[name] for name in self.present},
            lengths=Counter(self.lengths) + Counter(other.lengths),
            speakers=max(self.speakers, other.speakers),
            speaker_names=_together(self.speaker_names, other.speaker_names),
            features={name: self.features[name] + other.features[name] for name in self.features},
        )

    def absent_cells(self, modality: Modality) -> int:
        """Number of single values that are missing in vectors that are present."""
        found = self.features.get(modality, FeatureStatistics.none(0))
        return round(self.present.get(modality, 0) * len(found.count_W) - float(found.count_W.sum()))


def statistics_of(rows: pa.Table, manifest: Manifest) -> Statistics:
    """Statistics of rows of a corpus."""
    return Statistics.of(rows, task=manifest.task, widths=manifest.widths)


def conversation_list(rows: pa.Table) -> pa.Table:
    """Id, number of utterances and number of speakers of each conversation."""
    rows = rows.combine_chunks()
    return pa.table(
        {
            "conversation_id": rows["conversation_id"],
            "length": pa.array(_lengths(rows), pa.int32()),
            "speakers": pa.array(_distinct_speakers(rows), pa.int32()),
        }
    )


def feature_statistics(rows: pa.Table, widths: Mapping[Modality, int]) -> dict[Modality, FeatureStatistics]:
    """Statistics of every modality's features."""
    found = {}
    for name, width in widths.items():
        values = pc.fill_null(one_piece(rows[name]).flatten(), float("nan"))
        found[name] = FeatureStatistics.of(values.to_numpy(zero_copy_only=False).reshape(-1, width))
    return found


def _together(some: frozenset[str] | None, others: frozenset[str] | None) -> frozenset[str] | None:
    names = None if some is None or others is None else some | others
    return names if names is not None and len(names) <= MOST_NAMES else None


def _lengths(rows: pa.Table) -> NDArray[np.int64]:
    return pc.list_value_length(one_piece(rows["utterance_ids"])).to_numpy(zero_copy_only=False).astype(np.int64)


def _distinct_speakers(rows: pa.Table) -> NDArray[np.int64]:
    """Number of speakers of each conversation."""
    lists = one_piece(rows["speakers"])
    names = lists.flatten().dictionary_encode()
    pairs = np.stack([pc.list_parent_indices(lists).to_numpy(), names.indices.to_numpy(zero_copy_only=False)])
    return np.bincount(np.unique(pairs, axis=1)[0], minlength=rows.num_rows)


def _labels(values: pa.Array, task: Task) -> tuple[dict[str, int], int, NDArray[np.float32] | None]:
    """Counts by label, the number of unlabeled utterances, and for regression the labels."""
    unlabeled = values.null_count
    if task == "regression":
        return {}, unlabeled, pc.drop_null(values).to_numpy(zero_copy_only=False)
    names = pc.drop_null(values.flatten() if task == "multi-label" else values)
    return {pair["values"]: pair["counts"] for pair in pc.value_counts(names).to_pylist()}, unlabeled, None


def _histogram(values: NDArray[np.float32]) -> dict[int, int]:
    bins, counts = np.unique(np.round(values / LABEL_BIN).astype(np.int64), return_counts=True)
    return dict(zip(bins.tolist(), counts.tolist(), strict=True))


def counts_in_order(labels: Sequence[str], counts: Mapping[str, int]) -> dict[str, int]:
    """The count of every label, also of those that are absent."""
    return {label: counts.get(label, 0) for label in labels}
