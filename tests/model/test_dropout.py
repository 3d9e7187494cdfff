from __future__ import annotations

import pytest
import torch

from joyful_ray.model.dropout import dropout, kept, relu_dropout


def test_values_are_dropped_at_the_ratio_and_the_mean_is_kept() -> None:
    torch.manual_seed(0)
    out = dropout(torch.ones(400, 1000), 0.3, is_training=True)
    assert out.unique().tolist() == pytest.approx([0.0, 1 / 0.7])
    assert (out == 0).double().mean().item() == pytest.approx(0.3, abs=0.003)  # four deviations
    assert (out == 0).double().mean(dim=1).std().item() == pytest.approx((0.3 * 0.7 / 1000) ** 0.5, rel=0.15)


@pytest.mark.parametrize("count", [1, 3, 4, 5])
def test_any_number_of_values_has_a_mask(count: int) -> None:
    assert kept(torch.zeros(count), 0.5).shape == (count,)


def test_neighbouring_values_are_dropped_independently() -> None:
    torch.manual_seed(0)
    stays = kept(torch.zeros(1_000_000), 0.5).double() - 0.5
    for apart in (1, 2, 3, 4):
        assert abs((stays[apart:] * stays[:-apart]).mean().item()) < 0.001  # 4 deviations of 0.25 / 1000


def test_gradients_pass_where_values_were_kept() -> None:
    x = torch.randn(50, 20, requires_grad=True)
    out = dropout(x, 0.4, is_training=True)
    out.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.where(out != 0, 1 / 0.6, 0.0))


def test_relu_dropout_equals_relu_then_dropout() -> None:
    x = torch.randn(50, 20, requires_grad=True)
    torch.manual_seed(3)
    out = relu_dropout(x, 0.4, is_training=True)
    torch.manual_seed(3)
    slow = dropout(x.relu(), 0.4, is_training=True)
    torch.testing.assert_close(out, slow)
    weights = torch.randn(50, 20)
    torch.testing.assert_close(*(torch.autograd.grad((way * weights).sum(), x)[0] for way in (out, slow)))


def test_nothing_is_dropped_outside_training() -> None:
    x = torch.randn(5, 4)
    assert dropout(x, 0.5, is_training=False) is x
    torch.testing.assert_close(relu_dropout(x, 0.5, is_training=False), x.relu())
