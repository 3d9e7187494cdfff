from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from joyful_ray.model.dropout import AttentionDropout, Dropout, ReluDropout, name_places
from tests.batches import layout_of


def test_values_are_dropped_at_the_ratio_and_the_mean_is_kept() -> None:
    out = Dropout(0.3)(torch.ones(400, 1000), layout_of(150, 250))
    assert out.unique().tolist() == pytest.approx([0.0, 1 / 0.7])
    assert (out == 0).double().mean().item() == pytest.approx(0.3, abs=0.003)  # four deviations
    assert (out == 0).double().mean(dim=1).std().item() == pytest.approx((0.3 * 0.7 / 1000) ** 0.5, rel=0.15)


def test_gradients_pass_where_values_were_kept() -> None:
    x = torch.randn(50, 20, requires_grad=True)
    out = Dropout(0.4)(x, layout_of(50))
    out.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.where(out != 0, 1 / 0.6, 0.0))


def test_relu_dropout_equals_relu_then_dropout() -> None:
    x, layout = torch.randn(50, 20, requires_grad=True), layout_of(50)
    out, slow = ReluDropout(0.4)(x, layout), Dropout(0.4)(x.relu(), layout)
    torch.testing.assert_close(out, slow)
    weights = torch.randn(50, 20)
    torch.testing.assert_close(*(torch.autograd.grad((way * weights).sum(), x)[0] for way in (out, slow)))


@pytest.mark.parametrize("ratio", [0.0, 0.5])
def test_nothing_is_dropped_outside_training(ratio: float) -> None:
    x, layout = torch.randn(5, 4), layout_of(5)
    assert Dropout(ratio).eval()(x, layout) is x
    torch.testing.assert_close(ReluDropout(ratio).eval()(x, layout), x.relu())
    square = torch.rand(1, 2, 5, 5)
    assert AttentionDropout(ratio).eval()(square, layout) is square


def test_a_row_is_dropped_alike_whatever_else_is_in_the_batch() -> None:
    both, second = layout_of(3, 4), layout_of(3, 4)
    alone = type(second).of(second.lengths_C[1:], second.keys_C[1:])
    assert torch.equal(Dropout(0.5)(torch.ones(7, 9), both)[3:], Dropout(0.5)(torch.ones(4, 9), alone))


def test_attention_weights_of_a_pair_do_not_depend_on_padding() -> None:
    drop, lengths = AttentionDropout(0.5), layout_of(3, 5)
    wide = drop(torch.ones(2, 2, 5, 5), lengths)
    alone = type(lengths).of(lengths.lengths_C[:1], lengths.keys_C[:1])
    assert torch.equal(wide[:1, :, :3, :3], drop(torch.ones(1, 2, 3, 3), alone))
    assert float((wide[1] == 0).float().mean()) == pytest.approx(0.5, abs=0.3)
    assert not torch.equal(wide[1, 0], wide[1, 1]), "heads draw by themselves"


def test_places_and_positions_draw_different_numbers() -> None:
    model = torch.nn.ModuleDict({"one": Dropout(0.5), "two": Dropout(0.5)})
    x, layout = torch.ones(2, 200), layout_of(2)
    assert torch.equal(model["one"](x, layout), model["two"](x, layout))
    name_places(model)
    one, two = model["one"](x, layout), model["two"](x, layout)
    for left, right in ((one[0], one[1]), (one[0], two[0])):
        assert float((left == right).float().mean()) == pytest.approx(0.5, abs=0.15)


def test_without_keys_torchs_seed_decides() -> None:
    x = torch.ones(4, 50)

    def drawn(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        keyless = layout_of(4)
        return Dropout(0.5)(x, type(keyless).of(keyless.lengths_C))

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    assert F.dropout(x, 0.5).unique().tolist() == drawn(1).unique().tolist()
