"""Recurrent networks over packed sequences of any lengths.

Shapes: N = elements of all sequences, D = input width, H = output width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from joyful_ray.data.batch import Layout


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
