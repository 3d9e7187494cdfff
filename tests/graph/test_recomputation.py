"""Values recomputed in the backward pass equal those of the forward pass."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from joyful_ray.graph.recomputation import MIN_NUMBERS, recomputed


def gradient(numbers: int, *, is_random: bool) -> tuple[Tensor, Tensor, int]:
    calls = 0

    def noisy_square(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return (x * x) * (torch.rand_like(x) if is_random else 2.0)

    torch.manual_seed(0)
    x = torch.linspace(-1.0, 1.0, 7, requires_grad=True)
    out = recomputed(noisy_square, x, numbers=numbers, is_random=is_random)
    out.sum().backward()
    assert x.grad is not None
    return out.detach(), x.grad, calls


@pytest.mark.parametrize("is_random", [False, True])
def test_recomputed_values_equal_stored_ones(is_random: bool) -> None:
    kept, remade = (gradient(numbers, is_random=is_random) for numbers in (0, MIN_NUMBERS))
    assert torch.equal(kept[0], remade[0])
    assert torch.equal(kept[1], remade[1])


def test_only_large_values_are_recomputed() -> None:
    assert gradient(MIN_NUMBERS - 1, is_random=False)[2] == 1
    assert gradient(MIN_NUMBERS, is_random=False)[2] == 2
