"""How far probabilities can be believed: a temperature fitted on dev, and the expected calibration error.

Shapes: N = utterances, K = labels, B = bins.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from joyful_ray.schema import Task

BINS = 15
COLDEST, HOTTEST = 0.05, 20.0
HALVINGS = 60


def fit_temperature(
    scores_NK: Tensor, truth: Tensor, *, task: Task, add: Callable[[Tensor], Tensor] = lambda values: values
) -> float | None:
    """The temperature that makes these labels most likely, by which scores are to be divided.

    Args:
        truth: label ids (N,), or indicators (N, K) for multi-label; all labeled.
        add: sums a tensor over ranks, each of which holds its own utterances.

    Returns:
        Between 0.05 and 20; None for regression, or where no rank has an utterance. At the optimum, the mean score
        under the model equals that of the true labels.

    Source: Guo et al., ICML 2017, section 4.2.
    """
    scores_NK = scores_NK.double()
    if task == "regression" or float(add(torch.tensor([float(len(scores_NK))], dtype=torch.float64))) == 0.0:
        return None
    if task == "single-label":
        true_N = scores_NK.gather(1, truth.long()[:, None]).squeeze(1)
    else:
        truth = truth.reshape(scores_NK.shape).double()

    def slope(inverse: float) -> float:
        """Derivative of the negative log likelihood by 1 / temperature; it never falls."""
        if task == "single-label":
            mean_N = (torch.softmax(inverse * scores_NK, dim=1) * scores_NK).sum(dim=1)
            total = (mean_N - true_N).sum()
        else:
            total = ((torch.sigmoid(inverse * scores_NK) - truth) * scores_NK).sum()
        return float(add(total[None].clone()))

    low, high = np.log(1.0 / HOTTEST), np.log(1.0 / COLDEST)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(float(np.exp(middle))) > 0 else (middle, high)
    return float(np.exp(-(low + high) / 2))


def reliability_counts(
    confidence_N: NDArray[np.float64], hit_N: NDArray[np.bool_], owner_N: NDArray[np.int64], owners: int
) -> NDArray[np.float64]:
    """Of each owner (a conversation): answers, sum of confidences and hits in each bin; they add up.

    Returns:
        (owners, 3 B).
    """
    bin_N = np.clip(np.ceil(confidence_N * BINS).astype(np.int64) - 1, 0, BINS - 1)
    place_N = owner_N * BINS + bin_N
    parts = [np.bincount(place_N, weights, minlength=owners * BINS) for weights in (None, confidence_N, hit_N)]
    return np.concatenate([part.reshape(owners, BINS) for part in parts], axis=1).astype(np.float64)


def calibration_error(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Expected calibration error from summed cells (…, 3 B): mean distance of confidence and accuracy over 15 bins.

    0 where every bin is right as often as it believes; NaN without answers.
    """
    answers, confidence, hits = np.split(counts, 3, axis=-1)
    total = answers.sum(axis=-1)
    apart = np.abs(confidence - hits).sum(axis=-1)
    return np.divide(apart, total, out=np.full(total.shape, np.nan), where=total > 0)
