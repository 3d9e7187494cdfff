"""Losses for numbers: closed values, torchmetrics and PyTorch as oracles, and a test that each setting matters."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor
from torchmetrics.regression import ConcordanceCorrCoef

from joyful_ray.corpora.shards import open_corpus
from joyful_ray.data.loader import ResidentLoader
from joyful_ray.data.prepare import prepare_here
from joyful_ray.errors import ConfigError
from joyful_ray.objective.joint import JointObjective
from joyful_ray.objective.regression import LabelWeights, discordance, ordinal
from joyful_ray.schema import LABEL_BIN
from joyful_ray.settings import ObjectiveConfig
from joyful_ray.train.build import build_model, build_objective
from tests.batches import random_batch
from tests.objective.test_joint import output_for
from tests.tiny_corpus import small_job
from tests.train.conftest import tiny

__all__ = ["tiny"]

SEVEN = [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5]


def numbers(count: int = 40, noise: float = 0.7) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(2)
    targets = 1.5 * torch.randn(count, generator=draw)
    return targets + noise * torch.randn(count, generator=draw), targets


def test_a_score_on_the_only_border_costs_log_two() -> None:
    found = ordinal(torch.full((3,), 0.5), torch.tensor([-1.0, 0.6, 3.0]), [0.5], scale=0.2)
    assert found.tolist() == pytest.approx([math.log(2)] * 3)


def test_a_score_amid_the_right_bin_costs_nothing_at_a_small_scale() -> None:
    middles = torch.tensor([-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0])
    assert float(ordinal(middles, middles, SEVEN, scale=0.02).max()) < 1e-6
    assert float(ordinal(middles + 1.0, middles, SEVEN, scale=0.02)[:-1].min()) > 1.0


def test_borders_are_those_of_the_bins_by_hand() -> None:
    score, target, scale = 0.3, 1.0, 0.5
    above = [target > border for border in SEVEN]
    chance = [1 / (1 + math.exp(-(score - border) / scale)) for border in SEVEN]
    expected = -sum(math.log(p if up else 1 - p) for up, p in zip(above, chance, strict=True)) / len(SEVEN)
    assert float(ordinal(torch.tensor([score]), torch.tensor([target]), SEVEN, scale=scale)) == pytest.approx(expected)


def test_unlabeled_utterances_cost_nothing() -> None:
    scores, targets = numbers()
    targets[::3] = torch.nan
    assert (ordinal(scores, targets, SEVEN, scale=0.5)[::3] == 0).all()
    kept = ~torch.isnan(targets)
    torch.testing.assert_close(discordance(scores, targets), discordance(scores[kept], targets[kept]))


@pytest.mark.parametrize("noise", [0.1, 0.7, 3.0])
def test_discordance_is_one_minus_the_concordance_of_torchmetrics(noise: float) -> None:
    scores, targets = numbers(4000, noise)
    expected = 1.0 - float(ConcordanceCorrCoef()(scores, targets))
    assert float(discordance(scores, targets)) == pytest.approx(expected, abs=1e-3)


def test_discordance_has_its_closed_values() -> None:
    targets = torch.tensor([-1.0, 0.0, 2.0])
    assert float(discordance(targets, targets)) == pytest.approx(0.0, abs=1e-6)
    centred = targets - targets.mean()
    assert float(discordance(-centred, centred)) == pytest.approx(2.0)
    assert float(discordance(torch.zeros(3), targets)) == pytest.approx(1.0)
    assert float(discordance(torch.ones(3), torch.ones(3))) == 1.0
    shift = 2.0  # Lin: 2 v / (2 v + shift^2)
    variance = float(centred.square().mean())
    assert float(discordance(targets + shift, targets)) == pytest.approx(1 - 2 * variance / (2 * variance + shift**2))


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_utterances_give_no_gradient(count: int) -> None:
    scores = torch.ones(count, requires_grad=True)
    loss = discordance(scores, torch.ones(count))
    loss.backward()
    assert loss.item() == 0.0
    assert (scores.grad == 0).all()


def test_weights_are_the_inverse_of_the_smoothed_histogram() -> None:
    draw = np.random.default_rng(0)
    labels = np.round(draw.normal(0.0, 1.0, 3000), 1)
    histogram = Counter(np.round(labels / LABEL_BIN).astype(int).tolist())
    weights = LabelWeights(histogram, power=0.5, bandwidth=0.4)
    low, high = min(histogram), max(histogram)
    counts = np.array([histogram[place] for place in range(low, high + 1)], float)
    density = gaussian_filter1d(counts, 0.4 / LABEL_BIN, mode="constant", truncate=20.0)
    raw = density**-0.5
    expected = raw * counts.sum() / (raw * counts).sum()
    np.testing.assert_allclose(weights.weight_B.numpy(), expected, rtol=1e-4)
    assert float(weights(torch.from_numpy(labels)).mean()) == pytest.approx(1.0, abs=1e-5)


def test_rare_labels_weigh_more_and_power_zero_weighs_all_alike() -> None:
    histogram = {0: 900, 10: 90, 20: 10}
    rare = LabelWeights(histogram, power=1.0, bandwidth=0.1)(torch.tensor([0.0, 1.0, 2.0, 5.0, -5.0, torch.nan]))
    assert rare[0] < rare[1] < rare[2]
    assert rare[1] / rare[0] == pytest.approx(10.0, rel=1e-3)
    assert (rare[3], rare[4], rare[5]) == (rare[2], rare[0], 0.0)
    assert (LabelWeights(histogram, power=0.0, bandwidth=0.1).weight_B == 1.0).all()


def test_terms_are_their_functions_divided_by_the_labeled_utterances() -> None:
    batch = random_batch(5, 4, task="regression", unlabeled=0.3)
    output = output_for(batch, "regression")
    histogram = {-10: 5, 0: 80, 10: 9}
    made = JointObjective(
        ObjectiveConfig(ordinal_weight=0.5, correlation_weight=0.7),
        task="regression",
        label_weights=LabelWeights(histogram, power=1.0, bandwidth=0.5),
    )
    sums, counts = made.sums(output, batch), made.counts(batch)
    scores, labeled = output.scores_NK.squeeze(1), int(batch.labeled_N.sum())
    weights = LabelWeights(histogram, power=1.0, bandwidth=0.5)(batch.labels)
    plain = JointObjective.plain_loss(output.scores_NK, batch.labels, "regression")
    assert (int(counts["ordinal"]), int(counts["correlation"])) == (labeled, labeled)
    torch.testing.assert_close(counts["classification"], weights.sum())
    torch.testing.assert_close(sums["classification"], (plain * weights).sum())
    torch.testing.assert_close(sums["ordinal"], ordinal(scores, batch.labels, SEVEN, scale=0.5).sum())
    torch.testing.assert_close(sums["correlation"] / labeled, discordance(scores, batch.labels))
    assert (made.weights["ordinal"], made.weights["correlation"]) == (0.5, 0.7)


@pytest.fixture(scope="module")
def total(tiny: Callable[..., str]) -> Callable[..., float]:
    """The loss of the untrained model on the training split."""

    def of(**objective: Any) -> float:
        job = small_job(objective=objective)
        corpus_info, stores = prepare_here(open_corpus(tiny("regression")), job)
        model, made = build_model(job, corpus_info).eval(), build_objective(job, corpus_info)
        batch = next(iter(ResidentLoader.of(job, stores["train"]).once(rank=0, world_size=1)))
        with torch.no_grad():
            return float(made.total(made.sums(model(batch), batch), made.counts(batch)))

    return of


@pytest.mark.parametrize(
    ("switch", "beside"),
    [
        ({"ordinal_weight": 0.5}, {}),
        ({"correlation_weight": 0.5}, {}),
        ({"density_weighting": 1.0}, {}),
        ({"ordinal_thresholds": [0.0]}, {"ordinal_weight": 0.5}),
        ({"ordinal_scale": 1.0}, {"ordinal_weight": 0.5}),
        ({"density_bandwidth": 0.1}, {"density_weighting": 1.0}),
    ],
)
def test_every_setting_changes_the_loss(
    switch: dict[str, Any], beside: dict[str, Any], total: Callable[..., float]
) -> None:
    assert total(**beside, **switch) != total(**beside)


@pytest.mark.parametrize("name", ["ordinal_weight", "correlation_weight", "density_weighting"])
def test_settings_for_numbers_are_refused_for_labels(name: str, tiny: Callable[..., str]) -> None:
    with pytest.raises(ConfigError, match=f"objective.{name} is for numbers, and the corpus is single-label"):
        prepare_here(open_corpus(tiny()), small_job(objective={name: 0.5}))


def test_borders_ascend() -> None:
    with pytest.raises(ConfigError, match="in ascending order"):
        small_job(objective={"ordinal_thresholds": [1.0, 0.0]})
