from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from joyful_ray.data.batch import Layout
from joyful_ray.model import transformer as conversation_transformer
from joyful_ray.model.transformer import (
    GROUP_PADDING,
    GROUP_SLOTS,
    ConversationTransformer,
    TransformerLayer,
    groups_of,
    heads_for,
)
from tests.batches import layout_of, spans

WIDTH, HEADS, INNER = 12, 3, 20


@pytest.mark.parametrize(("width", "most", "heads"), [(1380, 10, 10), (1024, 8, 8), (7, 3, 1), (8, 100, 8), (1, 8, 1)])
def test_the_number_of_heads_is_the_largest_allowed_divisor(width: int, most: int, heads: int) -> None:
    assert heads_for(width, most) == heads


def copy_of(layer: TransformerLayer) -> nn.TransformerEncoderLayer:
    """torch's own layer with the same weights."""
    theirs = nn.TransformerEncoderLayer(WIDTH, HEADS, INNER, dropout=0.0, batch_first=True)
    theirs.load_state_dict(
        {
            "self_attn.in_proj_weight": layer.queries_keys_values.weight,
            "self_attn.in_proj_bias": layer.queries_keys_values.bias,
            "self_attn.out_proj.weight": layer.attended.weight,
            "self_attn.out_proj.bias": layer.attended.bias,
            "linear1.weight": layer.expand.weight,
            "linear1.bias": layer.expand.bias,
            "linear2.weight": layer.contract.weight,
            "linear2.bias": layer.contract.bias,
            "norm1.weight": layer.attention_norm.weight,
            "norm1.bias": layer.attention_norm.bias,
            "norm2.weight": layer.feedforward_norm.weight,
            "norm2.bias": layer.feedforward_norm.bias,
        }
    )
    return theirs


def random_weights(module: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module.double()


def transformer(*, padding_mask: bool = True, dropout: float = 0.0) -> ConversationTransformer:
    made = ConversationTransformer(
        WIDTH, layers=2, heads=HEADS, feedforward=INNER, dropout=dropout, padding_mask=padding_mask
    )
    random_weights(made)
    return made


def padded(module: ConversationTransformer, x_ND: Tensor, layout: Layout, *, mask: bool) -> Tensor:
    """torch's encoder over the padded batch."""
    x = layout.pad(x_ND)
    for layer in module.layers:
        x = copy_of(layer).double()(x, src_key_padding_mask=~layout.valid_CL if mask else None)
    return layout.unpad(x)


@pytest.mark.parametrize("lengths", [(4, 1, 6), (1,), (3, 3)])
@pytest.mark.parametrize("mask", [True, False])
def test_a_stack_equals_torchs_padded_encoder(lengths: tuple[int, ...], mask: bool) -> None:
    layout = layout_of(*lengths)
    module = transformer(padding_mask=mask)
    x_ND = torch.randn(sum(lengths), WIDTH, dtype=torch.double)
    torch.testing.assert_close(module(x_ND, layout), padded(module, x_ND, layout, mask=mask))


@pytest.mark.parametrize("mask", [True, False])
def test_its_gradients_equal_those_of_torchs_padded_encoder(mask: bool) -> None:
    layout = layout_of(4, 1, 6)
    module = transformer(padding_mask=mask)
    x_ND, weights = torch.randn(2, 11, WIDTH, dtype=torch.double)
    found = []
    for run in (lambda x: module(x, layout), lambda x: padded(module, x, layout, mask=mask)):
        entered = x_ND.clone().requires_grad_()
        (run(entered) * weights).sum().backward()
        found.append(entered.grad)
    torch.testing.assert_close(found[0], found[1])


def test_with_the_mask_a_conversation_does_not_see_the_rest_of_its_batch() -> None:
    layout = layout_of(4, 1, 6)
    module = transformer()
    x_ND = torch.randn(11, WIDTH, dtype=torch.double)
    together = module(x_ND, layout)
    for span in spans(layout):
        alone = module(x_ND[span], layout_of(span.stop - span.start))
        torch.testing.assert_close(together[span], alone)


def test_without_the_mask_a_conversation_depends_on_the_longest_of_its_batch() -> None:
    module = transformer(padding_mask=False)
    x_ND = torch.randn(11, WIDTH, dtype=torch.double)
    together = module(x_ND, layout_of(4, 1, 6))
    assert not torch.allclose(together[:4], module(x_ND[:4], layout_of(4)))


def test_dropout_acts_only_in_training() -> None:
    layout = layout_of(3, 2)
    module = transformer(dropout=0.5)
    x_ND = torch.randn(5, WIDTH, dtype=torch.double)
    assert not torch.equal(module.train()(x_ND, layout), module(x_ND, layout.apart("again")))
    assert torch.equal(module.eval()(x_ND, layout), module(x_ND, layout.apart("again")))


def test_groups_contain_every_conversation_once_and_little_padding() -> None:
    lengths = torch.randint(1, 200, (300,), generator=torch.Generator().manual_seed(0)).sort(descending=True).values
    groups = groups_of(Layout.of(lengths), torch.zeros(300, 200))
    assert torch.cat([group.layout.lengths_C for group in groups]).equal(lengths)
    large = [g for g in groups if g.bias_CL.numel() > 2 * GROUP_SLOTS]
    assert large
    for group in large:
        assert 1 - group.layout.lengths_C.sum() / group.bias_CL.numel() <= GROUP_PADDING


def test_small_batches_are_one_group() -> None:
    assert len(groups_of(layout_of(12, 9, 5, 1), torch.zeros(4, 12))) == 1


@pytest.mark.parametrize("at_a_time", [1, 4, 100])
@pytest.mark.parametrize("causal", [False, True])
def test_some_queries_at_a_time_change_nothing(causal: bool, at_a_time: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither draws nor gradients of long conversations, of which not all attention weights are kept."""
    module, layout = transformer(dropout=0.4), layout_of(3, 11, 1, 11)
    module.causal = causal
    x_ND = torch.randn(26, WIDTH, dtype=torch.float64, requires_grad=True)
    ways = []
    for numbers in (conversation_transformer.MIN_NUMBERS, 3 * 4 * HEADS * 11 * at_a_time):
        monkeypatch.setattr(conversation_transformer, "MIN_NUMBERS", numbers)
        out = module(x_ND, layout)
        ways.append((out, *torch.autograd.grad(out.square().sum(), [x_ND, *module.parameters()])))
    torch.testing.assert_close(ways[1], ways[0])


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("mask", [True, False])
def test_groups_change_nothing(mask: bool, dropout: float, monkeypatch: pytest.MonkeyPatch) -> None:
    module, layout = transformer(padding_mask=mask, dropout=dropout), layout_of(3, 9, 1, 9, 2, 7)
    x_ND = torch.randn(31, WIDTH, dtype=torch.float64)
    together = module(x_ND, layout)
    monkeypatch.setattr(conversation_transformer, "GROUP_SLOTS", 1)
    monkeypatch.setattr(conversation_transformer, "GROUP_PADDING", 0.0)
    torch.testing.assert_close(module(x_ND, layout), together)
