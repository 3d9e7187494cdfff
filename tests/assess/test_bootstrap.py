from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from joyful_ray.assess.bootstrap import intervals, resampled
from joyful_ray.assess.labeled_predictions import MEASURES, LabeledPredictions
from joyful_ray.train.scores import Tally, binary_weighted_f1

LABELS = ("a", "b", "c")


def judgement(count: int = 200) -> tuple[LabeledPredictions, np.ndarray]:
    """A judgement of utterances in 20 conversations, a few of them predicted elsewhere."""
    draw = np.random.default_rng(0)
    truth = draw.integers(0, 3, count)
    predicted = np.where(draw.random(count) < 0.6, truth, draw.integers(-1, 3, count))
    return LabeledPredictions("single-label", LABELS, truth, predicted, None, np.arange(count)), draw.integers(
        0, 20, count
    )


def test_measures_of_all_cells_are_those_of_scikit_learn() -> None:
    found, owner = judgement()
    measures = found.measures(found.counts(owner, 20).sum(axis=0))
    names = [0, 1, 2]
    assert measures[0] == pytest.approx(f1_score(found.truth, found.predicted, labels=names, average="weighted"))
    assert measures[1] == pytest.approx(accuracy_score(found.truth, found.predicted))
    assert measures[2] == pytest.approx(f1_score(found.truth, found.predicted, labels=names, average="macro"))
    scores = found.scores(loss=0.0)
    assert [scores.values[name] for name in ("weighted_f1", "accuracy", "macro_f1")] == pytest.approx(measures.tolist())


def test_a_resampling_is_what_repeating_whole_conversations_gives() -> None:
    found, owner = judgement()
    values = resampled(found.counts(owner, 20), found.measures, seed=3, resamplings=5)
    times = np.random.default_rng(3).multinomial(20, np.full(20, 0.05), size=5)
    for row, counts in zip(values, times, strict=True):
        chosen = np.concatenate([np.flatnonzero(owner == c) for c, often in enumerate(counts) for _ in range(often)])
        truth, predicted = found.truth[chosen], found.predicted[chosen]
        assert row[0] == pytest.approx(f1_score(truth, predicted, labels=[0, 1, 2], average="weighted"))
        assert row[1] == pytest.approx(accuracy_score(truth, predicted))


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution() -> None:
    draw = np.random.default_rng(1)
    values = draw.normal(size=400)
    counts = np.stack([np.ones(400), values], axis=1)
    (found,) = intervals(counts, lambda cells: (cells[..., 1] / cells[..., 0])[..., None])
    assert found is not None
    half = 1.96 * values.std() / 20
    assert found.low == pytest.approx(values.mean() - half, abs=0.015)
    assert found.high == pytest.approx(values.mean() + half, abs=0.015)


def test_utterances_of_one_conversation_stay_together() -> None:
    # All of a conversation is right or wrong: the interval is that of 20 draws, not of 2,000.
    truth = np.zeros(2000, np.int64)
    owner = np.repeat(np.arange(20), 100)
    one = LabeledPredictions("single-label", ("a", "b"), truth, np.where(owner < 10, 0, 1), None, np.arange(2000))
    found = intervals(one.counts(owner, 20), one.measures)[1]
    assert found is not None
    assert found.high - found.low > 0.35


def test_one_conversation_has_no_interval_and_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found, owner = judgement()
    assert intervals(found.counts(np.zeros_like(owner), 1), found.measures) == [None, None, None]
    whole = resampled(found.counts(owner, 20), found.measures)
    monkeypatch.setattr("joyful_ray.assess.bootstrap.MAX_CELLS", 100)
    assert np.array_equal(resampled(found.counts(owner, 20), found.measures), whole)


def test_multi_label_measures_are_the_means_over_labels_of_scores() -> None:
    draw = np.random.default_rng(2)
    truth, predicted = draw.random((150, 3)) < 0.3, draw.random((150, 3)) < 0.4
    found = LabeledPredictions("multi-label", LABELS, truth, predicted, None, np.arange(150))
    owner = draw.integers(0, 9, 150)
    measures = found.measures(found.counts(owner, 9).sum(axis=0))
    weighted = [f1_score(truth[:, k], predicted[:, k], average="weighted") for k in range(3)]
    assert measures[0] == pytest.approx(np.mean(weighted))
    assert measures[1] == pytest.approx(f1_score(truth, predicted, average="weighted"))
    assert measures[2] == pytest.approx((truth == predicted).mean())
    assert measures[3] == pytest.approx(f1_score(truth, predicted, average="macro"))
    values = found.scores(loss=0.0).values
    assert [values[name] for name in MEASURES["multi-label"]] == pytest.approx(measures.tolist())


def test_regression_is_measured_by_the_mean_absolute_error() -> None:
    found = LabeledPredictions(
        "regression", (), np.array([1.0, 2.0, 3.0]), np.array([1.5, 2.0, 1.0]), None, np.arange(3)
    )
    assert found.counts(np.array([0, 0, 1]), 2).tolist() == [[2.0, 0.5], [1.0, 2.0]]
    assert found.measures(np.array([3.0, 2.5]))[0] == pytest.approx(2.5 / 3)
    assert np.isnan(found.measures(np.zeros(2))[0])


def test_the_cells_of_multi_label_are_in_the_order_of_the_tally() -> None:
    found = LabeledPredictions(
        "multi-label",
        ("a",),
        np.array([[True], [False], [True], [False], [False]]),
        np.array([[True], [True], [False], [False], [False]]),
        None,
        np.arange(5),
    )
    cells = found.counts(np.zeros(5, np.int64), 1)[0]
    assert cells.tolist() == [1.0, 1.0, 1.0, 2.0]
    assert binary_weighted_f1(cells)[()] == pytest.approx(found.measures(cells)[0])
    assert Tally("multi-label", ["a"]).state.numel() == 2 + 19 * 4
