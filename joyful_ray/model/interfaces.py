"""What the parts of the model hand to each other.

Shapes: N = utterances, D = fused width, G = width of the contextual branch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Fused:
    """What fusion gives, with all that its terms of the objective compare.

    Attributes:
        nodes_ND: one vector an utterance.
        reconstructions: by branch, what was rebuilt and what it should equal, both (N, …).
        topic_NG: the conversation's topic before each utterance, which smoothing compares with `contextual_NG`.
    """

    nodes_ND: Tensor
    reconstructions: Mapping[str, tuple[Tensor, Tensor]]
    topic_NG: Tensor | None = None
    contextual_NG: Tensor | None = None
