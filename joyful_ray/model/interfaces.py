"""What the parts of the model pass to each other.

Shapes: N = utterances, D = fused width, G = width of the contextual branch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Fused:
    """The output of fusion, with everything that the fusion terms of the objective compare.

    Attributes:
        nodes_ND: one vector per utterance.
        reconstructions: for each branch, the reconstruction and its target, both (N, …).
        topic_NG: the topic of the conversation before each utterance; the smoothing term compares it with
            `contextual_NG`. None without a contextual branch.
        contextual_NG: output of the contextual branch.
    """

    nodes_ND: Tensor
    reconstructions: Mapping[str, tuple[Tensor, Tensor]]
    topic_NG: Tensor | None = None
    contextual_NG: Tensor | None = None
