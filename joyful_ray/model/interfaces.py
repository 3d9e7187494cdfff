"""What the parts of the model pass to each other, and what a part of your own must be.

A fusion, a context and an encoder are `torch.nn.Module`s with an attribute `width`, the width of their output. Each is
built with the width of its input and with its own settings, and never sees rank or world size.

Shapes: N = utterances, W = width of a modality, D = fused width, G = width of the contextual branch, C = width of the
context, E = embedding width, S = width of the shared space.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from joyful_ray.schema import Modality

if TYPE_CHECKING:
    from joyful_ray.data.batch import Batch, Layout
    from joyful_ray.graph.edges import Graph
    from joyful_ray.model.joyful import Output


@dataclass(frozen=True)
class Fused:
    """The output of fusion, with everything that the fusion terms of the objective compare.

    Attributes:
        nodes_ND: one vector per utterance.
        reconstructions: for each branch, the reconstruction and its target, both (N, …). The objective knows the names
            `global` and `specific`.
        topic_NG: the topic of the conversation before each utterance; the smoothing term compares it with
            `contextual_NG`. None without a contextual branch.
        contextual_NG: output of the contextual branch.
        shared: per modality (N, S), its vectors in a space that all modalities share, in which one modality can be
            compared with another; empty if the fusion has no such space.
    """

    nodes_ND: Tensor
    reconstructions: Mapping[str, tuple[Tensor, Tensor]]
    topic_NG: Tensor | None = None
    contextual_NG: Tensor | None = None
    shared: Mapping[Modality, Tensor] = field(default_factory=dict)


class Fusion(Protocol):
    """Fuses the modalities of every utterance: `Class(widths, settings)`, with `widths` by modality."""

    width: int

    def forward(self, features: Mapping[str, Tensor], layout: Layout) -> Fused:
        """Fuse. `features` has (N, W) per modality, missing values replaced; `layout` divides N into conversations."""
        ...


class Context(Protocol):
    """Lets utterances take in their conversation: `Class(width, settings)`."""

    width: int

    def forward(self, nodes_ND: Tensor, layout: Layout) -> Tensor:
        """Vectors (N, C) that enter the graph; `layout.pad` and `layout.unpad` convert to (conversations, L, …)."""
        ...


class Encoder(Protocol):
    """Encodes the graph: `Class(width, settings, relations=…)`."""

    width: int

    def embed(self, x_ND: Tensor, graph: Graph) -> list[Tensor]:
        """Embeddings after every layer; the last one, (N, E), is contrasted between views."""
        ...

    def refine(self, embedding_NK: Tensor, graph: Graph) -> Tensor:
        """What the classifier sees, (N, `width`)."""
        ...


class Term(Protocol):
    """A term of the objective: `Class(settings)`.

    The loss is the mean of `losses` over all utterances of the step on all ranks. A class may have
    `counted(batch) -> (N,) bool` to leave utterances out; it must not depend on the model.
    """

    def losses(self, output: Output, batch: Batch) -> Tensor:
        """One loss per utterance, (N,)."""
        ...
