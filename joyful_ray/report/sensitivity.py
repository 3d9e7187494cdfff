"""How a score depends on one setting: a smoothed curve with a confidence band, from trials that vary all settings.

Shapes: N = trials, G = places on the curve, B = draws of the bootstrap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PLACES, DRAWS, LEAST = 40, 300, 5
BANDWIDTH = 0.15
LOW, HIGH = 0.05, 0.95


@dataclass(frozen=True)
class Curve:
    """Mean of the score and where nine in ten resampled means lie, over a setting's range."""

    at: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]


def curve(values: Sequence[float], scores: Sequence[float], *, is_log: bool) -> Curve | None:
    """A kernel-weighted mean along a setting, with a band from resampling trials; None with fewer than 5 trials.

    Args:
        is_log: distances are between magnitudes.
    """
    if len(values) < LEAST or len(set(values)) < 2:
        return None
    places_N = np.log(values) if is_log else np.asarray(values, dtype=np.float64)
    scores_N = np.asarray(scores, dtype=np.float64)
    grid_G = np.linspace(places_N.min(), places_N.max(), PLACES)
    kernel_GN = np.exp(-0.5 * ((grid_G[:, None] - places_N[None]) / (BANDWIDTH * np.ptp(places_N))) ** 2)
    random = np.random.default_rng(0)
    counts_BN = random.multinomial(len(scores_N), np.full(len(scores_N), 1 / len(scores_N)), size=DRAWS)
    mean_G = _means(kernel_GN, np.ones((1, len(scores_N))), scores_N)[0]
    drawn_BG = _means(kernel_GN, counts_BN.astype(np.float64), scores_N)
    low_G, high_G = np.quantile(drawn_BG, [LOW, HIGH], axis=0)
    at_G = np.exp(grid_G) if is_log else grid_G
    return Curve(at_G.tolist(), mean_G.tolist(), low_G.tolist(), high_G.tolist())


def group_mean(scores: Sequence[float]) -> tuple[float, float, float]:
    """Mean of the scores of one choice, and where nine in ten resampled means lie."""
    scores_N = np.asarray(scores, dtype=np.float64)
    random = np.random.default_rng(0)
    means_B = scores_N[random.integers(len(scores_N), size=(DRAWS, len(scores_N)))].mean(axis=1)
    low, high = np.quantile(means_B, [LOW, HIGH])
    return float(scores_N.mean()), float(low), float(high)


def _means(kernel_GN: NDArray[np.float64], counts_BN: NDArray[np.float64], scores_N: NDArray[np.float64]) -> NDArray:
    weights_BG = counts_BN @ kernel_GN.T
    return (counts_BN * scores_N) @ kernel_GN.T / np.maximum(weights_BG, 1e-12)
