"""Bootstrap intervals over conversations; utterances of one conversation are not independent, so they stay together.

Shapes: C = conversations, S = counts per conversation, M = measures, R = resamplings.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from joyful_ray.records import Interval

RESAMPLINGS = 1000
LEVEL = 0.95
MAX_CELLS = 2**22

Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Maps the summed counts of a set of conversations (…, S) to measures (…, M); NaN if a measure is undefined."""


def resampled(
    counts_CS: NDArray[np.float64], statistic: Statistic, *, seed: int = 0, resamplings: int = RESAMPLINGS
) -> NDArray[np.float64]:
    """Compute the measures of resampled sets of C conversations, drawn with replacement.

    Args:
        counts_CS: counts of each conversation, such as its part of the confusion table.
        statistic: computes the measures from summed counts.
        seed: seed of the random draws.
        resamplings: number of sets, R.

    Returns:
        Measures (R, M).

    Source: Efron and Tibshirani 1993, chapter 8 (resampling of clusters).
    """
    generator = np.random.default_rng(seed)
    conversations = len(counts_CS)
    uniform = np.full(conversations, 1.0 / conversations)
    parts, remaining = [], resamplings
    while remaining:
        size = min(remaining, max(MAX_CELLS // conversations, 1))
        draws = generator.multinomial(conversations, uniform, size=size).astype(np.float64)
        parts.append(statistic(draws @ counts_CS))
        remaining -= size
    return np.concatenate(parts)


def intervals(counts_CS: NDArray[np.float64], statistic: Statistic, *, seed: int = 0) -> list[Interval | None]:
    """Return the percentile interval of each measure, or None with fewer than two conversations."""
    if len(counts_CS) < 2:
        return [None] * len(statistic(counts_CS.sum(axis=0)))
    values_RM = resampled(counts_CS, statistic, seed=seed)
    tail = 100 * (1 - LEVEL) / 2
    found: list[Interval | None] = []
    for values_R in values_RM.T:
        known = values_R[~np.isnan(values_R)]
        bounds = np.percentile(known, [tail, 100 - tail]) if len(known) else None
        found.append(None if bounds is None else Interval(low=float(bounds[0]), high=float(bounds[1])))
    return found
