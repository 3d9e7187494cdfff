"""Dropout that draws a number for four values and keeps a byte a value for the backward pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

STEPS = 1 << 16


def dropout(x: Tensor, ratio: float, *, is_training: bool) -> Tensor:
    """Zero a share of the values and divide the others by what is left.

    Args:
        ratio: in steps of 2^-16, of which it takes the nearest.
    """
    return _Dropout.apply(x, ratio) if is_training and ratio else x


def relu_dropout(x: Tensor, ratio: float, *, is_training: bool) -> Tensor:
    """ReLU, then dropout, keeping one tensor for the backward pass instead of three."""
    return _ReluDropout.apply(x, ratio if is_training else 0.0)


def kept(like: Tensor, ratio: float) -> Tensor:
    """True where a value stays, in the shape of `like`; 16 bits of a 64-bit draw decide each."""
    draws = torch.empty(-(-like.numel() // 4), dtype=torch.int64, device=like.device).random_(-(2**63), None)
    return (draws.view(torch.int16)[: like.numel()] >= round(ratio * STEPS) - STEPS // 2).view(like.shape)


class _Dropout(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, ratio: float) -> Tensor:
        mask = kept(x, ratio)
        ctx.save_for_backward(mask)
        ctx.scale = 1.0 / (1.0 - ratio)
        return (x * mask).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return (gradient * mask).mul_(ctx.scale), None


class _ReluDropout(Function):
    """The output is positive exactly where the gradient passes, so it is all that the backward pass needs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ratio: float) -> Tensor:
        out = x.relu()
        ctx.scale = 1.0 / (1.0 - ratio)
        if ratio:
            out.mul_(kept(out, ratio)).mul_(ctx.scale)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (out,) = ctx.saved_tensors
        return (gradient * (out > 0)).mul_(ctx.scale), None
