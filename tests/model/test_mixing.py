from __future__ import annotations

import pytest
import torch
from torch import Tensor

from joyful_ray.model.mixing import mix_with_itself


def slow_mix(basis_S: Tensor, vectors_NS: Tensor) -> Tensor:
    """One utterance at a time, as in the authors' code (METHOD.md, R1)."""
    mixed = []
    for vector_S in vectors_NS:
        share_SS = torch.softmax(basis_S[:, None] * vector_S[None, :], dim=1)
        mixed.append(share_SS @ vector_S)
    return torch.stack(mixed)


@pytest.mark.parametrize("scale", [0.1, 1.0, 12.0])
@pytest.mark.parametrize("count", [1, 4, 9])
def test_mixing_and_its_gradients_equal_the_loop(count: int, scale: float) -> None:
    torch.manual_seed(0)
    basis_S, vectors_NS, weights = scale * torch.randn(7), torch.randn(count, 7), torch.randn(count, 7)
    found = []
    for mix in (mix_with_itself, slow_mix):
        entered = [basis_S.clone().requires_grad_(), vectors_NS.clone().requires_grad_()]
        out = mix(*entered)
        (out * weights).sum().backward()
        found.append([out.detach(), *(tensor.grad for tensor in entered)])
    for mine, slow in zip(*found, strict=True):
        torch.testing.assert_close(mine, slow, rtol=1e-4, atol=1e-5)


def test_a_constant_vector_does_not_change() -> None:
    vectors_NS = torch.full((2, 5), 0.7)
    torch.testing.assert_close(mix_with_itself(torch.randn(5), vectors_NS), vectors_NS)


def test_mixing_is_the_same_under_autocast() -> None:
    torch.manual_seed(0)
    basis_S, vectors_NS = torch.randn(30), torch.randn(6, 30)
    with torch.autocast("cpu", torch.bfloat16):
        found = mix_with_itself(basis_S, vectors_NS)
    torch.testing.assert_close(found, mix_with_itself(basis_S, vectors_NS))
