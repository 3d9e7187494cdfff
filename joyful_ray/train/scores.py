"""Scores from sums and counts, which are added over batches and ranks and divided once at the end.

Shapes: N = utterances, K = labels, T = thresholds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from joyful_ray.records import Scores
from joyful_ray.schema import Task

THRESHOLDS = tuple(round(0.05 * place, 2) for place in range(1, 20))
_CELLS = 4  # true and false positives, false and true negatives


class Tally:
    """Counts for the scores of a split; `state` is one float64 vector, so one all-reduce sums it over ranks.

    Args:
        task: decides what is counted.
        labels: label names; empty for regression.
    """

    def __init__(self, task: Task, labels: Sequence[str]) -> None:
        self.task, self.labels = task, list(labels)
        count = len(self.labels)
        size = {"single-label": count * count, "multi-label": len(THRESHOLDS) * count * _CELLS, "regression": 16}[task]
        self.state = torch.zeros(2 + size, dtype=torch.float64)

    def saw(self, scores_NK: Tensor, labels: Tensor, labeled_N: Tensor, loss: float) -> None:
        """Count a batch; unlabeled utterances are ignored. `loss` is a sum over utterances."""
        scores, truth = scores_NK[labeled_N].double().cpu(), labels[labeled_N].cpu()
        counted = {"single-label": self._confusion, "multi-label": self._cells, "regression": self._moments}[self.task]
        self.state[0] += len(truth)
        self.state[1] += loss
        self.state[2:] += counted(scores, truth)

    def scores(self, thresholds: Mapping[str, float] | None = None) -> Scores:
        """The scores of everything counted so far.

        Args:
            thresholds: threshold per label (multi-label); None tunes them on the counts, as on dev.
        """
        utterances, loss = int(self.state[0]), float(self.state[1]) / max(float(self.state[0]), 1.0)
        counts = self.state[2:].numpy()
        if self.task == "single-label":
            return single_label_scores(counts.reshape(len(self.labels), -1), self.labels, loss=loss)
        if self.task == "multi-label":
            cells = counts.reshape(len(THRESHOLDS), len(self.labels), _CELLS)
            return _multi_label_scores(cells, self.labels, thresholds, utterances=utterances, loss=loss)
        return _regression_scores(counts, utterances=utterances, loss=loss)

    def _confusion(self, scores_NK: Tensor, truth_N: Tensor) -> Tensor:
        count = len(self.labels)
        return torch.bincount(truth_N * count + scores_NK.argmax(dim=1), minlength=count * count).double()

    def _cells(self, scores_NK: Tensor, truth_NK: Tensor) -> Tensor:
        limits_T = torch.tensor(THRESHOLDS, dtype=torch.float64)
        predicted_TNK = torch.sigmoid(scores_NK)[None] >= limits_T[:, None, None]
        true_NK = truth_NK.bool()[None]
        cells = (predicted_TNK & true_NK, predicted_TNK & ~true_NK, ~predicted_TNK & true_NK, ~predicted_TNK & ~true_NK)
        return torch.stack([cell.double().sum(dim=1) for cell in cells], dim=-1).flatten()

    def _moments(self, scores_N1: Tensor, truth_N: Tensor) -> Tensor:
        guess, truth = scores_N1.squeeze(1), truth_N.double()
        seven = (guess.clamp(-3, 3).round() == truth.clamp(-3, 3).round()).double()
        signed = truth != 0
        positive, predicted = truth[signed] > 0, guess[signed] > 0
        cells = (predicted & positive, predicted & ~positive, ~predicted & positive, ~predicted & ~positive)
        loose = ((guess >= 0) == (truth >= 0)).double()
        parts = [(guess - truth).abs().sum(), guess.sum(), truth.sum(), (guess * guess).sum(), (truth * truth).sum()]
        parts += [(guess * truth).sum(), seven.sum(), loose.sum(), *(cell.double().sum() for cell in cells)]
        return torch.cat([torch.stack(parts), torch.zeros(16 - len(parts), dtype=torch.float64)])


def single_label_scores(
    confusion: NDArray[np.float64],
    labels: Sequence[str],
    *,
    loss: float,
    elsewhere: NDArray[np.float64] | None = None,
) -> Scores:
    """Accuracy, weighted and macro F1 of a confusion matrix whose rows are true labels; an F1 without support is 0.

    Args:
        confusion: (K, K).
        labels: label names.
        loss: mean loss, passed on.
        elsewhere: per true label, the number of utterances for which a label outside the matrix was predicted.
    """
    missed = np.zeros(len(labels)) if elsewhere is None else elsewhere
    hits, support, predicted = np.diag(confusion), confusion.sum(axis=1) + missed, confusion.sum(axis=0)
    precision, recall = _ratio(hits, predicted), _ratio(hits, support)
    f1 = _ratio(2 * hits, support + predicted)
    total = float(support.sum())
    return Scores(
        task="single-label",
        utterances=int(total),
        loss=loss,
        values={
            "accuracy": float(hits.sum() / max(total, 1.0)),
            "weighted_f1": float((f1 * support).sum() / max(total, 1.0)),
            "macro_f1": float(f1.mean()) if len(f1) else 0.0,
        },
        labels=list(labels),
        per_label={
            name: {
                "precision": float(precision[k]),
                "recall": float(recall[k]),
                "f1": float(f1[k]),
                "support": float(support[k]),
            }
            for k, name in enumerate(labels)
        },
        confusion=confusion.astype(int).tolist(),
    )


def _multi_label_scores(
    cells: NDArray[np.float64],
    labels: Sequence[str],
    thresholds: Mapping[str, float] | None,
    *,
    utterances: int,
    loss: float,
) -> Scores:
    weighted = binary_weighted_f1(cells)
    chosen = {}
    for k, name in enumerate(labels):
        if thresholds is None:
            middle = np.abs(np.array(THRESHOLDS) - 0.5)
            chosen[name] = int(np.lexsort((middle, -weighted[:, k]))[0])
        else:
            chosen[name] = int(np.argmin(np.abs(np.array(THRESHOLDS) - thresholds[name])))
    at_chosen = np.array([cells[chosen[name], k] for k, name in enumerate(labels)])
    limits = {name: THRESHOLDS[place] for name, place in chosen.items()}
    return multi_label_scores(at_chosen, labels, limits, utterances=utterances, loss=loss)


def multi_label_scores(
    cells: NDArray[np.float64], labels: Sequence[str], limits: Mapping[str, float], *, utterances: int, loss: float
) -> Scores:
    """Scores for several labels per utterance.

    Args:
        cells: (K, 4): true positives, false positives, false negatives, true negatives.
        labels: label names.
        limits: thresholds that the predictions were made with, as far as they are known.
        utterances: number of utterances, passed on.
        loss: mean loss, passed on.
    """
    weighted = binary_weighted_f1(cells)
    per_label = {}
    for k, name in enumerate(labels):
        hit, false, missed, rest = cells[k]
        per_label[name] = {
            "precision": float(hit / max(hit + false, 1.0)),
            "recall": float(hit / max(hit + missed, 1.0)),
            "f1": float(2 * hit / max(2 * hit + false + missed, 1.0)),
            "binary_weighted_f1": float(weighted[k]),
            "accuracy": float((hit + rest) / max(hit + false + missed + rest, 1.0)),
            "support": float(hit + missed),
            **({"threshold": limits[name]} if name in limits else {}),
        }
    means = {
        target: float(np.mean([per_label[name][key] for name in labels]))
        for target, key in (("binary_weighted_f1", "binary_weighted_f1"), ("accuracy", "accuracy"), ("macro_f1", "f1"))
    }
    support = np.array([per_label[name]["support"] for name in labels])
    for target, key in (("weighted_f1", "f1"), ("binary_weighted_f1_by_support", "binary_weighted_f1")):
        values = np.array([per_label[name][key] for name in labels])
        means[target] = float((values * support).sum() / max(support.sum(), 1.0))
    return Scores(
        task="multi-label", utterances=utterances, loss=loss, values=means, labels=list(labels), per_label=per_label
    )


def binary_weighted_f1(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """F1 of positives and negatives, weighted by their support, as the MOSEI literature reports it per emotion.

    Args:
        cells: (…, 4): true positives, false positives, false negatives, true negatives.
    """
    hit, false, missed, rest = np.moveaxis(cells, -1, 0)
    positive, negative = _ratio(2 * hit, 2 * hit + false + missed), _ratio(2 * rest, 2 * rest + false + missed)
    return _ratio(positive * (hit + missed) + negative * (rest + false), hit + false + missed + rest)


def _regression_scores(counts: NDArray[np.float64], *, utterances: int, loss: float) -> Scores:
    n = max(utterances, 1)
    error, guess, truth, guess2, truth2, cross, seven, loose = counts[:8]
    spread = max(n * guess2 - guess**2, 0.0) * max(n * truth2 - truth**2, 0.0)
    agreement = n * guess2 - guess**2 + n * truth2 - truth**2 + (guess - truth) ** 2
    cells = counts[8:12]
    signed = max(cells.sum(), 1.0)
    return Scores(
        task="regression",
        utterances=utterances,
        loss=loss,
        values={
            "mae": float(error / n),
            "correlation": float((n * cross - guess * truth) / np.sqrt(spread)) if spread > 0 else 0.0,
            "concordance": float(2 * (n * cross - guess * truth) / agreement) if agreement > 0 else 0.0,
            "accuracy_7": float(seven / n),
            "accuracy_2": float((cells[0] + cells[3]) / signed),
            "accuracy_2_with_zero": float(loose / n),
            "f1_2": float(binary_weighted_f1(cells[None])[0]),
        },
    )


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(above, below, out=np.zeros(np.broadcast(above, below).shape), where=below > 0)
