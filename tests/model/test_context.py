from __future__ import annotations

import pytest
import torch
from torch import nn

from joyful_ray.model.context import RecurrentContext, build_context
from joyful_ray.model_settings import ContextConfig
from tests.batches import layout_of, spans

WIDTH = 7


@pytest.mark.parametrize("lengths", [(3, 1, 6, 3), (1,), (2, 2), (2, 41, 1, 9, 40)])
@pytest.mark.parametrize("layers", [1, 2])
def test_the_recurrent_context_equals_a_gru_over_each_conversation(lengths: tuple[int, ...], layers: int) -> None:
    torch.manual_seed(0)
    context = RecurrentContext(WIDTH, ContextConfig(kind="gru", width=4, layers=layers, dropout=0.0))
    x_ND = torch.randn(sum(lengths), WIDTH)
    layout = layout_of(*lengths)
    plain = nn.GRU(WIDTH, 4, num_layers=layers, bidirectional=True)
    plain.load_state_dict(context.gru.state_dict())
    expected = torch.cat([context.leave(plain(x_ND[span])[0]) for span in spans(layout)])
    torch.testing.assert_close(context(x_ND, layout), expected)


@pytest.mark.parametrize("kind", ["transformer", "gru", "none", "identity"])
def test_no_context_mixes_conversations(kind: str) -> None:
    torch.manual_seed(0)
    context = build_context(WIDTH, ContextConfig(kind=kind, width=4, feedforward=8, heads=1)).eval()
    layout = layout_of(3, 1, 5)
    x_ND = torch.randn(9, WIDTH)
    together = context(x_ND, layout)
    assert together.shape == (9, context.width)
    for span in spans(layout):
        torch.testing.assert_close(together[span], context(x_ND[span], layout_of(span.stop - span.start)))


def test_the_identity_context_changes_nothing() -> None:
    context = build_context(WIDTH, ContextConfig(kind="identity", width=4))
    x_ND = torch.randn(3, WIDTH)
    assert context(x_ND, layout_of(3)) is x_ND
    assert context.width == WIDTH


@pytest.mark.parametrize("kind", ["transformer", "gru"])
def test_an_utterance_depends_on_the_others_in_its_conversation(kind: str) -> None:
    torch.manual_seed(0)
    context = build_context(WIDTH, ContextConfig(kind=kind, width=4, feedforward=8, heads=1)).eval()
    x_ND = torch.randn(4, WIDTH)
    changed = x_ND.clone()
    changed[3] += 1
    assert not torch.equal(context(x_ND, layout_of(4))[0], context(changed, layout_of(4))[0])


def test_another_hidden_width_is_mapped_in_and_out() -> None:
    context = build_context(WIDTH, ContextConfig(kind="transformer", width=4, hidden=6, heads=2, feedforward=8))
    assert context(torch.randn(3, WIDTH), layout_of(3)).shape == (3, 4)
