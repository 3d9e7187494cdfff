"""Gradient checkpointing: values that are cheap to compute and large to store are recomputed in the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils.checkpoint import checkpoint

MIN_NUMBERS = 1 << 22


def recomputed(function: Callable[..., Tensor], *inputs: Any, numbers: int) -> Tensor:
    """Call a function; its intermediate values are recomputed in the backward pass if they are large.

    Args:
        function: the function to call; it draws no random numbers from torch.
        inputs: its arguments.
        numbers: about how many intermediate numbers it computes; below 4 million, recomputing does not pay.
    """
    if numbers < MIN_NUMBERS:
        return function(*inputs)
    return checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)
