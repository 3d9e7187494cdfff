"""What the fusion alone is trained on in the first stage of two-phase training; it is dropped afterwards.

Shapes: N = utterances, D = fused width, W = width of a modality, K = labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn

from joyful_ray.schema import Modality

FusionTarget = Literal["terms", "inputs", "labels"]
LABELS = "labels"


class PretrainingHead(nn.Module):
    """One linear map of the fused vectors for each thing that they should tell.

    Shapes: input (N, D); output per modality (N, W), or `labels` (N, K).

    Args:
        width: D.
        target: `inputs` rebuilds the features of each modality, which cannot collapse, unlike targets that are trained;
            `labels` scores the labels.
        widths: width of each modality.
        classes: K.
    """

    def __init__(
        self, width: int, target: Literal["inputs", "labels"], *, widths: Mapping[Modality, int], classes: int
    ) -> None:
        super().__init__()
        outputs: Mapping[Modality, int] | Mapping[str, int] = widths if target == "inputs" else {LABELS: classes}
        self.maps = nn.ModuleDict({name: nn.Linear(width, out) for name, out in outputs.items()})

    def forward(self, nodes_ND: Tensor) -> dict[str, Tensor]:
        """What the fused vectors tell, by name."""
        return {name: linear(nodes_ND) for name, linear in self.maps.items()}
