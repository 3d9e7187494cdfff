"""What two-phase training does to the fused vectors: trained targets collapse, given ones cannot."""

from __future__ import annotations

import pytest
import torch

from joyful_ray.data.batch import Batch
from joyful_ray.graph_settings import AugmentConfig, GraphConfig
from joyful_ray.model.joyful import Joyful
from joyful_ray.model.pretraining import FusionTarget
from joyful_ray.model_settings import ModelConfig
from joyful_ray.objective.joint import FUSION_TERMS, PRETRAINING, JointObjective
from joyful_ray.settings import ObjectiveConfig
from joyful_ray.train.diagnostics import COLLAPSED_SPREAD, spread
from tests.batches import WIDTHS, random_batch
from tests.tiny_corpus import SMALL

STEPS = 300


def spread_after(target: FusionTarget, *, detach_targets: bool = False) -> tuple[float, float]:
    """Spread of the contextual vectors before and after the first stage alone."""
    torch.manual_seed(0)
    model = Joyful(
        ModelConfig.model_validate(SMALL["model"]),
        GraphConfig(),
        AugmentConfig(),
        widths=WIDTHS,
        classes=3,
        fusion_target=target,
    ).train()
    objective = JointObjective(
        ObjectiveConfig(fusion_weight=1.0, detach_targets=detach_targets),
        task="single-label",
        weight_K=[1.0] * 3,
        has_pretraining=target != "terms",
    ).only(FUSION_TERMS if target == "terms" else (PRETRAINING,))
    batches = [random_batch(12, 9, 15, seed=seed) for seed in range(8)]
    before = _spread(model, batches[0])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(STEPS):
        batch = batches[step % len(batches)]
        optimizer.zero_grad()
        objective.total(objective.sums(model(batch), batch), objective.counts(batch)).backward()
        optimizer.step()
    return before, _spread(model, batches[0])


@torch.no_grad()
def _spread(model: Joyful, batch: Batch) -> float:
    contextual = model.fusion(model.features(batch), batch.layout).contextual_NG
    return float(spread(contextual))


def test_trained_targets_let_the_contextual_vectors_collapse() -> None:
    before, after = spread_after("terms")
    assert before > 0.5
    assert after < COLLAPSED_SPREAD


@pytest.mark.parametrize("target", ["inputs", "labels"])
def test_given_targets_do_not(target: FusionTarget) -> None:
    before, after = spread_after(target)
    assert after > 0.5 * before
