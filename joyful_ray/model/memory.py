"""What a causal model keeps of a conversation, so that the next utterance costs no more than itself.

A part with a method `step` computes its output for one utterance from its memory; for a part without one, its inputs so
far are kept and it runs over all of them again.

Shapes: T = utterances so far, D = any width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from joyful_ray.data.batch import Layout


@dataclass
class PartMemory:
    """Tensors that one part of the model keeps of one conversation, by name."""

    tensors: dict[str, Tensor] = field(default_factory=dict)

    def append(self, name: str, rows: Tensor, *, most: int | None = None) -> Tensor:
        """Add rows below those kept under a name, keep the last `most` of them (None: all), and return them."""
        kept = torch.cat([self.tensors[name], rows]) if name in self.tensors else rows
        self.tensors[name] = kept if most is None else kept[max(len(kept) - most, 0) :]
        return self.tensors[name]


@dataclass
class Memory:
    """What the parts of a model keep of one conversation."""

    parts: dict[str, PartMemory] = field(default_factory=dict)

    def of(self, name: str) -> PartMemory:
        """The memory of a part."""
        return self.parts.setdefault(name, PartMemory())


def step_through(part: nn.Module, x_1D: Tensor, memory: PartMemory) -> Tensor:
    """The output of a context or a transformer for the next utterance, (1, …).

    Args:
        part: called with vectors and a layout, or with a method `step`.
        x_1D: the utterance's vector.
        memory: of this part; it takes the utterance in.
    """
    step: Callable[[Tensor, PartMemory], Tensor] | None = getattr(part, "step", None)
    if step is not None:
        return step(x_1D, memory)
    past_TD = memory.append("inputs", x_1D)
    return part(past_TD, one_conversation(past_TD))[-1:]


def gru_step(gru: nn.GRU, x_1D: Tensor, memory: PartMemory, *, name: str = "state") -> Tensor:
    """The output of a one-way GRU for the next element of a sequence, (1, H)."""
    out_1H, state = gru(x_1D, memory.tensors.get(name))
    memory.tensors[name] = state
    return out_1H


def one_conversation(rows: Tensor) -> Layout:
    """The layout of rows that are one conversation."""
    return Layout.of(torch.tensor([len(rows)], device=rows.device))
