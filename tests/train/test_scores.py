from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torchmetrics.functional as tm
from sklearn import metrics
from torch import Tensor

from joyful_ray.records import Scores
from joyful_ray.schema import Task
from joyful_ray.train.scores import THRESHOLDS, Tally

LABELS = ["neutral", "joy", "anger", "fear"]
COUNT = 300


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scored(task: Task, scores_NK: Tensor, labels: Tensor, *, cuts: tuple[int, ...] = (), **settings) -> Scores:
    """Scores from batches that end at `cuts`, added as ranks add them."""
    names = [] if task == "regression" else LABELS
    labeled = (
        labels >= 0 if task == "single-label" else ~(labels.isnan() if labels.dim() == 1 else labels.isnan().any(1))
    )
    total = Tally(task, names)
    borders = [0, *cuts, len(labels)]
    for start, stop in itertools.pairwise(borders):
        part = Tally(task, names)
        part.saw(scores_NK[start:stop], labels[start:stop], labeled[start:stop], float(stop - start))
        total.state += part.state
    return total.scores(**settings)


def single() -> tuple[Tensor, Tensor]:
    labels = torch.randint(3, (COUNT,), generator=draw())  # fear never occurs
    scores = torch.randn(COUNT, 4, generator=draw(1)) + 1.5 * torch.nn.functional.one_hot(labels, 4)
    labels[::11] = -1
    return scores, labels


def several() -> tuple[Tensor, Tensor]:
    labels = (torch.rand(COUNT, 4, generator=draw()) < torch.tensor([0.6, 0.3, 0.1, 0.02])).float()
    scores = torch.randn(COUNT, 4, generator=draw(1)) + 2 * labels - 1
    labels[::11] = torch.nan
    return scores, labels


def numbers() -> tuple[Tensor, Tensor]:
    labels = (2 * torch.randn(COUNT, generator=draw())).clamp(-3, 3)
    labels[::7] = 0.0
    scores = (labels + torch.randn(COUNT, generator=draw(1)))[:, None]
    labels[::11] = torch.nan
    return scores, labels


def test_single_label_scores_equal_scikit_learns() -> None:
    scores, labels = single()
    found = scored("single-label", scores, labels)
    known = labels >= 0
    truth, guess = labels[known].numpy(), scores[known].argmax(1).numpy()
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        truth, guess, labels=range(4), zero_division=0
    )
    assert found.values == pytest.approx(
        {
            "accuracy": metrics.accuracy_score(truth, guess),
            "weighted_f1": metrics.f1_score(truth, guess, average="weighted", labels=range(4), zero_division=0),
            "macro_f1": metrics.f1_score(truth, guess, average="macro", labels=range(4), zero_division=0),
        }
    )
    for k, name in enumerate(LABELS):
        assert list(found.per_label[name].values()) == pytest.approx([precision[k], recall[k], f1[k], support[k]])
    assert found.confusion == metrics.confusion_matrix(truth, guess, labels=range(4)).tolist()
    assert found.utterances == int(known.sum())
    assert found.selection == found.values["weighted_f1"]


def test_weighted_f1_equals_torchmetrics() -> None:
    scores, labels = single()
    expected = tm.f1_score(scores, labels, task="multiclass", num_classes=4, average="weighted", ignore_index=-1)
    assert scored("single-label", scores, labels).values["weighted_f1"] == pytest.approx(float(expected))


def test_a_small_confusion_matrix_by_hand() -> None:
    # three neutral, one of them predicted as joy; one joy, predicted correctly
    scores = torch.eye(4)[torch.tensor([0, 0, 1, 1])]
    found = scored("single-label", scores, torch.tensor([0, 0, 0, 1]))
    assert found.values["accuracy"] == 0.75
    assert found.per_label["neutral"]["f1"] == pytest.approx(0.8)
    assert found.per_label["joy"]["f1"] == pytest.approx(2 / 3)
    assert found.values["weighted_f1"] == pytest.approx((3 * 0.8 + 2 / 3) / 4)
    assert found.values["macro_f1"] == pytest.approx((0.8 + 2 / 3) / 4)


