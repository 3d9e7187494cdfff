"""Dropout whose draws belong to utterances, so that they do not depend on what else is in the batch.

Shapes: N = utterances, D = width, C = conversations, L = longest conversation, H = heads, Q = queries.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.autograd import Function

from joyful_ray.data.batch import Layout
from joyful_ray.data.draws import at, kept


class DrawingPart(nn.Module):
    """A part of a model that draws random numbers.

    Attributes:
        place: name of the part in the model, see `name_places`; other places draw other numbers.
    """

    place: str = ""


class Dropout(DrawingPart):
    """Zero a share of the values, and divide the others by 1 - `ratio`, in training.

    It saves one byte per value for the backward pass.

    Shapes: input and output (N, D).

    Args:
        ratio: share of zeros; rounded to the nearest multiple of 2^-16.
    """

    def __init__(self, ratio: float) -> None:
        super().__init__()
        self.ratio = ratio

    def forward(self, x_ND: Tensor, layout: Layout) -> Tensor:
        """Drop values of rows that are the utterances of this layout."""
        return self.rows(x_ND, layout.key_N) if self.is_active else x_ND

    @property
    def is_active(self) -> bool:
        """Whether anything is dropped now."""
        return self.training and self.ratio > 0.0

    def rows(self, x_ND: Tensor, key_N: Tensor) -> Tensor:
        """Drop values of rows with these keys, in training."""
        return _Dropout.apply(x_ND, self.mask(key_N, x_ND.shape[1]), self.ratio) if self.is_active else x_ND

    def mask(self, key_N: Tensor, width: int) -> Tensor:
        """True for the values that are kept, (N, width)."""
        return kept(at(key_N, self.place), width, self.ratio)


class ReluDropout(Dropout):
    """ReLU, then dropout, with one saved tensor for the backward pass instead of three."""

    def forward(self, x_ND: Tensor, layout: Layout) -> Tensor:
        """Rectify, and drop values."""
        mask = self.mask(layout.key_N, x_ND.shape[1]) if self.is_active else None
        return _ReluDropout.apply(x_ND, mask, self.ratio if self.is_active else 0.0)


class AttentionDropout(Dropout):
    """Dropout on attention weights.

    Shapes: input and output (C, H, Q, L), queries before keys; Q = some queries.
    """

    def forward(self, x_CHQL: Tensor, layout: Layout, *, first: int = 0) -> Tensor:
        """Drop weights of the queries from `first`; what a query draws for a key does not depend on the padding."""
        if not self.is_active:
            return x_CHQL
        conversations, heads, queries, longest = x_CHQL.shape
        key_CQ = layout.pad(layout.key_N)[:, first : first + queries]
        mask = self.mask(key_CQ.flatten(), longest * heads).view(conversations, queries, longest, heads)
        return _Dropout.apply(x_CHQL, mask.permute(0, 3, 1, 2), self.ratio)


def name_places(model: nn.Module) -> None:
    """Tell every part of a model that draws random numbers its name, so that no two draw the same."""
    for name, part in model.named_modules():
        if isinstance(part, DrawingPart):
            part.place = name


class _Dropout(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor, ratio: float) -> Tensor:
        ctx.save_for_backward(mask)
        ctx.scale = 1.0 / (1.0 - ratio)
        return (x * mask).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (mask,) = ctx.saved_tensors
        return (gradient * mask).mul_(ctx.scale), None, None


class _ReluDropout(Function):
    """The output is positive exactly where the gradient passes, so the backward pass needs nothing else."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor | None, ratio: float) -> Tensor:
        out = x.relu()
        ctx.scale = 1.0 / (1.0 - ratio)
        if mask is not None:
            out.mul_(mask).mul_(ctx.scale)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (out,) = ctx.saved_tensors
        return (gradient * (out > 0)).mul_(ctx.scale), None, None
