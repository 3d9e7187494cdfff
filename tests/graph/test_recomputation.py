"""Values recomputed in the backward pass equal those of the forward pass."""

from __future__ import annotations

import torch
from torch import Tensor

from joyful_ray.graph.recomputation import MIN_NUMBERS, recomputed


def gradient(numbers: int) -> tuple[Tensor, Tensor, int]:
    calls = 0

    def square(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return x * x * 2.0

    x = torch.linspace(-1.0, 1.0, 7, requires_grad=True)
    out = recomputed(square, x, numbers=numbers)
    out.sum().backward()
    assert x.grad is not None
    return out.detach(), x.grad, calls


def test_recomputed_values_equal_stored_ones() -> None:
    kept, remade = (gradient(numbers) for numbers in (0, MIN_NUMBERS))
    assert torch.equal(kept[0], remade[0])
    assert torch.equal(kept[1], remade[1])


def test_only_large_values_are_recomputed() -> None:
    assert gradient(MIN_NUMBERS - 1)[2] == 1
    assert gradient(MIN_NUMBERS)[2] == 2
