"""Parts that only the released code has: fusion by two auto-encoders, and layers that it builds but never uses.

Shapes: N = utterances, W = sum of the modalities' widths, S = specific width, B = bottleneck.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from joyful_ray.data.batch import Layout
from joyful_ray.model.interfaces import Fused
from joyful_ray.model.memory import PartMemory, one_conversation
from joyful_ray.model.mixing import mix_with_itself
from joyful_ray.model_settings import FusionConfig
from joyful_ray.schema import Modality

INNER = 1024
POSITIONS = 110
SEVEN_EMOTIONS = 7


class AutoEncoder(nn.Module):
    """An auto-encoder with two layers down to the code and two layers back.

    Shapes: input (N, W), code (N, B), rebuilt (N, W).
    """

    def __init__(self, width: int, bottleneck: int) -> None:
        super().__init__()
        self.narrow, self.code = nn.Linear(width, INNER), nn.Linear(INNER, bottleneck)
        self.widen, self.rebuild = nn.Linear(bottleneck, INNER), nn.Linear(INNER, width)

    def forward(self, x_NW: Tensor) -> tuple[Tensor, Tensor]:
        """The code, and the reconstruction."""
        code_NB = F.relu(self.code(torch.tanh(self.narrow(x_NW))))
        return code_NB, self.rebuild(torch.tanh(self.widen(code_NB)))


class AutoFusion(nn.Module):
    """The released fusion: an auto-encoder over all modalities, and one over each modality mixed with itself.

    The authors fuse one utterance at a time; this gives the same result for all at once.

    Shapes: output nodes (N, 2 * B), or (N, B) with one auto-encoder switched off.

    Source: METHOD.md, R1.
    """

    width: int

    def __init__(self, widths: Mapping[Modality, int], config: FusionConfig) -> None:
        super().__init__()
        size, bottleneck = config.specific_width, config.bottleneck
        self.whole = AutoEncoder(sum(widths.values()), bottleneck) if config.global_branch else None
        self.mixed: AutoEncoder | None = None
        if config.specific_branch:
            self.maps = nn.ModuleDict({name: nn.Linear(width, size) for name, width in widths.items()})
            self.basis = nn.Linear(size, size)
            self.mixed = AutoEncoder(size * len(widths), bottleneck)
        self.width = bottleneck * (config.global_branch + config.specific_branch)

    def forward(self, features: Mapping[str, Tensor], layout: Layout) -> Fused:
        """Fuse the modalities of every utterance."""
        all_NW = torch.cat(list(features.values()), dim=1)
        codes, reconstructions = [], {}
        if self.whole is not None:
            code_NB, rebuilt_NW = self.whole(all_NW)
            codes.append(code_NB)
            reconstructions["global"] = (rebuilt_NW, all_NW)
        if self.mixed is not None:
            basis_S = self.basis(torch.ones(self.basis.in_features, device=all_NW.device, dtype=all_NW.dtype))
            mixed = torch.cat([mix_with_itself(basis_S, self.maps[name](features[name])) for name in self.maps], dim=1)
            code_NB, rebuilt = self.mixed(mixed)
            codes.append(code_NB)
            reconstructions["specific"] = (rebuilt, mixed)
        return Fused(torch.cat(codes, dim=1), reconstructions)

    def step(self, features: Mapping[str, Tensor], memory: PartMemory) -> Tensor:
        """The fused vector of the next utterance, (1, D)."""
        return self(features, one_conversation(next(iter(features.values())))).nodes_ND


def unused_layers(context_width: int, encoded_width: int, hidden: int, classes: int) -> nn.ModuleDict:
    """The layers that the released code builds and never uses, frozen, so that the number of parameters is the same.

    In the context, position embeddings and a norm (114,688 parameters at width 1024); in the classifier, an attention
    layer, a seven-class layer and a direct linear layer (162,711 at 400 -> 100 -> 4).

    Source: METHOD.md, R9.
    """
    layers = nn.ModuleDict(
        {
            "positions": nn.Embedding(POSITIONS, context_width),
            "position_norm": nn.LayerNorm(context_width),
            "attention": nn.Linear(encoded_width, encoded_width),
            "seven_emotions": nn.Linear(hidden, SEVEN_EMOTIONS),
            "single": nn.Linear(encoded_width, classes),
        }
    )
    return layers.requires_grad_(False)
