"""Conversation context: modules that let an utterance's vector take in the rest of its conversation.

Shapes: N = utterances, D = fused width, H = hidden width, K = output width.
"""

from __future__ import annotations

from torch import Tensor, nn

from joyful_ray.components import build_component, is_component
from joyful_ray.data.batch import Layout
from joyful_ray.model.dropout import Dropout
from joyful_ray.model.memory import PartMemory, gru_step
from joyful_ray.model.recurrence import build_gru, output_width, through_gru
from joyful_ray.model.transformer import ConversationTransformer
from joyful_ray.model_settings import ContextConfig


class TransformerContext(nn.Module):
    """A transformer over the conversation, then a linear map.

    Shapes: input (N, D), output (N, K).

    Source: the released code (METHOD.md, R2), there without a padding mask.
    """

    width: int

    def __init__(self, width: int, config: ContextConfig, *, causal: bool = False) -> None:
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
            causal=causal,
            copied_layers=config.copied_layers,
        )
        self.leave = nn.Linear(hidden, config.width)
        self.width = config.width

    def forward(self, nodes_ND: Tensor, layout: Layout) -> Tensor:
        """Contextual vectors."""
        return self.leave(self.transformer(self.enter(nodes_ND), layout))

    def step(self, node_1D: Tensor, memory: PartMemory) -> Tensor:
        """The contextual vector of the next utterance, (1, K), if the context is causal."""
        return self.leave(self.transformer.step(self.enter(node_1D), memory))


class RecurrentContext(nn.Module):
    """A GRU over the conversation, in both directions unless it is causal, then a linear map.

    Shapes: input (N, D), output (N, K).
    """

    width: int

    def __init__(self, width: int, config: ContextConfig, *, causal: bool = False) -> None:
        super().__init__()
        self.gru = build_gru(width, config, causal=causal)
        self.drop, self.between = Dropout(config.dropout), Dropout(config.dropout)
        self.drop_out = Dropout(config.dropout)
        self.leave = nn.Linear(output_width(self.gru), config.width)
        self.width = config.width

    def forward(self, nodes_ND: Tensor, layout: Layout) -> Tensor:
        """Contextual vectors."""
        key_N = layout.key_N if self.between.is_active else None
        states = through_gru(self.gru, self.drop(nodes_ND, layout), layout, between=self.between, key_N=key_N)
        return self.leave(self.drop_out(states, layout))

    def step(self, node_1D: Tensor, memory: PartMemory) -> Tensor:
        """The contextual vector of the next utterance, (1, K), if the context is causal."""
        return self.leave(gru_step(self.gru, node_1D, memory))


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

    def step(self, node_1D: Tensor, memory: PartMemory) -> Tensor:
        """The vector of the next utterance, (1, K)."""
        return self.leave(node_1D)


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

    def step(self, node_1D: Tensor, memory: PartMemory) -> Tensor:
        """The vector of the next utterance, unchanged."""
        return node_1D


BuiltInContext = TransformerContext | RecurrentContext | NoContext | PassThrough
"""A context of the user has the same interface."""


def build_context(width: int, config: ContextConfig, *, causal: bool = False) -> BuiltInContext:
    """Build the context that the config names.

    Args:
        width: width of the fused vectors.
        config: the `model.context` section.
        causal: let no utterance see a later one; a context of the user says that it does so by `is_causal`.

    Raises:
        ConfigError: it is the user's own, and cannot be built.
    """
    if is_component(config.kind):
        return build_component(config.kind, "context", config.options, width)
    if config.kind == "transformer":
        return TransformerContext(width, config, causal=causal)
    if config.kind == "gru":
        return RecurrentContext(width, config, causal=causal)
    return NoContext(width, config) if config.kind == "none" else PassThrough(width)
