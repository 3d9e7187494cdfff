"""Recurrent networks over packed sequences of any lengths.

Shapes: N = elements of all sequences, D = input width, H = output width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from joyful_ray.data.batch import Layout
from joyful_ray.data.draws import at
from joyful_ray.model.dropout import Dropout
from joyful_ray.model_settings import ContextConfig


def build_gru(width: int, config: ContextConfig, *, causal: bool) -> nn.GRU:
    """A GRU of the context's size, in both directions unless it is causal."""
    return nn.GRU(
        width,
        config.hidden or config.width,
        num_layers=config.layers,
        bidirectional=not causal,
    )


def output_width(gru: nn.GRU) -> int:
    """Width of a GRU's output, H."""
    return gru.hidden_size * (2 if gru.bidirectional else 1)


def through_gru(gru: nn.GRU, x_ND: Tensor, layout: Layout, *, between: Dropout, key_N: Tensor | None) -> Tensor:
    """Run a GRU over each sequence of a packed batch: (N, H).

    Args:
        gru: any number of layers and directions.
        x_ND: the sequences, one after the other.
        layout: their lengths.
        between: dropout between layers.
        key_N: keys of its draws; None draws nothing.
    """
    by_length_C = torch.argsort(layout.lengths_C, descending=True, stable=True)
    rank_C = torch.argsort(by_length_C)
    order_N = torch.argsort(layout.position_N * len(rank_C) + rank_C[layout.conversation_N])
    sizes_L = torch.bincount(layout.position_N).cpu()
    packed_ND = x_ND.index_select(0, order_N)
    if gru.num_layers > 1 and key_N is not None:
        packed_ND = _by_layer(gru, packed_ND, sizes_L, between, key_N.index_select(0, order_N))
    else:
        packed_ND = gru(PackedSequence(packed_ND, sizes_L))[0].data
    return packed_ND.index_select(0, torch.argsort(order_N))


def _by_layer(gru: nn.GRU, x_ND: Tensor, sizes_L: Tensor, between: Dropout, key_N: Tensor) -> Tensor:
    """Each layer by itself, because torch's own dropout between layers draws for the whole batch."""
    directions = 2 if gru.bidirectional else 1
    for layer in range(gru.num_layers):
        if layer:
            x_ND = between.rows(x_ND, at(key_N, f"layer {layer}"))
        own = gru.all_weights[directions * layer : directions * (layer + 1)]
        weights: list[Tensor] = [weight for direction in own for weight in direction]
        start = x_ND.new_zeros(directions, int(sizes_L[0]), gru.hidden_size)
        x_ND, _ = torch.gru(x_ND, sizes_L, start, weights, gru.bias, 1, 0.0, gru.training, gru.bidirectional)
    return x_ND
