"""The arithmetic of the model."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_fp32(values: Tensor) -> Tensor:
    """The same numbers in fp32 if they have less, as under autocast to bf16; fp64 stays."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
