"""Recall and mean reciprocal rank: those of torchmetrics, and chance where vectors say nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.retrieval import RetrievalHitRate, RetrievalMRR

from joyful_ray.records import RetrievalScores
from joyful_ray.retrieval.recall import DEPTHS, RECIPROCAL_RANK, by_chance, score_retrieval
from joyful_ray.retrieval.recall import unit as normalised

COUNT = 60


def vectors(count: int = COUNT, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(4)
    source = draw.normal(size=(count, 6)).astype(np.float32)
    return source, (source + noise * draw.normal(size=(count, 6))).astype(np.float32)


def conversations(count: int = COUNT) -> np.ndarray:
    return np.arange(count) // 5


def scored(source: np.ndarray, target: np.ndarray) -> RetrievalScores:
    return score_retrieval(source, target, conversations(len(source)), source="text", target="audio")


@pytest.mark.parametrize("noise", [0.3, 1.0, 5.0])
def test_measures_are_those_of_torchmetrics(noise: float) -> None:
    source, target = vectors(noise=noise)
    # torchmetrics takes candidates with negative similarities for irrelevant ones.
    similarity = 1.0 + torch.tensor(normalised(source) @ normalised(target).T).flatten()
    query, own = torch.arange(COUNT).repeat_interleave(COUNT), torch.eye(COUNT, dtype=torch.bool).flatten()
    found = scored(source, target).values
    for depth in DEPTHS:
        expected = RetrievalHitRate(top_k=depth)(similarity, own, indexes=query)
        assert found[f"recall@{depth}"] == pytest.approx(float(expected), abs=1e-6)
    assert found[RECIPROCAL_RANK] == pytest.approx(float(RetrievalMRR()(similarity, own, indexes=query)), abs=1e-6)


def test_vectors_that_are_all_alike_score_as_chance_does() -> None:
    scores = scored(np.ones((COUNT, 3), np.float32), np.ones((COUNT, 3), np.float32))
    assert scores.values == pytest.approx(scores.chance, abs=1e-12)


def test_chance_is_the_mean_over_random_orders() -> None:
    draw = np.random.default_rng(0)
    ranks = 1 + draw.integers(0, COUNT, 200_000)
    simulated = [*(float((ranks <= depth).mean()) for depth in DEPTHS), float((1 / ranks).mean())]
    assert by_chance(COUNT) == pytest.approx(simulated, abs=3e-3)
    assert by_chance(4)[1:3] == [1.0, 1.0]


def test_equal_candidates_share_their_ranks() -> None:
    source = np.eye(4, dtype=np.float32)
    target = source.copy()
    target[1] = target[0]  # the first two cannot be told apart
    scores = scored(source, target)
    # Query 0: two equal best ones. Query 1: similarity 0 with all, all four equal. Queries 2 and 3: found.
    assert scores.values["recall@1"] == pytest.approx((0.5 + 0.25 + 1 + 1) / 4)
    assert scores.values[RECIPROCAL_RANK] == pytest.approx((0.75 + (1 + 1 / 2 + 1 / 3 + 1 / 4) / 4 + 1 + 1) / 4)


def test_utterances_without_a_modality_are_left_out() -> None:
    source, target = vectors()
    source[[3, 8]], target[11] = np.nan, np.nan
    kept = np.setdiff1d(np.arange(COUNT), [3, 8, 11])
    whole, part = (
        scored(source, target),
        score_retrieval(source[kept], target[kept], conversations()[kept], source="text", target="audio"),
    )
    assert whole == part
    assert whole.utterances == COUNT - 3


def test_intervals_enclose_the_values_and_need_two_conversations() -> None:
    source, target = vectors()
    scores = scored(source, target)
    for name, value in scores.values.items():
        assert scores.intervals[name].low <= value <= scores.intervals[name].high
    alone = score_retrieval(source, target, np.zeros(COUNT, np.int64), source="text", target="audio")
    assert alone.values == scores.values
    assert alone.intervals == {}


def test_nothing_to_search_gives_no_values() -> None:
    empty = np.full((3, 2), np.nan, np.float32)
    scores = scored(empty, empty)
    assert (scores.utterances, scores.values, scores.chance) == (0, {}, {})
