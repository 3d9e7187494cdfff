"""How a score depends on one setting: a smoothed curve with a confidence band, from trials that vary all settings.

Shapes: N = trials, G = points of the curve, B = bootstrap samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

POINTS, SAMPLES, LEAST = 40, 300, 5
BANDWIDTH = 0.15
LOW, HIGH = 0.05, 0.95


@dataclass(frozen=True)
class Curve:
    """Mean score over the range of a setting, and the interval of 90 % of the resampled means."""

    at: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]


def curve(values: Sequence[float], scores: Sequence[float], *, is_log: bool) -> Curve | None:
    """Kernel-weighted mean over a setting, with a bootstrap band; None with fewer than five trials.

    Args:
        values: the value of the setting in each trial.
        scores: the score of each trial.
        is_log: whether distances are measured on a logarithmic scale.
    """
    if len(values) < LEAST or len(set(values)) < 2:
        return None
    points_N = np.log(values) if is_log else np.asarray(values, dtype=np.float64)
    scores_N = np.asarray(scores, dtype=np.float64)
    grid_G = np.linspace(points_N.min(), points_N.max(), POINTS)
    kernel_GN = np.exp(-0.5 * ((grid_G[:, None] - points_N[None]) / (BANDWIDTH * np.ptp(points_N))) ** 2)
    random = np.random.default_rng(0)
    counts_BN = random.multinomial(len(scores_N), np.full(len(scores_N), 1 / len(scores_N)), size=SAMPLES)
    mean_G = _means(kernel_GN, np.ones((1, len(scores_N))), scores_N)[0]
    sampled_BG = _means(kernel_GN, counts_BN.astype(np.float64), scores_N)
    low_G, high_G = np.quantile(sampled_BG, [LOW, HIGH], axis=0)
    at_G = np.exp(grid_G) if is_log else grid_G
    return Curve(at_G.tolist(), mean_G.tolist(), low_G.tolist(), high_G.tolist())


def group_mean(scores: Sequence[float]) -> tuple[float, float, float]:
    """Mean of the scores of one choice, and the interval of 90 % of the resampled means."""
    scores_N = np.asarray(scores, dtype=np.float64)
    random = np.random.default_rng(0)
    means_B = scores_N[random.integers(len(scores_N), size=(SAMPLES, len(scores_N)))].mean(axis=1)
    low, high = np.quantile(means_B, [LOW, HIGH])
    return float(scores_N.mean()), float(low), float(high)


def _means(kernel_GN: NDArray[np.float64], counts_BN: NDArray[np.float64], scores_N: NDArray[np.float64]) -> NDArray:
    weights_BG = counts_BN @ kernel_GN.T
    return (counts_BN * scores_N) @ kernel_GN.T / np.maximum(weights_BG, 1e-12)
