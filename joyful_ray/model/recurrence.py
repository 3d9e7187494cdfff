"""Recurrent networks over packed sequences of any lengths.

Shapes: N = elements of all sequences, D = input width, H = output width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from joyful_ray.data.batch import Layout
from joyful_ray.model_settings import ContextConfig


def build_gru(width: int, config: ContextConfig, *, causal: bool) -> nn.GRU:
    """A GRU of the context's size, in both directions unless it is causal."""
    return nn.GRU(
        width,
        config.hidden or config.width,
        num_layers=config.layers,
        bidirectional=not causal,
        dropout=config.dropout if config.layers > 1 else 0.0,
    )


def output_width(gru: nn.GRU) -> int:
    """Width of a GRU's output, H."""
    return gru.hidden_size * (2 if gru.bidirectional else 1)


def through_gru(gru: nn.GRU, x_ND: Tensor, layout: Layout) -> Tensor:
    """Run a GRU over each sequence of a packed batch: (N, H).

    Args:
        gru: any number of layers and directions.
        x_ND: the sequences, one after the other.
        layout: their lengths.
    """
    by_length_C = torch.argsort(layout.lengths_C, descending=True, stable=True)
    rank_C = torch.argsort(by_length_C)
    order_N = torch.argsort(layout.position_N * len(rank_C) + rank_C[layout.conversation_N])
    sizes_L = torch.bincount(layout.position_N).cpu()
    packed, _ = gru(PackedSequence(x_ND.index_select(0, order_N), sizes_L))
    return packed.data.index_select(0, torch.argsort(order_N))
