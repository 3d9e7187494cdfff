"""Bootstrap intervals over conversations: utterances of one conversation depend on each other, so they stay together.

Shapes: C = conversations, S = cells that add up, M = measures, R = resamplings.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from joyful_ray.records import Interval

RESAMPLINGS = 1000
LEVEL = 0.95
CELLS_AT_ONCE = 2**22

Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Cells of whole sets of conversations (…, S) -> measures (…, M); NaN where there is none."""


def resampled(
    counts_CS: NDArray[np.float64], statistic: Statistic, *, seed: int = 0, resamplings: int = RESAMPLINGS
) -> NDArray[np.float64]:
    """The measures of sets of C conversations drawn with replacement, (R, M).

    Args:
        counts_CS: cells of each conversation, such as its part of the confusion table.

    Source: Efron and Tibshirani 1993, chapter 8 (resampling of clusters).
    """
    draws = np.random.default_rng(seed)
    conversations = len(counts_CS)
    even = np.full(conversations, 1.0 / conversations)
    parts, left = [], resamplings
    while left:
        now = min(left, max(CELLS_AT_ONCE // conversations, 1))
        times = draws.multinomial(conversations, even, size=now).astype(np.float64)
        parts.append(statistic(times @ counts_CS))
        left -= now
    return np.concatenate(parts)


def intervals(counts_CS: NDArray[np.float64], statistic: Statistic, *, seed: int = 0) -> list[Interval | None]:
    """The percentile interval of each measure; None where there are fewer than two conversations."""
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
