"""What was true and what was predicted, utterance by utterance, and the cells that add up over conversations.

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
    "multi-label": ("weighted_f1", "accuracy", "macro_f1"),
    "regression": ("mae",),
}
"""What intervals are given for; the first is what groups are scored by."""
ELSEWHERE = -1
"""Predicted a label that is none of these."""


@dataclass(frozen=True)
class LabeledPredictions:
    """Labeled utterances only.

    Attributes:
        truth, predicted: label ids (N,), predicted ones with -1 for a label outside; or indicators (N, S) for
            multi-label; or numbers (N,) for regression.
        probability: of the labels (N, S); None for regression and for raw predictions.
        place_N: which of the split's utterances each is.
    """

    task: Task
    labels: tuple[str, ...]
    truth: NDArray
    predicted: NDArray
    probability: NDArray[np.float64] | None
    place_N: NDArray[np.int64]

    def only(self, member_N: NDArray[np.bool_]) -> LabeledPredictions:
        """Some of the utterances."""
        probability = None if self.probability is None else self.probability[member_N]
        return replace(
            self,
            truth=self.truth[member_N],
            predicted=self.predicted[member_N],
            probability=probability,
            place_N=self.place_N[member_N],
        )

    def counts(self, owner_N: NDArray[np.int64], owners: int) -> NDArray[np.float64]:
        """The cells of each owner (a conversation): (owners, S (S + 1)), (owners, 4 S) or (owners, 2)."""
        if self.task == "regression":
            error_N = np.abs(self.predicted - self.truth)
            parts = [np.bincount(owner_N, weights, minlength=owners) for weights in (None, error_N)]
            return np.stack(parts, axis=1).astype(np.float64)
        width = len(self.labels)
        if self.task == "single-label":
            column_N = np.where(self.predicted == ELSEWHERE, width, self.predicted)
            size, cell = width * (width + 1), self.truth * (width + 1) + column_N
            return np.bincount(owner_N * size + cell, minlength=owners * size).reshape(owners, size).astype(np.float64)
        # true and false positives, false and true negatives, as scores.py has them
        kind_NS = np.where(self.predicted, np.where(self.truth, 0, 1), np.where(self.truth, 2, 3))
        cell_NS = np.arange(width) * 4 + kind_NS
        size = width * 4
        flat = (owner_N[:, None] * size + cell_NS).reshape(-1)
        return np.bincount(flat, minlength=owners * size).reshape(owners, size).astype(np.float64)

    def measures(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """`MEASURES` of summed cells, (…, M); NaN without utterances."""
        if self.task == "regression":
            return _over(counts[..., 1], counts[..., 0])[..., None]
        width = len(self.labels)
        if self.task == "multi-label":
            cells = counts.reshape(*counts.shape[:-1], width, 4)
            total = cells.sum(axis=-1)
            hit, false, missed, rest = np.moveaxis(cells, -1, 0)
            accuracy = _over(hit + rest, total).mean(axis=-1)
            f1 = _over(2 * hit, np.maximum(2 * hit + false + missed, 1.0)).mean(axis=-1)
            weighted = np.where(total[..., 0] > 0, binary_weighted_f1(cells).mean(axis=-1), np.nan)
            return np.stack([weighted, accuracy, np.where(np.isnan(accuracy), np.nan, f1)], axis=-1)
        table = counts.reshape(*counts.shape[:-1], width, width + 1)
        hits = np.diagonal(table, axis1=-2, axis2=-1)
        support, predicted = table.sum(axis=-1), table[..., :width].sum(axis=-2)
        f1 = np.divide(2 * hits, support + predicted, out=np.zeros_like(hits), where=support + predicted > 0)
        total = support.sum(axis=-1)
        weighted, accuracy = _over((f1 * support).sum(axis=-1), total), _over(hits.sum(axis=-1), total)
        return np.stack([weighted, accuracy, np.where(total > 0, f1.mean(axis=-1), np.nan)], axis=-1)

    def scores(self, *, loss: float) -> Scores:
        """Scores of all of it, by label too; not for regression."""
        counts = self.counts(np.zeros(len(self.truth), np.int64), 1)[0]
        width = len(self.labels)
        if self.task == "multi-label":
            cells = counts.reshape(width, 4)
            return multi_label_scores(cells, self.labels, {}, utterances=len(self.truth), loss=loss)
        table = counts.reshape(width, width + 1)
        return single_label_scores(table[:, :width], self.labels, loss=loss, elsewhere=table[:, width])

    def calibrated(self) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]] | None:
        """Confidence and hit of every answer, and the utterance it is of; of every label for multi-label."""
        if self.probability is None:
            return None
        rows = np.arange(len(self.truth))
        if self.task == "multi-label":
            return self.probability.reshape(-1), self.truth.astype(bool).reshape(-1), np.repeat(rows, len(self.labels))
        best_N = self.probability.argmax(axis=1)
        return self.probability[rows, best_N], best_N == self.truth, rows


def _over(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(above, below, out=np.full(np.broadcast(above, below).shape, np.nan), where=below > 0)