@pytest.mark.parametrize("threshold", [0.25, 0.5, 0.7])
def test_multi_label_scores_equal_scikit_learns_at_a_given_threshold(threshold: float) -> None:
    scores, labels = several()
    found = scored("multi-label", scores, labels, thresholds=dict.fromkeys(LABELS, threshold))
    known = ~labels.isnan().any(1)
    truth, guess = labels[known].numpy(), (scores[known].double().sigmoid() >= threshold).numpy()
    weighted = [metrics.f1_score(truth[:, k], guess[:, k], average="weighted", zero_division=0) for k in range(4)]
    accuracy = [metrics.accuracy_score(truth[:, k], guess[:, k]) for k in range(4)]
    f1 = [metrics.f1_score(truth[:, k], guess[:, k], zero_division=0) for k in range(4)]
    for k, name in enumerate(LABELS):
        per_label = found.per_label[name]
        assert (per_label["binary_weighted_f1"], per_label["accuracy"], per_label["f1"]) == pytest.approx(
            (weighted[k], accuracy[k], f1[k])
        )
        assert per_label["precision"] == pytest.approx(
            metrics.precision_score(truth[:, k], guess[:, k], zero_division=0)
        )
        assert per_label["recall"] == pytest.approx(metrics.recall_score(truth[:, k], guess[:, k], zero_division=0))
        assert per_label["support"] == truth[:, k].sum()
    assert found.values["binary_weighted_f1"] == pytest.approx(np.mean(weighted))
    assert found.values["accuracy"] == pytest.approx(np.mean(accuracy))
    assert found.values["macro_f1"] == pytest.approx(metrics.f1_score(truth, guess, average="macro", zero_division=0))
    assert found.values["weighted_f1"] == pytest.approx(
        metrics.f1_score(truth, guess, average="weighted", zero_division=0)
    )
    by_support = np.average(weighted, weights=truth.sum(axis=0))
    assert found.values["binary_weighted_f1_by_support"] == pytest.approx(by_support)
    assert found.selection == found.values["binary_weighted_f1"]


def test_the_threshold_tuned_on_dev_gives_the_best_weighted_f1_of_each_label() -> None:
    scores, labels = several()
    found = scored("multi-label", scores, labels)
    known = ~labels.isnan().any(1)
    for k, name in enumerate(LABELS):
        by_threshold = {
            t: metrics.f1_score(
                labels[known][:, k], scores[known][:, k].double().sigmoid() >= t, average="weighted", zero_division=0
            )
            for t in THRESHOLDS
        }
        best = max(by_threshold.values())
        chosen = found.per_label[name]["threshold"]
        assert by_threshold[chosen] == pytest.approx(best)
        nearer = [
            t for t, value in by_threshold.items() if np.isclose(value, best) and abs(t - 0.5) < abs(chosen - 0.5)
        ]
        assert not nearer, "of equal ones the nearest to one half"


def test_thresholds_that_were_tuned_are_used_again() -> None:
    scores, labels = several()
    dev = scored("multi-label", scores, labels)
    thresholds = {name: values["threshold"] for name, values in dev.per_label.items()}
    assert scored("multi-label", scores, labels, thresholds=thresholds) == dev


def test_regression_scores_follow_the_sentiment_literature() -> None:
    scores, labels = numbers()
    found = scored("regression", scores, labels)
    known = ~labels.isnan()
    truth, guess = labels[known].double().numpy(), scores[known, 0].double().numpy()
    nonzero = truth != 0
    assert found.values == pytest.approx(
        {
            "mae": metrics.mean_absolute_error(truth, guess),
            "correlation": np.corrcoef(truth, guess)[0, 1],
            "concordance": _concordance(truth, guess),
            "accuracy_7": np.mean(np.round(np.clip(guess, -3, 3)) == np.round(np.clip(truth, -3, 3))),
            "accuracy_2": metrics.accuracy_score(truth[nonzero] > 0, guess[nonzero] > 0),
            "accuracy_2_with_zero": metrics.accuracy_score(truth >= 0, guess >= 0),
            "f1_2": metrics.f1_score(truth[nonzero] > 0, guess[nonzero] > 0, average="weighted"),
        }
    )
    assert found.selection == -found.values["mae"]


def _concordance(truth: np.ndarray, guess: np.ndarray) -> float:
    """Lin 1989: the correlation times how near the scales and the means are."""
    scale = truth.std() / guess.std()
    offset = (truth.mean() - guess.mean()) / np.sqrt(truth.std() * guess.std())
    return float(np.corrcoef(truth, guess)[0, 1] * 2 / (scale + 1 / scale + offset**2))


@pytest.mark.parametrize("task", ["single-label", "multi-label", "regression"])
@pytest.mark.parametrize("cuts", [(1,), (100, 200), (0, 0, 299)])
def test_counts_of_batches_and_ranks_add_up(task: Task, cuts: tuple[int, ...]) -> None:
    scores, labels = {"single-label": single, "multi-label": several, "regression": numbers}[task]()
    whole, parts = scored(task, scores, labels), scored(task, scores, labels, cuts=cuts)
    assert parts.values == pytest.approx(whole.values, rel=1e-12)
    assert parts.confusion == whole.confusion
    assert parts.utterances == whole.utterances


@pytest.mark.parametrize("task", ["single-label", "multi-label", "regression"])
def test_no_utterances_score_zero(task: Task) -> None:
    found = Tally(task, [] if task == "regression" else LABELS).scores()
    assert found.utterances == 0
    assert all(np.isfinite(value) for value in found.values.values())


def test_a_constant_guess_has_no_correlation() -> None:
    assert scored("regression", torch.ones(4, 1), torch.randn(4)).values["correlation"] == 0.0
