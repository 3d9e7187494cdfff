"""Conversation context: modules that let an utterance's vector take in the rest of its conversation.

Shapes: N = utterances, D = fused width, H = hidden width, K = output width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from joyful_ray.components import build_component, is_component
from joyful_ray.data.batch import Layout
from joyful_ray.model.transformer import ConversationTransformer
from joyful_ray.settings import ContextConfig


class TransformerContext(nn.Module):
    """A transformer over the conversation, then a linear map.

    Shapes: input (N, D), output (N, K).

    Source: the released code, method.md section 2.2.2 (there without a padding mask).
    """

    width: int

    def __init__(self, width: int, config: ContextConfig) -> None:
        super().__init__()
        hidden = config.hidden or width
        self.enter = nn.Identity() if hidden == width else nn.Linear(width, hidden)
        self.transformer = ConversationTransformer(
            hidden,
            layers=config.layers,
            heads=config.heads,
            feedforward=config.feedforward,
            dropout=config.dropout,
            padding_mask=config.padding_mask,
        )
        self.leave = nn.Linear(hidden, config.width)
        self.width = config.width

    def forward(self, nodes_ND: Tensor, layout: Layout) -> Tensor:
        """Contextual vectors."""
        return self.leave(self.transformer(self.enter(nodes_ND), layout))


class RecurrentContext(nn.Module):
    """A bidirectional GRU over the conversation, then a linear map.

    Shapes: input (N, D), output (N, K).
    """

    width: int

    def __init__(self, width: int, config: ContextConfig) -> None:
        super().__init__()
        hidden = config.hidden or config.width
        self.gru = nn.GRU(
            width,
            hidden,
            num_layers=config.layers,
            bidirectional=True,
            dropout=config.dropout if config.layers > 1 else 0.0,
        )
        self.drop = nn.Dropout(config.dropout)
        self.leave = nn.Linear(2 * hidden, config.width)
        self.width = config.width

    def forward(self, nodes_ND: Tensor, layout: Layout) -> Tensor:
        """Contextual vectors."""
        by_length_C = torch.argsort(layout.lengths_C, descending=True, stable=True)
        rank_C = torch.argsort(by_length_C)
        order_N = torch.argsort(layout.position_N * len(rank_C) + rank_C[layout.conversation_N])
        sizes_L = torch.bincount(layout.position_N).cpu()
        packed, _ = self.gru(PackedSequence(self.drop(nodes_ND).index_select(0, order_N), sizes_L))
        return self.leave(self.drop(packed.data.index_select(0, torch.argsort(order_N))))


class NoContext(nn.Module):
    """A linear map of each utterance by itself; no context.

    Shapes: input (N, D), output (N, K).
    """

    width: int

    def __init__(self, width: int, config: ContextConfig) -> None:
        super().__init__()
        self.leave = nn.Linear(width, config.width)
        self.width = config.width

    def forward(self, nodes_ND: Tensor, layout: Layout) -> Tensor:
        """Vectors of the output width."""
        return self.leave(nodes_ND)


class PassThrough(nn.Module):
    """The identity: fused vectors enter the graph unchanged, as in the paper.

    Shapes: input (N, D), output (N, D).
    """

    width: int

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, nodes_ND: Tensor, layout: Layout) -> Tensor:
        """The input, unchanged."""
        return nodes_ND


BuiltInContext = TransformerContext | RecurrentContext | NoContext | PassThrough
"""A context of the user has the same interface."""


def build_context(width: int, config: ContextConfig) -> BuiltInContext:
    """Build the context that the config names.

    Raises:
        ConfigError: it is the user's own, and cannot be built.
    """
    if is_component(config.kind):
        return build_component(config.kind, "context", config.options, width)
    if config.kind == "transformer":
        return TransformerContext(width, config)
    if config.kind == "gru":
        return RecurrentContext(width, config)
    return NoContext(width, config) if config.kind == "none" else PassThrough(width)
