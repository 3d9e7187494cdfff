"""Numbers that are cheap to make and large to keep are made again in the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils.checkpoint import checkpoint

WORTH_NUMBERS = 1 << 22


def recomputed(function: Callable[..., Tensor], *inputs: Any, numbers: int, is_random: bool) -> Tensor:
    """The function's result; what it makes on the way is kept only where it is small.

    Args:
        numbers: about how many numbers it makes on the way; below 4 million, bookkeeping would cost more than memory.
        is_random: whether it draws, so that the second time must draw the same.
    """
    if numbers < WORTH_NUMBERS:
        return function(*inputs)
    return checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=is_random)
