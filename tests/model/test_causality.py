"""With `model.causal`, no change of later utterances changes an earlier one, in evaluation and in training."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch

from joyful_ray.config import resolve
from joyful_ray.data.batch import Batch
from joyful_ray.errors import ConfigError
from joyful_ray.graph_settings import AugmentConfig, GraphConfig, ViewConfig
from joyful_ray.model.joyful import Joyful, Output
from tests.batches import random_batch
from tests.model.test_joyful import CONTEXTS, ENCODERS, FUSIONS, model

KNOWN, LATER = 12, 8
SPEAKERS = ["none", "flag", "party-state"]
PERTURBED = AugmentConfig(
    first_view=ViewConfig(feature_ratio=0.2, edge_ratio=0.4),
    second_view=ViewConfig(feature_ratio=0.2, feature_mask="element", proximity_ratio=0.4),
)
REWIRED = AugmentConfig(
    first_view=ViewConfig(edge_ratio=0.4, edge_mode="rewire"),
    second_view=ViewConfig(edge_ratio=0.4, edge_mode="rewire", proximity_ratio=0.2),
    shared_edge_noise=True,
)
BY_VIEWS = PERTURBED.model_copy(update={"classify": "views"})


def with_another_future(batch: Batch) -> Batch:
    """The same batch, with other features and speakers from utterance 13 of its first conversation on."""
    later = slice(KNOWN, KNOWN + LATER)
    features = {}
    for name, values in batch.features.items():
        changed = values.clone()
        changed[later] = 3.0 * torch.randn(changed[later].shape, generator=torch.Generator().manual_seed(5))
        features[name] = changed
    speakers = batch.speakers_N.clone()
    speakers[later] = 1 - speakers[later]
    return replace(batch, features=features, speakers_N=speakers)


@torch.no_grad()
def outputs(net: Joyful, batch: Batch, *, training: bool) -> list[torch.Tensor]:
    net.train(training)
    output: Output = net(batch, with_views=training)
    known = [output.scores_NK[:KNOWN]]
    if training and output.views is not None:
        known += [view[:KNOWN] for view in output.views]
        known += [output.second_scores_NK[:KNOWN]] if output.second_scores_NK is not None else []
    return known


def difference(net: Joyful, *, training: bool) -> float:
    batch = random_batch(KNOWN + LATER, 3, 9)
    one, other = (outputs(net, each, training=training) for each in (batch, with_another_future(batch)))
    return max(float((left - right).abs().max()) for left, right in zip(one, other, strict=True))


def causal(**settings: Any) -> Joyful:
    return model(causal=True, graph=GraphConfig(window_past=4, window_future=3), **settings)


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize(("fusion", "context", "encoder"), product(FUSIONS, CONTEXTS, ENCODERS))
def test_scores_do_not_depend_on_the_future(fusion: str, context: str, encoder: str, training: bool) -> None:
    net = causal(
        fusion=FUSIONS[fusion],
        context={"kind": context, "layers": 2},
        encoder={"kind": encoder, "layers": 2, "dropout": 0.2, "normalisation": "layer"},
        augment=PERTURBED,
    )
    assert difference(net, training=training) < 1e-5


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("speakers", SPEAKERS)
@pytest.mark.parametrize("augment", [PERTURBED, REWIRED, BY_VIEWS], ids=["perturbed", "rewired", "views"])
@pytest.mark.parametrize("context", ["gru", "transformer"])
def test_nor_by_speakers_augmentations_or_padding(
    context: str, augment: AugmentConfig, speakers: str, training: bool
) -> None:
    net = causal(
        context={"kind": context, "speakers": speakers, "padding_mask": False},
        encoder={"kind": "relational-attention", "normalisation": "layer"},
        augment=augment,
    )
    net.has_second_pass = True
    assert difference(net, training=training) < 1e-5


@pytest.mark.parametrize(
    "settings",
    [
        {"fusion": {"kind": "concatenation"}, "context": {"kind": "gru"}},
        {"fusion": {"kind": "concatenation"}, "context": {"kind": "transformer"}},
        {"fusion": {"kind": "dual-branch"}, "context": {"kind": "identity"}},
        {"fusion": {"kind": "concatenation"}, "context": {"kind": "identity", "speakers": "party-state"}},
    ],
)
def test_a_window_without_future_alone_is_not_enough(settings: dict[str, Any]) -> None:
    net = model(graph=GraphConfig(window_past=4, window_future=0), **settings)
    assert difference(net, training=False) > 1e-4


def test_a_causal_model_sees_the_past() -> None:
    batch = random_batch(6)
    net = causal(context={"kind": "gru"}).eval()
    changed = {name: torch.cat([values[:1] + 1.0, values[1:]]) for name, values in batch.features.items()}
    moved = (net(batch).scores_NK - net(replace(batch, features=changed)).scores_NK).abs().amax(dim=1)
    assert (moved > 1e-6).all()


@pytest.mark.parametrize("normalise", ["speaker", "both"])
def test_scaling_by_a_speakers_later_utterances_is_refused(normalise: str) -> None:
    with pytest.raises(ConfigError, match="looks at a speaker's later utterances"):
        resolve({"data": {"normalise": normalise}, "model": {"causal": True}})
