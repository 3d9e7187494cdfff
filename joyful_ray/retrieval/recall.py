"""How well one modality of an utterance finds another: recall and mean reciprocal rank, against chance.

Shapes: N = utterances that have both modalities, D = width of the shared space, C = conversations, S = statistics.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from joyful_ray.assess.bootstrap import intervals
from joyful_ray.records import RetrievalScores
from joyful_ray.retrieval.index import Vectors, unit
from joyful_ray.schema import Modality

DEPTHS = (1, 5, 10)
"""Recall is counted among so many first results."""
RECIPROCAL_RANK = "mean_reciprocal_rank"
BLOCK_CELLS = 2**24
TIE = 1e-6
"""Similarities that differ by less are equal: float32 products of equal vectors differ by so much."""


def score_retrieval(
    source_ND: Vectors, target_ND: Vectors, conversation_N: NDArray[np.int64], *, source: Modality, target: Modality
) -> RetrievalScores:
    """Let the source vector of each utterance search all target vectors for the one of the same utterance.

    Utterances without one of the two (NaN) are left out. Equal similarities are in random order: a measure is its
    expectation, so that vectors that are all alike score exactly as chance does.

    Args:
        source_ND, target_ND: vectors of the same utterances.
        conversation_N: number of each utterance's conversation; intervals are over conversations.
        source, target: their modalities.
    """
    has_both = ~(np.isnan(source_ND).any(axis=1) | np.isnan(target_ND).any(axis=1))
    statistics_NS = expected_hits(source_ND[has_both], target_ND[has_both])
    _, number_N = np.unique(conversation_N[has_both], return_inverse=True)
    count, conversations = len(statistics_NS), int(number_N.max(initial=-1)) + 1
    sums_CS = np.zeros((conversations, statistics_NS.shape[1] + 1))
    np.add.at(sums_CS, number_N, np.column_stack([statistics_NS, np.ones(count)]))
    names = [*(f"recall@{depth}" for depth in DEPTHS), RECIPROCAL_RANK]
    bounds = intervals(sums_CS, lambda sums: sums[..., :-1] / sums[..., -1:]) if count else []
    return RetrievalScores(
        source=source,
        target=target,
        utterances=count,
        values=dict(zip(names, statistics_NS.mean(axis=0).tolist(), strict=True)) if count else {},
        chance=dict(zip(names, by_chance(count), strict=True)) if count else {},
        intervals={name: bound for name, bound in zip(names, bounds, strict=False) if bound is not None},
    )


def by_chance(count: int) -> list[float]:
    """What a random order of so many candidates scores: recall at each depth, and mean reciprocal rank."""
    return [*(min(depth / count, 1.0) for depth in DEPTHS), float((1.0 / np.arange(1, count + 1)).mean())]


def expected_hits(source_ND: Vectors, target_ND: Vectors) -> NDArray[np.float64]:
    """For each query, the expected hit at each depth and the expected reciprocal rank, (N, S)."""
    queries_ND, targets_ND = unit(source_ND), unit(target_ND)
    count = len(queries_ND)
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, count + 1))])
    found = np.empty((count, len(DEPTHS) + 1))
    size = max(BLOCK_CELLS // max(count, 1), 1)
    for start in range(0, count, size):
        rows = np.arange(start, min(start + size, count))
        similarity = queries_ND[rows] @ targets_ND.T
        own = similarity[np.arange(len(rows)), rows][:, None]
        better = (similarity > own + TIE).sum(axis=1)
        equal = (np.abs(similarity - own) <= TIE).sum(axis=1)
        for place, depth in enumerate(DEPTHS):
            found[rows, place] = np.clip((depth - better) / equal, 0.0, 1.0)
        found[rows, -1] = (harmonic[better + equal] - harmonic[better]) / equal
    return found
