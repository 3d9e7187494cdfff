from __future__ import annotations

import pytest
import torch
from torch import nn

from joyful_ray.graph.edges import Graph, windowed_graph
from joyful_ray.model.encoder import LayeredEncoder, build_encoder, build_norm
from joyful_ray.model_settings import EncoderConfig
from tests.batches import random_batch

WIDTH, RELATIONS = 6, 4


def graph() -> Graph:
    batch = random_batch(4, 1, 3)
    return windowed_graph(batch.speakers_N, batch.layout, past=2, future=1)


@pytest.mark.parametrize(
    ("kind", "embedding", "output"),
    [("relational-transformer", 5, 15), ("gcn", 5, 5), ("relational-attention", 15, 15), ("none", WIDTH, WIDTH)],
)
def test_every_encoder_has_the_documented_widths(kind: str, embedding: int, output: int) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(WIDTH, EncoderConfig(kind=kind, width=5, heads=3), relations=RELATIONS)
    layers = encoder.embed(torch.randn(8, WIDTH), graph())
    assert [layer.shape for layer in layers] == [(8, embedding)]
    assert encoder.refine(layers[-1], graph()).shape == (8, output)
    assert encoder.width == output


@pytest.mark.parametrize("kind", ["relational-transformer", "gcn", "relational-attention"])
def test_embed_returns_the_output_of_every_layer(kind: str) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(WIDTH, EncoderConfig(kind=kind, width=5, layers=3), relations=RELATIONS)
    assert len(encoder.embed(torch.randn(8, WIDTH), graph())) == 3


def test_a_null_width_keeps_the_width_of_the_input() -> None:
    encoder = build_encoder(WIDTH, EncoderConfig(kind="gcn", width=None), relations=RELATIONS)
    assert encoder.width == WIDTH


def test_the_residual_adds_the_input_of_layers_of_equal_width() -> None:
    torch.manual_seed(0)
    config = EncoderConfig(kind="gcn", width=None, layers=2, normalisation="none")
    plain = LayeredEncoder(WIDTH, config, relations=RELATIONS)
    residual = LayeredEncoder(WIDTH, config.model_copy(update={"residual": True}), relations=RELATIONS)
    residual.load_state_dict(plain.state_dict())
    x_ND = torch.randn(8, WIDTH)
    torch.testing.assert_close(residual.embed(x_ND, graph())[0], plain.embed(x_ND, graph())[0] + x_ND)


@pytest.mark.parametrize("kind", ["relational-transformer", "gcn", "relational-attention"])
def test_without_edges_from_others_an_utterance_depends_only_on_itself(kind: str) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(WIDTH, EncoderConfig(kind=kind, width=5), relations=RELATIONS).eval()
    batch = random_batch(4)
    alone = windowed_graph(batch.speakers_N, batch.layout, past=0, future=0)
    x_ND = torch.randn(4, WIDTH)
    changed_ND = x_ND.clone()
    changed_ND[1:] += 1.0
    first, second = (encoder.refine(encoder.embed(x, alone)[-1], alone)[0] for x in (x_ND, changed_ND))
    torch.testing.assert_close(first, second)


def test_norms_are_torchs() -> None:
    assert isinstance(build_norm("layer", 3), nn.LayerNorm)
    assert isinstance(build_norm("batch", 3), nn.BatchNorm1d)
    assert isinstance(build_norm("none", 3), nn.Identity)
