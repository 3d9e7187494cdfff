from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from joyful_ray.data.batch import Layout
from joyful_ray.model.fusion import SpecificBranch, build_fusion, topic_vectors
from joyful_ray.model_settings import FusionConfig
from tests.batches import WIDTHS, layout_of, random_batch, spans

SMALL = FusionConfig(
    global_layers=1, global_heads=3, global_feedforward=16, specific_width=8, basis_vectors=4, dropout=0.0
)


def features(*lengths: int) -> dict[str, Tensor]:
    return dict(random_batch(*lengths).features)


def slow_topics(x_NG: Tensor, layout: Layout, rate: float) -> Tensor:
    topics = torch.zeros_like(x_NG)
    for span in spans(layout):
        for here in range(span.start + 1, span.stop):
            earlier = torch.arange(span.start, here)
            weights = torch.exp(rate * (earlier - here).to(x_NG.dtype))
            topics[here] = (weights[:, None] * x_NG[span.start : here]).sum(0) / weights.sum()
    return topics


@pytest.mark.parametrize("lengths", [(5, 1, 3), (1,), (256, 255), (257,), (600, 3, 300)])
@pytest.mark.parametrize("rate", [0.0, 0.2, 3.0])
def test_topics_are_exponentially_weighted_means_of_the_earlier_utterances(
    lengths: tuple[int, ...], rate: float
) -> None:
    torch.manual_seed(0)
    layout = layout_of(*lengths)
    x_NG = torch.randn(sum(lengths), 3)
    expected = slow_topics(x_NG.double(), layout, rate).float()
    torch.testing.assert_close(topic_vectors(x_NG, layout, rate=rate), expected)


def test_the_first_topic_is_zero_and_the_second_is_the_first_utterance() -> None:
    x_NG = torch.randn(3, 4)
    topics = topic_vectors(x_NG, layout_of(3), rate=0.2)
    assert torch.equal(topics[0], torch.zeros(4))
    torch.testing.assert_close(topics[1], x_NG[0])


def test_topics_of_ten_thousand_utterances_are_finite() -> None:
    topics = topic_vectors(torch.randn(10_000, 2), layout_of(10_000), rate=0.2)
    assert torch.isfinite(topics).all()


def test_no_gradient_passes_through_the_topic() -> None:
    x_NG = torch.randn(3, 4, requires_grad=True)
    assert not topic_vectors(x_NG, layout_of(3), rate=0.2).requires_grad


def test_topics_are_the_same_under_autocast() -> None:
    x_NG = torch.randn(40, 4)
    with torch.autocast("cpu", torch.bfloat16):
        found = topic_vectors(x_NG, layout_of(40), rate=0.2)
    torch.testing.assert_close(found, topic_vectors(x_NG, layout_of(40), rate=0.2))


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_the_specific_branch_expresses_each_modality_in_the_shared_basis(similarity: str) -> None:
    torch.manual_seed(0)
    branch = SpecificBranch(WIDTHS, SMALL.model_copy(update={"similarity": similarity}))
    given = features(3, 2)
    rebuilt, single = branch(given)
    basis = [branch.basis_projection.weight @ row for row in branch.basis_QS]
    for utterance in range(5):
        parts = []
        for place, name in enumerate(WIDTHS):
            vector = torch.tanh(branch.maps[name](given[name][utterance]))
            torch.testing.assert_close(single[utterance, 8 * place : 8 * place + 8], vector)
            query = branch.projections[name].weight @ vector
            likeness = [
                F.cosine_similarity(query, row, dim=0) if similarity == "cosine" else query @ row / 8**0.5
                for row in basis
            ]
            share = torch.softmax(torch.stack(likeness), dim=0)
            parts.append(sum(s * row for s, row in zip(share, basis, strict=True)))
        torch.testing.assert_close(rebuilt[utterance], torch.cat(parts))


@pytest.mark.parametrize(
    ("changes", "width"),
    [
        ({}, 15 + 24),
        ({"global_branch": False}, 24),
        ({"specific_branch": False}, 15),
        ({"global_width": 4}, 12 + 24),
        ({"kind": "concatenation"}, 15),
    ],
)
def test_each_branch_adds_its_width(changes: dict[str, object], width: int) -> None:
    fusion = build_fusion(WIDTHS, SMALL.model_copy(update=changes))
    fused = fusion(features(3, 1), layout_of(3, 1))
    assert fusion.width == width
    assert fused.nodes_ND.shape == (4, width)
    assert set(fused.reconstructions) == (
        set()
        if changes.get("kind")
        else {"global", "specific"}
        - ({"global"} if "global_branch" in changes else set())
        - ({"specific"} if "specific_branch" in changes else set())
    )
    assert (fused.topic_NG is None) == (changes.get("kind") is not None or "global_branch" in changes)


def test_fusion_of_a_conversation_does_not_depend_on_its_batch() -> None:
    torch.manual_seed(0)
    fusion = build_fusion(WIDTHS, SMALL).eval()
    layout, given = layout_of(3, 1, 5), features(3, 1, 5)
    together = fusion(given, layout)
    for span in spans(layout):
        alone = fusion({name: x[span] for name, x in given.items()}, layout_of(span.stop - span.start))
        torch.testing.assert_close(together.nodes_ND[span], alone.nodes_ND)
        torch.testing.assert_close(together.topic_NG[span], alone.topic_NG)
