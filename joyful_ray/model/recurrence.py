"""Recurrent networks over packed sequences of any lengths.

Shapes: N = elements of all sequences, D = input width, H = output width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from joyful_ray.data.batch import Layout, joined
from joyful_ray.data.draws import at
from joyful_ray.model.dropout import Dropout
from joyful_ray.model_settings import ContextConfig

MOST_PADDING = 4.0
"""Steps of a GRU are many and small, so that padding costs less than more steps."""


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
        between: dropout between layers; torch's own draws for the whole batch.
        key_N: keys of its draws; None draws nothing.
    """
    groups = layout.groups(most_padding=MOST_PADDING)
    for layer in range(gru.num_layers):
        if layer and key_N is not None:
            x_ND = between.rows(x_ND, at(key_N, f"layer {layer}"))
        x_ND = joined(groups, [_through_layer(gru, layer, x_ND[rows_N], part) for rows_N, part in groups])
    return x_ND


def _through_layer(gru: nn.GRU, layer: int, x_ND: Tensor, layout: Layout) -> Tensor:
    """One layer over sequences of similar length, each direction from the first element that it reads.

    Torch runs packed sequences, too, but its backward pass then fills a tensor of all elements for each of them, which
    takes a time of N squared.
    """
    directions = 2 if gru.bidirectional else 1
    remaining_N = layout.lengths_C[layout.conversation_N] - 1 - layout.position_N
    count, outputs = len(layout.lengths_C), []
    for direction, step_N in enumerate((layout.position_N, remaining_N)[:directions]):
        slot_N = step_N * count + layout.conversation_N
        padded = x_ND.new_zeros(layout.longest * count, x_ND.shape[1]).index_copy(0, slot_N, x_ND)
        start = x_ND.new_zeros(1, count, gru.hidden_size)
        weights: list[Tensor] = [*gru.all_weights[directions * layer + direction]]
        states_LCH, _ = torch.gru(
            padded.view(layout.longest, count, -1), start, weights, gru.bias, 1, 0.0, gru.training, False, False
        )
        outputs.append(states_LCH.flatten(0, 1).index_select(0, slot_N))
    return torch.cat(outputs, dim=1)
