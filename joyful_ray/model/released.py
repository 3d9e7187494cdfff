"""What only the released code has: its fusion by two auto-encoders, and the layers that it builds and never uses.

Shapes: N = utterances, W = sum of the modalities' widths, S = specific width, B = bottleneck.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F

from joyful_ray.config import FusionConfig
from joyful_ray.data.batch import Layout
from joyful_ray.model.parts import Fused
from joyful_ray.schema import Modality

INNER = 1024
CHUNK_UTTERANCES = 4
POSITIONS = 110
SEVEN_EMOTIONS = 7


class AutoEncoder(nn.Module):
    """Two layers down to a code, two layers back.

    Shapes: input (N, W), code (N, B), rebuilt (N, W).
    """

    def __init__(self, width: int, bottleneck: int) -> None:
        super().__init__()
        self.narrow, self.code = nn.Linear(width, INNER), nn.Linear(INNER, bottleneck)
        self.widen, self.rebuild = nn.Linear(bottleneck, INNER), nn.Linear(INNER, width)

    def forward(self, x_NW: Tensor) -> tuple[Tensor, Tensor]:
        """Code and reconstruction."""
        code_NB = F.relu(self.code(torch.tanh(self.narrow(x_NW))))
        return code_NB, self.rebuild(torch.tanh(self.widen(code_NB)))


class AutoFusion(nn.Module):
    """The released fusion: an auto-encoder over all modalities, and one over each modality mixed with itself.

    The authors fuse one utterance at a time; this is the same for all at once.

    Shapes: output nodes (N, 2 * B).

    Source: method.md section 2.2.1.
    """

    width: int

    def __init__(self, widths: Mapping[Modality, int], config: FusionConfig) -> None:
        super().__init__()
        size = config.specific_width
        self.whole = AutoEncoder(sum(widths.values()), config.bottleneck)
        self.maps = nn.ModuleDict({name: nn.Linear(width, size) for name, width in widths.items()})
        self.basis = nn.Linear(size, size)
        self.mixed = AutoEncoder(size * len(widths), config.bottleneck)
        self.width = 2 * config.bottleneck

    def forward(self, features: Mapping[str, Tensor], layout: Layout) -> Fused:
        """Fuse the modalities of every utterance."""
        all_NW = torch.cat(list(features.values()), dim=1)
        code_NB, rebuilt_NW = self.whole(all_NW)
        basis_S = self.basis(torch.ones(self.basis.in_features, device=all_NW.device, dtype=all_NW.dtype))
        mixed = torch.cat([mix_with_itself(basis_S, self.maps[name](features[name])) for name in self.maps], dim=1)
        mixed_code_NB, rebuilt_mixed = self.mixed(mixed)
        return Fused(
            torch.cat([code_NB, mixed_code_NB], dim=1),
            {"global": (rebuilt_NW, all_NW), "specific": (rebuilt_mixed, mixed)},
        )


def mix_with_itself(basis_S: Tensor, vectors_NS: Tensor) -> Tensor:
    """out_i = sum_j softmax_j(basis_i * v_j) v_j for every utterance v: (N, S). A constant vector stays as it is.

    Source: method.md section 2.2.1, where each utterance makes an S x S table; here a few tables exist at a time.
    """
    with torch.autocast(vectors_NS.device.type, enabled=False):
        return _Mixing.apply(basis_S.float(), vectors_NS.float()).to(vectors_NS.dtype)


class _Mixing(Function):
    """With e_ij = exp(basis_i v_j), the result and its gradients are products of the table e with a few vectors."""

    @staticmethod
    def forward(ctx: Any, basis_S: Tensor, vectors_NS: Tensor) -> Tensor:
        sums = []
        for chunk in vectors_NS.split(CHUNK_UTTERANCES):
            powers = torch.stack([torch.ones_like(chunk), chunk, chunk * chunk], dim=-1)
            sums.append(torch.bmm(_table(basis_S, chunk), powers))
        sums_NS3 = torch.cat(sums)
        total, out, second = sums_NS3[..., 0], sums_NS3[..., 1], sums_NS3[..., 2]
        out = out / total
        ctx.save_for_backward(basis_S, vectors_NS, total, out, second / total)
        return out

    @staticmethod
    def backward(ctx: Any, gradient_NS: Tensor) -> tuple[Tensor, Tensor]:
        basis_S, vectors_NS, total, out, second = ctx.saved_tensors
        by_basis = gradient_NS * basis_S
        left = torch.stack([(gradient_NS - by_basis * out) / total, by_basis / total], dim=1)
        pulled = [
            torch.bmm(part, _table(basis_S, chunk))
            for part, chunk in zip(left.split(CHUNK_UTTERANCES), vectors_NS.split(CHUNK_UTTERANCES), strict=True)
        ]
        pulled_N2S = torch.cat(pulled)
        return (gradient_NS * (second - out * out)).sum(dim=0), pulled_N2S[:, 0] + vectors_NS * pulled_N2S[:, 1]


def _table(basis_S: Tensor, vectors_NS: Tensor) -> Tensor:
    """exp(basis_i v_j) over the greatest of its row, (N, S, S)."""
    greatest, least = vectors_NS.amax(dim=1, keepdim=True), vectors_NS.amin(dim=1, keepdim=True)
    shift_NS = torch.maximum(basis_S * greatest, basis_S * least)
    left = torch.stack([basis_S.expand_as(shift_NS), -shift_NS], dim=2)
    right = torch.stack([vectors_NS, torch.ones_like(vectors_NS)], dim=1)
    return torch.bmm(left, right).exp_()


def never_used(context_width: int, encoded_width: int, hidden: int, classes: int) -> nn.ModuleDict:
    """The layers that the released code builds and never uses, frozen; only for its count of parameters.

    A table of positions and a norm in the context (114,688 parameters at width 1024), and in the classifier an
    attention, a seven-class and a single layer (162,711 at 400 -> 100 -> 4).

    Source: method.md section 2.2, size check.
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
