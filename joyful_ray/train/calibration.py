"""Calibration of probabilities: a temperature fitted on dev, and the expected calibration error.

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
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
BISECTIONS = 60


def fit_temperature(
    scores_NK: Tensor, truth: Tensor, *, task: Task, add: Callable[[Tensor], Tensor] = lambda values: values
) -> float | None:
    """The temperature that maximises the likelihood of the labels when scores are divided by it.

    Args:
        scores_NK: logits (N, K).
        truth: label ids (N,), or indicators (N, K) for multi-label; every utterance is labeled.
        task: decides between softmax and sigmoid.
        add: sums a tensor over ranks, each of which has its own utterances.

    Returns:
        Between 0.05 and 20; None for regression, or if no rank has an utterance. At the optimum, the mean score
        under the model equals the mean score of the true labels.

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
        """Derivative of the negative log likelihood with respect to 1 / temperature; it never decreases."""
        if task == "single-label":
            mean_N = (torch.softmax(inverse * scores_NK, dim=1) * scores_NK).sum(dim=1)
            total = (mean_N - true_N).sum()
        else:
            total = ((torch.sigmoid(inverse * scores_NK) - truth) * scores_NK).sum()
        return float(add(total[None].clone()))

    low, high = np.log(1.0 / MAX_TEMPERATURE), np.log(1.0 / MIN_TEMPERATURE)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(float(np.exp(middle))) > 0 else (middle, high)
    return float(np.exp(-(low + high) / 2))


def reliability_counts(
    confidence_N: NDArray[np.float64], hit_N: NDArray[np.bool_], owner_N: NDArray[np.int64], owners: int
) -> NDArray[np.float64]:
    """For each owner (a conversation), the predictions, sum of confidences and hits in each bin; counts can be added.

    Args:
        confidence_N: confidence of each prediction, from 0 to 1.
        hit_N: whether the prediction is right.
        owner_N: index of the owner of each prediction.
        owners: number of owners.

    Returns:
        (owners, 3 B).
    """
    bin_N = np.clip(np.ceil(confidence_N * BINS).astype(np.int64) - 1, 0, BINS - 1)
    place_N = owner_N * BINS + bin_N
    parts = [np.bincount(place_N, weights, minlength=owners * BINS) for weights in (None, confidence_N, hit_N)]
    return np.concatenate([part.reshape(owners, BINS) for part in parts], axis=1).astype(np.float64)


def calibration_error(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Expected calibration error from summed counts (…, 3 B): mean gap between confidence and accuracy over 15 bins.

    0 if the accuracy of every bin equals its mean confidence; NaN without predictions.
    """
    predictions, confidence, hits = np.split(counts, 3, axis=-1)
    total = predictions.sum(axis=-1)
    gap = np.abs(confidence - hits).sum(axis=-1)
    return np.divide(gap, total, out=np.full(total.shape, np.nan), where=total > 0)
