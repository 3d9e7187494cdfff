"""True and predicted labels of utterances, and the counts per conversation from which measures are computed.

Shapes: N = utterances, S = labels, C = conversations.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from joyful_ray.records import Scores
from joyful_ray.schema import Task
from joyful_ray.train.scores import binary_weighted_f1, multi_label_scores, single_label_scores

MEASURES: dict[Task, tuple[str, ...]] = {
    "single-label": ("weighted_f1", "accuracy", "macro_f1"),
    "multi-label": ("binary_weighted_f1", "weighted_f1", "accuracy", "macro_f1"),
    "regression": ("mae",),
}
"""Measures with intervals; groups are scored by the first one."""
OTHER_LABEL = -1
"""Id of a predicted label that is not in `labels`."""


@dataclass(frozen=True)
class LabeledPredictions:
    """The predictions for labeled utterances.

    Attributes:
        task: the task of the corpus.
        labels: names of the labels.
        truth, predicted: label ids (N,), with -1 if the predicted label is not in `labels`; indicators (N, S) for
            multi-label; numbers (N,) for regression.
        probability: probabilities of the labels (N, S); None for regression and for raw predictions.
        index_N: the index of each utterance in its split.
    """

    task: Task
    labels: tuple[str, ...]
    truth: NDArray
    predicted: NDArray
    probability: NDArray[np.float64] | None
    index_N: NDArray[np.int64]

    def select(self, mask_N: NDArray[np.bool_]) -> LabeledPredictions:
        """Return the utterances in a mask."""
        probability = None if self.probability is None else self.probability[mask_N]
        return replace(
            self,
            truth=self.truth[mask_N],
            predicted=self.predicted[mask_N],
            probability=probability,
            index_N=self.index_N[mask_N],
        )

    def counts(self, owner_N: NDArray[np.int64], owners: int) -> NDArray[np.float64]:
        """Count by conversation what the measures need.

        Args:
            owner_N: the index of each utterance's conversation.
            owners: number of conversations.

        Returns:
            Single-label: confusion tables (owners, S (S + 1)), whose last column is for other labels. Multi-label: true
            and false positives, false and true negatives (owners, 4 S). Regression: utterances and summed absolute
            errors (owners, 2).
        """
        if self.task == "regression":
            error_N = np.abs(self.predicted - self.truth)
            parts = [np.bincount(owner_N, weights, minlength=owners) for weights in (None, error_N)]
            return np.stack(parts, axis=1).astype(np.float64)
        width = len(self.labels)
        if self.task == "single-label":
            column_N = np.where(self.predicted == OTHER_LABEL, width, self.predicted)
            size, cell = width * (width + 1), self.truth * (width + 1) + column_N
            return np.bincount(owner_N * size + cell, minlength=owners * size).reshape(owners, size).astype(np.float64)
        # The order is that of scores.py: true positives, false positives, false negatives, true negatives.
        kind_NS = np.where(self.predicted, np.where(self.truth, 0, 1), np.where(self.truth, 2, 3))
        cell_NS = np.arange(width) * 4 + kind_NS
        size = width * 4
        flat = (owner_N[:, None] * size + cell_NS).reshape(-1)
        return np.bincount(flat, minlength=owners * size).reshape(owners, size).astype(np.float64)

    def measures(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Compute `MEASURES` from summed counts, (…, M); NaN without utterances."""
        if self.task == "regression":
            return _divide(counts[..., 1], counts[..., 0])[..., None]
        width = len(self.labels)
        if self.task == "multi-label":
            cells = counts.reshape(*counts.shape[:-1], width, 4)
            total = cells.sum(axis=-1)
            true_positives, false_positives, false_negatives, true_negatives = np.moveaxis(cells, -1, 0)
            accuracy = _divide(true_positives + true_negatives, total).mean(axis=-1)
            errors = false_positives + false_negatives
            f1 = _divide(2 * true_positives, np.maximum(2 * true_positives + errors, 1.0))
            support = true_positives + false_negatives
            weighted = (f1 * support).sum(axis=-1) / np.maximum(support.sum(axis=-1), 1.0)
            measures = [binary_weighted_f1(cells).mean(axis=-1), weighted, accuracy, f1.mean(axis=-1)]
            return np.where(total[..., :1] > 0, np.stack(measures, axis=-1), np.nan)
        table = counts.reshape(*counts.shape[:-1], width, width + 1)
        hits = np.diagonal(table, axis1=-2, axis2=-1)
        support, predicted = table.sum(axis=-1), table[..., :width].sum(axis=-2)
        f1 = np.divide(2 * hits, support + predicted, out=np.zeros_like(hits), where=support + predicted > 0)
        total = support.sum(axis=-1)
        weighted, accuracy = _divide((f1 * support).sum(axis=-1), total), _divide(hits.sum(axis=-1), total)
        return np.stack([weighted, accuracy, np.where(total > 0, f1.mean(axis=-1), np.nan)], axis=-1)

    def scores(self, *, loss: float) -> Scores:
        """Compute all scores, also by label; not for regression."""
        counts = self.counts(np.zeros(len(self.truth), np.int64), 1)[0]
        width = len(self.labels)
        if self.task == "multi-label":
            cells = counts.reshape(width, 4)
            return multi_label_scores(cells, self.labels, {}, utterances=len(self.truth), loss=loss)
        table = counts.reshape(width, width + 1)
        return single_label_scores(table[:, :width], self.labels, loss=loss, elsewhere=table[:, width])

    def confidences(self) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]] | None:
        """Return confidence, correctness and row of every prediction; for multi-label, of every label.

        Returns:
            None for regression and for raw predictions.
        """
        if self.probability is None:
            return None
        rows = np.arange(len(self.truth))
        if self.task == "multi-label":
            return self.probability.reshape(-1), self.truth.astype(bool).reshape(-1), np.repeat(rows, len(self.labels))
        best_N = self.probability.argmax(axis=1)
        return self.probability[rows, best_N], best_N == self.truth, rows


def _divide(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    out = np.full(np.broadcast(numerator, denominator).shape, np.nan)
    return np.divide(numerator, denominator, out=out, where=denominator > 0)
