"""Dropout that draws one random number for four values and saves one byte per value for the backward pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

STEPS = 1 << 16


def dropout(x: Tensor, ratio: float, *, is_training: bool) -> Tensor:
    """Zero a share of the values and divide the others by 1 - `ratio`.

    Args:
        x: any shape.
        ratio: share of zeros; rounded to the nearest multiple of 2^-16.
        is_training: False returns the input.
    """
    return _Dropout.apply(x, ratio) if is_training and ratio else x


def relu_dropout(x: Tensor, ratio: float, *, is_training: bool) -> Tensor:
    """ReLU, then dropout, with one saved tensor for the backward pass instead of three."""
    return _ReluDropout.apply(x, ratio if is_training else 0.0)


def kept(like: Tensor, ratio: float) -> Tensor:
    """A mask in the shape of `like`, True for values that are kept; 16 bits of a 64-bit draw decide each value."""
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
    """The output is positive exactly where the gradient passes, so the backward pass needs nothing else."""

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
