"""What a conversation's context knows of its speakers: who continues, and a recurrent state of each speaker's own.

Shapes: N = utterances, D = fused width, K = width of the context, S = speakers of all conversations.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from joyful_ray.data.batch import Batch, Layout
from joyful_ray.model.dropout import Dropout
from joyful_ray.model.inputs import speaker_groups
from joyful_ray.model.memory import PartMemory, gru_step
from joyful_ray.model.recurrence import build_gru, output_width, through_gru
from joyful_ray.model_settings import ContextConfig


class PartyState(nn.Module):
    """A GRU over the utterances of each speaker of a conversation, then a linear map; other speakers are left out.

    Shapes: input (N, D), output (N, K).

    Args:
        width: width of the input, D.
        out: width of the output, K.
        config: its `hidden`, `layers` and `dropout` are those of the GRU.
        causal: read each speaker's utterances forward only.

    Source: the party state of DialogueRNN (Majumder et al., AAAI 2019), here without attention to the global state.
    """

    def __init__(self, width: int, out: int, config: ContextConfig, *, causal: bool = False) -> None:
        super().__init__()
        self.gru = build_gru(width, config, causal=causal)
        self.drop, self.between = Dropout(config.dropout), Dropout(config.dropout)
        self.drop_out = Dropout(config.dropout)
        self.leave = nn.Linear(output_width(self.gru), out)

    def forward(self, nodes_ND: Tensor, batch: Batch) -> Tensor:
        """The state of each utterance's speaker."""
        order_N, layout = by_speaker(batch)
        entering = self.drop(nodes_ND, batch.layout).index_select(0, order_N)
        key_N = batch.layout.key_N.index_select(0, order_N) if self.between.is_active else None
        states = through_gru(self.gru, entering, layout, between=self.between, key_N=key_N)
        return self.leave(self.drop_out(states.index_select(0, torch.argsort(order_N)), batch.layout))

    def step(self, node_1D: Tensor, speaker: int, memory: PartMemory) -> Tensor:
        """The state of the next utterance's speaker, (1, K), if it is causal."""
        return self.leave(gru_step(self.gru, node_1D, memory, name=f"speaker {speaker}"))


def by_speaker(batch: Batch) -> tuple[Tensor, Layout]:
    """The order that brings each speaker's utterances of a conversation together, in time, and their layout (S)."""
    group_N = speaker_groups(batch)
    order_N = torch.argsort(group_N, stable=True)
    _, lengths_S = torch.unique_consecutive(group_N[order_N], return_counts=True)
    return order_N, Layout.of(lengths_S)


def same_speaker_as_before(batch: Batch) -> Tensor:
    """1 where the utterance before it, in the same conversation, has the same speaker, else 0: (N, 1)."""
    is_same = (batch.speakers_N == batch.speakers_N.roll(1)) & (batch.layout.position_N > 0)
    return is_same.float()[:, None]
