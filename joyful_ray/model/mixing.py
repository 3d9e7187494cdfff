"""The released code's mixing of a vector with itself, without its table of S x S numbers per utterance.

Shapes: N = utterances, S = width of a vector, P = points at which means are evaluated.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from joyful_ray.model.precision import at_least_fp32

NODES = (32, 64)
TAIL_TERMS = 4
TAIL_TOLERANCE = {torch.float32: 5e-7, torch.float64: 1e-15}
TABLE_NUMBERS = 1 << 20


def mix_with_itself(basis_S: Tensor, vectors_NS: Tensor) -> Tensor:
    """out_i = sum_j softmax_j(basis_i * v_j) v_j for every utterance v: (N, S). A constant vector does not change.

    out_i is a smooth function of basis_i alone, so a few Chebyshev nodes give it for all i at once. If the tail of the
    series shows an error that the precision would notice, more nodes are used, and finally every basis_i itself.

    Source: METHOD.md, R1; Trefethen, Approximation Theory and Approximation Practice, chapters 3 and 8.
    """
    with torch.autocast(vectors_NS.device.type, enabled=False):
        basis_S, vectors = at_least_fp32(basis_S), at_least_fp32(vectors_NS)
        for nodes in NODES:
            if nodes >= len(basis_S):
                break
            points_P, spread_PS, coefficients_PP = _chebyshev(basis_S.detach(), nodes)
            mixed = _TiltedMeans.apply(basis_S, vectors, points_P, spread_PS)
            tail = (_means_at(points_P, vectors.detach())[1] @ coefficients_PP)[:, -TAIL_TERMS:].abs().max()
            if bool(tail <= TAIL_TOLERANCE[vectors.dtype] * vectors.detach().abs().max()):
                return mixed.to(vectors_NS.dtype)
        return _TiltedMeans.apply(basis_S, vectors, basis_S.detach(), None).to(vectors_NS.dtype)


class _TiltedMeans(Function):
    """Means of v under weights exp(t v), evaluated at some points t and interpolated to every basis_i.

    The derivative of the mean with respect to t is the variance under the same weights, so that is interpolated too.
    """

    @staticmethod
    def forward(ctx: Any, basis_S: Tensor, vectors_NS: Tensor, points_P: Tensor, spread_PS: Tensor | None) -> Tensor:
        total_NP, mean_NP, second_NP = _means_at(points_P, vectors_NS)
        variance_NP = second_NP - mean_NP * mean_NP
        out_NS, variance_NS = (
            (mean_NP, variance_NP) if spread_PS is None else (mean_NP @ spread_PS, variance_NP @ spread_PS)
        )
        ctx.save_for_backward(vectors_NS, points_P, spread_PS, total_NP, mean_NP, variance_NS)
        return out_NS

    @staticmethod
    def backward(ctx: Any, gradient_NS: Tensor) -> tuple[Tensor, Tensor, None, None]:
        vectors_NS, points_P, spread_PS, total_NP, mean_NP, variance_NS = ctx.saved_tensors
        gradient_NP = gradient_NS if spread_PS is None else gradient_NS @ spread_PS.T
        tilted_NP = gradient_NP * points_P
        left_N2P = torch.stack([(gradient_NP - tilted_NP * mean_NP) / total_NP, tilted_NP / total_NP], dim=1)
        pulled_N2S = torch.cat(
            [torch.bmm(left_N2P[rows], _table(points_P, vectors_NS[rows])) for rows in _chunks(points_P, vectors_NS)]
        )
        by_vectors_NS = pulled_N2S[:, 0] + vectors_NS * pulled_N2S[:, 1]
        return (gradient_NS * variance_NS).sum(dim=0), by_vectors_NS, None, None


def _means_at(points_P: Tensor, vectors_NS: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The sum of the weights relative to the largest, the mean, and the mean square, at every point: each (N, P)."""
    sums = []
    for rows in _chunks(points_P, vectors_NS):
        chunk = vectors_NS[rows]
        powers = torch.stack([torch.ones_like(chunk), chunk, chunk * chunk], dim=-1)
        sums.append(torch.bmm(_table(points_P, chunk), powers))
    total_NP, first_NP, second_NP = torch.cat(sums).unbind(dim=-1)
    return total_NP, first_NP / total_NP, second_NP / total_NP


def _table(points_P: Tensor, vectors_NS: Tensor) -> Tensor:
    """exp(t v_j) divided by the largest of its row: (N, P, S)."""
    greatest, least = vectors_NS.amax(dim=1, keepdim=True), vectors_NS.amin(dim=1, keepdim=True)
    shift_NP = torch.maximum(points_P * greatest, points_P * least)
    return torch.mul(points_P[None, :, None], vectors_NS[:, None, :]).sub_(shift_NP[:, :, None]).exp_()


def _chunks(points_P: Tensor, vectors_NS: Tensor) -> list[slice]:
    """Slices of utterances whose table fits into the cache."""
    rows = max(TABLE_NUMBERS // (len(points_P) * vectors_NS.shape[1]), 1)
    return [slice(start, start + rows) for start in range(0, len(vectors_NS), rows)]


def _chebyshev(basis_S: Tensor, nodes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Nodes over the range of the basis, and the matrices from node values to every basis_i and to coefficients."""
    low, high = basis_S.min(), basis_S.max()
    middle, half = (low + high) / 2, ((high - low) / 2).clamp(min=1e-3)
    orders = torch.arange(nodes, device=basis_S.device, dtype=torch.float64)
    angles_P = (orders + 0.5) * (math.pi / nodes)
    coefficients_PP = (2.0 / nodes) * torch.cos(angles_P[:, None] * orders[None, :])
    coefficients_PP[:, 0] /= 2.0
    place_S = ((basis_S - middle) / half).double().clamp(-1.0, 1.0)
    polynomials_PS = torch.cos(orders[:, None] * torch.acos(place_S)[None, :])
    points_P = middle + half * torch.cos(angles_P).to(basis_S.dtype)
    return points_P, (coefficients_PP @ polynomials_PS).to(basis_S.dtype), coefficients_PP.to(basis_S.dtype)
