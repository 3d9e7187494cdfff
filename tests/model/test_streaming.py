"""Utterance by utterance, a causal model gives what it gives for the whole conversation."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch

from joyful_ray.data.batch import Batch
from joyful_ray.graph_settings import AugmentConfig, GraphConfig
from joyful_ray.model.joyful import Joyful
from joyful_ray.model.streaming import ConversationState
from tests.batches import random_batch
from tests.model.test_joyful import CONTEXTS, ENCODERS, FUSIONS, model


def utterances(batch: Batch) -> list[Batch]:
    return [
        Batch(
            features={name: values[place : place + 1] for name, values in batch.features.items()},
            present={name: values[place : place + 1] for name, values in batch.present.items()},
            speakers_N=batch.speakers_N[place : place + 1],
            lengths_C=torch.tensor([1]),
            labels=batch.labels[place : place + 1],
        )
        for place in range(batch.utterances)
    ]


@torch.inference_mode()
def difference(net: Joyful, batch: Batch) -> float:
    """The largest difference, as a share of the largest number; in fp64, because fp32 alone rounds by about 1e-6."""
    net.double().eval()
    batch = replace(batch, features={name: values.double() for name, values in batch.features.items()})
    state = ConversationState(net)
    one_by_one = [state.add(utterance) for utterance in utterances(batch)]
    output = net(batch)
    pairs = (
        (torch.cat([scores for scores, _ in one_by_one]), output.scores_NK),
        (torch.cat([embedding for _, embedding in one_by_one]), output.layers[-1]),
    )
    return max(float((left - right).abs().max() / right.abs().max()) for left, right in pairs)


@pytest.mark.parametrize(("fusion", "context", "encoder"), product(FUSIONS, CONTEXTS, ENCODERS))
def test_one_by_one_is_all_at_once(fusion: str, context: str, encoder: str) -> None:
    net = model(
        causal=True,
        graph=GraphConfig(window_past=3, window_future=2),
        fusion=FUSIONS[fusion],
        context={"kind": context, "layers": 2},
        encoder={"kind": encoder, "layers": 3, "residual": True},
    )
    assert difference(net, random_batch(17, absent_vectors=0.2)) < 1e-9


@pytest.mark.parametrize(
    "settings",
    [
        {"graph": GraphConfig(window_past=None, window_future=0)},
        {"graph": GraphConfig(window_past=0, window_future=0)},
        {"graph": GraphConfig(window_past=2, relations="speaker-pairs"), "speakers": 3},
        {"context": {"kind": "gru", "speakers": "flag"}},
        {"context": {"kind": "gru", "speakers": "party-state"}, "classifier": {"skip_graph": True}},
        {"encoder": {"kind": "relational-transformer", "normalisation": "batch"}},
        {"augment": AugmentConfig(classify="views"), "encoder": {"kind": "gcn"}},
        {"encoder": {"kind": "relational-attention", "operators": "pyg"}},
    ],
)
def test_whatever_the_settings(settings: dict[str, Any]) -> None:
    assert difference(model(causal=True, **settings), random_batch(20, speakers=3)) < 1e-9


def test_two_conversations_do_not_touch_each_other() -> None:
    net = model(causal=True, context={"kind": "gru"}).eval()
    first, second = random_batch(6), random_batch(6, seed=1)
    alone, one, other = ConversationState(net), ConversationState(net), ConversationState(net)
    for left, right in zip(utterances(first), utterances(second), strict=True):
        expected = alone.add(left)[0]
        found = one.add(left)[0]
        other.add(right)
        assert torch.equal(found, expected)


class Alone(torch.nn.Module):
    """A part of the user: one that has no method `step`."""

    def __init__(self, part: torch.nn.Module) -> None:
        super().__init__()
        self.part, self.width = part, part.width

    def forward(self, *inputs: Any) -> Any:
        return self.part(*inputs)

    def embed(self, *inputs: Any) -> Any:
        return self.part.embed(*inputs)

    def refine(self, *inputs: Any) -> Any:
        return self.part.refine(*inputs)


@pytest.mark.parametrize("parts", [["fusion"], ["context"], ["encoder"], ["fusion", "context", "encoder"]])
def test_a_part_of_ones_own_runs_again_over_what_came_before(parts: list[str]) -> None:
    net = model(causal=True, context={"kind": "transformer"}, encoder={"kind": "relational-attention", "layers": 2})
    for name in parts:
        setattr(net, name, Alone(getattr(net, name)))
    assert difference(net, random_batch(15)) < 1e-9
