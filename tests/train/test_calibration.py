from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

from joyful_ray.schema import Task
from joyful_ray.train.calibration import calibration_error, fit_temperature, reliability_counts

DRAW = torch.Generator().manual_seed(0)
SCORES = 3 * torch.randn(400, 5, generator=DRAW)
TRUTH = torch.where(torch.rand(400, generator=DRAW) < 0.5, SCORES.argmax(1), torch.randint(5, (400,), generator=DRAW))
INDICATORS = (torch.sigmoid(SCORES / 2) > torch.rand(400, 5, generator=DRAW)).float()


def loss(temperature: float, task: Task) -> float:
    if task == "single-label":
        return float(torch.nn.functional.cross_entropy(SCORES.double() / temperature, TRUTH))
    scaled = SCORES.double() / temperature
    return float(torch.nn.functional.binary_cross_entropy_with_logits(scaled, INDICATORS.double()))


@pytest.mark.parametrize(("task", "truth"), [("single-label", TRUTH), ("multi-label", INDICATORS)])
def test_the_temperature_has_the_smallest_loss_of_a_fine_grid(task: Task, truth: torch.Tensor) -> None:
    found = fit_temperature(SCORES, truth, task=task)
    assert found is not None
    grid = np.exp(np.linspace(math.log(0.05), math.log(20), 4001))
    best = min(grid, key=lambda temperature: loss(float(temperature), task))
    assert found == pytest.approx(best, rel=0.002)
    assert loss(found, task) <= loss(float(best), task) + 1e-12


@pytest.mark.parametrize("task", ["single-label", "multi-label"])
@pytest.mark.parametrize("first_share", [0, 10])
def test_several_ranks_find_the_temperature_of_one(task: Task, first_share: int) -> None:
    truth = TRUTH if task == "single-label" else INDICATORS
    both, sums = threading.Barrier(2), [torch.zeros(0), torch.zeros(0)]

    def on_rank(rank: int) -> float | None:
        def add(values: torch.Tensor) -> torch.Tensor:
            sums[rank] = values.clone()
            both.wait(timeout=30)
            total = sums[0] + sums[1]
            both.wait(timeout=30)
            return total

        mine = slice(0, first_share) if rank == 0 else slice(first_share, None)
        known = truth[mine] if len(SCORES[mine]) else torch.zeros(0)
        return fit_temperature(SCORES[mine], known, task=task, add=add)

    with ThreadPoolExecutor(2) as ranks:
        first, second = ranks.map(on_rank, range(2))
    assert first == second == pytest.approx(fit_temperature(SCORES, truth, task=task), rel=1e-9)


def test_perfect_scores_get_the_lowest_temperature_and_no_scores_get_none() -> None:
    scores = torch.tensor([[5.0, 0.0], [0.0, 5.0]])
    assert fit_temperature(scores, torch.tensor([0, 1]), task="single-label") == pytest.approx(0.05)
    assert fit_temperature(scores, torch.tensor([1, 0]), task="single-label") == pytest.approx(20.0)
    assert fit_temperature(scores[:0], torch.zeros(0), task="single-label") is None
    assert fit_temperature(scores[:, :1], torch.zeros(2), task="regression") is None


def test_the_calibration_error_equals_torchmetrics() -> None:
    probability = torch.softmax(SCORES.double(), 1)
    confidence, best = probability.max(1)
    owners = np.arange(400) % 7
    counts = reliability_counts(confidence.numpy(), (best == TRUTH).numpy(), owners, 7)
    oracle = multiclass_calibration_error(probability, TRUTH, num_classes=5, n_bins=15, norm="l1")
    assert float(calibration_error(counts.sum(axis=0))) == pytest.approx(float(oracle), abs=1e-6)

    flat = torch.sigmoid(SCORES.double()).reshape(-1)
    counts = reliability_counts(flat.numpy(), INDICATORS.bool().reshape(-1).numpy(), np.zeros(2000, np.int64), 1)
    oracle = binary_calibration_error(flat, INDICATORS.long().reshape(-1), n_bins=15, norm="l1")
    assert float(calibration_error(counts.sum(axis=0))) == pytest.approx(float(oracle), abs=1e-6)


def test_the_calibration_error_of_three_predictions_by_hand() -> None:
    counts = reliability_counts(
        np.array([0.9, 0.9, 0.5, 1.0]), np.array([True, False, True, True]), np.zeros(4, int), 1
    )
    # 0.9 twice and right once: a gap of 0.8; 0.5 once and right: a gap of 0.5; 1.0 and right: no gap
    assert float(calibration_error(counts[0])) == pytest.approx((0.8 + 0.5) / 4)
    assert math.isnan(calibration_error(np.zeros(45)))
