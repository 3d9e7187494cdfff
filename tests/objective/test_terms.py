from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from joyful_ray.data.batch import Layout
from joyful_ray.objective import terms
from tests.batches import layout_of, quick, spans

Contrast = Callable[..., Tensor]
lengths = st.lists(st.integers(1, 6), min_size=1, max_size=4)
temperatures = st.sampled_from([0.1, 0.2, 1.0])


def similarity(left: Tensor, right: Tensor) -> Tensor:
    return (left @ right) / (left.norm() * right.norm())


@pytest.mark.parametrize("classes", [1, 4])
def test_the_divergence_of_two_passes_is_the_mean_of_two_kullback_leibler_divergences(classes: int) -> None:
    first, second = torch.randn(7, classes), torch.randn(7, classes)
    found = terms.divergence(first, second, "single-label")
    distributions = [torch.distributions.Categorical(logits=each) for each in (first, second)]
    kl = torch.distributions.kl_divergence
    expected = (kl(*distributions) + kl(*reversed(distributions))) / 2
    torch.testing.assert_close(found, expected)
    assert torch.equal(terms.divergence(first, first, "single-label"), torch.zeros(7))


def test_the_divergence_by_label_and_by_number() -> None:
    first, second = torch.randn(7, 3), torch.randn(7, 3)
    distributions = [torch.distributions.Bernoulli(logits=each) for each in (first, second)]
    kl = torch.distributions.kl_divergence
    expected = ((kl(*distributions) + kl(*reversed(distributions))) / 2).mean(dim=1)
    torch.testing.assert_close(terms.divergence(first, second, "multi-label"), expected)
    found = terms.divergence(torch.tensor([[1.0], [2.0]]), torch.tensor([[1.5], [2.0]]), "regression")
    assert found.tolist() == [0.25, 0.0]


def test_only_features_that_are_there_must_be_rebuilt() -> None:
    rebuilt = torch.tensor([[1.0, 2.0, 3.0], [9.0, 9.0, 9.0]])
    features = torch.tensor([[0.0, torch.nan, 5.0], [torch.nan] * 3])
    assert terms.rebuilt(rebuilt, features).tolist() == [(1.0 + 4.0) / 2, 0.0]


def slow_inter(u: Tensor, v: Tensor, i: int, group: range, t: float) -> Tensor:
    others = torch.stack([similarity(u[i], v[j]) / t for j in group])
    return torch.logsumexp(others, 0) - similarity(u[i], v[i]) / t


def slow_intra(u: Tensor, v: Tensor, i: int, group: range, t: float, *, self_negative: bool = False) -> Tensor:
    others = [similarity(u[i], u[j]) / t for j in group if self_negative or j != i]
    if not others:
        return torch.zeros(())
    return torch.logsumexp(torch.stack(others), 0) - similarity(u[i], v[i]) / t


def slow_nt_xent(u: Tensor, v: Tensor, i: int, group: range, t: float, *, self_negative: bool = False) -> Tensor:
    """METHOD.md, R5: mean of both directions."""
    both = []
    for a, b in ((u, v), (v, u)):
        positive = torch.exp(similarity(a[i], b[i]) / t)
        across = sum(torch.exp(similarity(a[i], b[j]) / t) for j in group)
        within = sum(torch.exp(similarity(a[i], a[j]) / t) for j in group if self_negative or j != i)
        both.append(-torch.log(positive / (across + within)))
    return torch.stack(both).mean()


WITH_SELF: dict[str, Any] = {"self_negative": True}
CONTRASTS: dict[str, tuple[Contrast, Callable[[Tensor, Tensor, int, range, float], Tensor]]] = {
    "inter": (terms.inter_view_contrast, slow_inter),
    "intra": (terms.intra_view_contrast, slow_intra),
    "nt-xent": (terms.nt_xent, slow_nt_xent),
    "intra with self": (
        partial(terms.intra_view_contrast, self_negative=True),
        partial(slow_intra, self_negative=True),
    ),
    "nt-xent with self": (partial(terms.nt_xent, self_negative=True), partial(slow_nt_xent, self_negative=True)),
}


def groups(layout: Layout) -> list[tuple[int, range]]:
    """For each utterance, the utterances of its conversation."""
    return [(i, range(span.start, span.stop)) for span in spans(layout) for i in range(span.start, span.stop)]


@pytest.mark.parametrize("name", CONTRASTS)
@quick
@given(lengths=lengths, temperature=temperatures, seed=st.integers(0, 3))
def test_contrasts_equal_their_formulas(name: str, lengths: list[int], temperature: float, seed: int) -> None:
    fast, slow = CONTRASTS[name]
    torch.manual_seed(seed)
    layout, (u, v) = layout_of(*lengths), torch.randn(2, sum(lengths), 5)
    expected = torch.stack([slow(u, v, i, group, temperature) for i, group in groups(layout)])
    torch.testing.assert_close(fast(u, v, layout, temperature=temperature), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CONTRASTS)
def test_gradients_of_contrasts_equal_those_of_their_formulas(name: str) -> None:
    fast, slow = CONTRASTS[name]
    layout = layout_of(4, 1, 2)
    u, v = torch.randn(2, 7, 5)
    found = []
    for run in (
        lambda a, b: fast(a, b, layout, temperature=0.5),
        lambda a, b: torch.stack([slow(a, b, i, group, 0.5) for i, group in groups(layout)]),
    ):
        entered = u.clone().requires_grad_(), v.clone().requires_grad_()
        run(*entered).sum().backward()
        found.append([tensor.grad for tensor in entered])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("inter", 5), ("intra", 4), ("nt-xent", 9), ("intra with self", 5), ("nt-xent with self", 10)],
)
def test_contrasts_of_views_that_look_alike_are_a_logarithm(name: str, expected: int) -> None:
    alike = torch.ones(5, 3)
    found = CONTRASTS[name][0](alike, alike, layout_of(5), temperature=0.3)
    torch.testing.assert_close(found, torch.full((5,), math.log(expected)))


@pytest.mark.parametrize("name", ["inter", "intra", "nt-xent"])
def test_one_utterance_has_nothing_to_contrast(name: str) -> None:
    u, v = torch.randn(2, 1, 4, requires_grad=True)
    loss = CONTRASTS[name][0](u, v, layout_of(1), temperature=0.2)
    loss.sum().backward()
    torch.testing.assert_close(loss, torch.zeros(1))


PYGCL = {
    # utterances, temperature: loss, norm of the gradients of both views
    (1, 0.2): (1.67930549, 1.39743791, 1.42510189),
    (1, 1.0): (0.85124443, 0.19690186, 0.20079977),
    (2, 0.2): (1.35438992, 0.90509383, 0.87182584),
    (2, 1.0): (1.01068926, 0.15774116, 0.19875909),
    (5, 0.2): (1.32329510, 0.48743393, 0.42703580),
    (5, 1.0): (1.74960788, 0.13744219, 0.10319587),
    (57, 0.2): (2.64512964, 0.21691753, 0.22908764),
    (57, 1.0): (4.00998018, 0.04341272, 0.04562019),
}
"""Outputs of PyGCL (commit 0e1bacb), which the released code calls, for `pygcl_views` in float64:
`DualBranchContrast(InfoNCE(tau), mode="L2L", intraview_negs=True)`, a mean over utterances, and its gradients."""


def pygcl_views(utterances: int) -> tuple[Tensor, Tensor]:
    place = torch.arange(6.0 * utterances, dtype=torch.float64).view(utterances, 6)
    first = torch.sin(place * place + 1.0)
    return first.float(), (first + 0.7 * torch.cos(3.0 * place)).float()


@pytest.mark.parametrize(("utterances", "temperature"), PYGCL)
def test_nt_xent_with_the_anchor_among_its_negatives_is_that_of_pygcl(utterances: int, temperature: float) -> None:
    u, v = (view.requires_grad_() for view in pygcl_views(utterances))
    layout = layout_of(utterances)
    loss = terms.nt_xent(u, v, layout, temperature=temperature, self_negative=True).mean()
    loss.backward()
    assert u.grad is not None
    assert v.grad is not None
    found = (loss.item(), u.grad.norm().item(), v.grad.norm().item())
    assert found == pytest.approx(PYGCL[utterances, temperature], rel=2e-6, abs=1e-6)


def test_nt_xent_of_one_pair_and_of_equal_views_has_closed_values() -> None:
    """One pair: half of log(1 + e^((1 - s) / t)) per direction; its views at right angles: log(1 + e^(1 / t))."""
    u, v = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    loss = terms.nt_xent(u, v, layout_of(1), temperature=0.2, self_negative=True)
    torch.testing.assert_close(loss, torch.tensor([math.log(1 + math.exp(5.0))]))
    equal = terms.nt_xent(u, u, layout_of(1), temperature=0.2, self_negative=True)
    torch.testing.assert_close(equal, torch.tensor([math.log(2)]))


@pytest.mark.parametrize("name", CONTRASTS)
def test_conversations_are_contrasted_separately(name: str) -> None:
    contrast = CONTRASTS[name][0]
    u, v = torch.randn(2, 9, 4)
    together = contrast(u, v, layout_of(4, 1, 4), temperature=0.2)
    alone = [contrast(u[s], v[s], layout_of(s.stop - s.start), temperature=0.2) for s in spans(layout_of(4, 1, 4))]
    torch.testing.assert_close(together, torch.cat(alone))


@pytest.mark.parametrize("name", CONTRASTS)
def test_contrasts_ignore_the_length_of_a_vector(name: str) -> None:
    u, v = torch.randn(2, 4, 3)
    contrast = CONTRASTS[name][0]
    scaled = contrast(7 * u, v / 9, layout_of(4), temperature=0.2)
    torch.testing.assert_close(scaled, contrast(u, v, layout_of(4), temperature=0.2))


@pytest.mark.parametrize("name", CONTRASTS)
def test_contrasts_of_zero_vectors_are_finite(name: str) -> None:
    u = torch.zeros(4, 3, requires_grad=True)
    CONTRASTS[name][0](u, u, layout_of(3, 1), temperature=0.2).sum().backward()
    assert torch.isfinite(u.grad).all()


def test_cross_entropy_equals_torchs() -> None:
    scores, labels = torch.randn(6, 4), torch.tensor([0, 3, 2, 1, 0, 2])
    weights = torch.tensor([0.5, 1.0, 2.0, 4.0])
    torch.testing.assert_close(
        terms.cross_entropy(scores, labels, weights), F.cross_entropy(scores, labels, weights, reduction="none")
    )


def test_label_smoothing_equals_torchs() -> None:
    scores, labels = torch.randn(6, 4), torch.tensor([0, 3, 2, 1, 0, 2])
    found = terms.cross_entropy(scores, labels, torch.ones(4), label_smoothing=0.1)
    torch.testing.assert_close(found, F.cross_entropy(scores, labels, reduction="none", label_smoothing=0.1))


def test_equal_scores_cost_log_k() -> None:
    found = terms.cross_entropy(torch.zeros(2, 7), torch.tensor([0, 6]), torch.ones(7))
    torch.testing.assert_close(found, torch.full((2,), math.log(7)))


def test_focal_loss_scales_by_the_distance_to_certainty() -> None:
    scores, labels = torch.randn(5, 3), torch.tensor([0, 1, 2, 1, 0])
    weights = torch.tensor([1.0, 2.0, 3.0])
    for row, label in enumerate(labels.tolist()):
        p = torch.softmax(scores[row], 0)[label]
        found = terms.cross_entropy(scores[row : row + 1], labels[row : row + 1], weights, focal_gamma=2.0)
        torch.testing.assert_close(found[0], -weights[label] * (1 - p) ** 2 * torch.log(p))


def test_focal_gradients_are_finite_if_the_model_is_certain() -> None:
    scores = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
    terms.cross_entropy(scores, torch.tensor([0, 0]), torch.ones(2), focal_gamma=0.5).sum().backward()
    assert torch.isfinite(scores.grad).all()


def test_binary_cross_entropy_is_the_mean_over_the_labels() -> None:
    scores, targets = torch.randn(5, 3), (torch.rand(5, 3) < 0.5).float()
    expected = F.binary_cross_entropy_with_logits(scores, targets, reduction="none").mean(1)
    torch.testing.assert_close(terms.binary_cross_entropy(scores, targets), expected)
    torch.testing.assert_close(terms.binary_cross_entropy(torch.zeros(5, 3), targets), torch.full((5,), math.log(2)))


def test_absolute_error_equals_l1() -> None:
    scores, targets = torch.randn(5, 1), torch.randn(5)
    expected = F.l1_loss(scores.squeeze(1), targets, reduction="none")
    torch.testing.assert_close(terms.absolute_error(scores, targets), expected)


@pytest.mark.parametrize(
    ("loss", "labels"),
    [
        (lambda s, y: terms.cross_entropy(s, y, torch.ones(3), focal_gamma=1.0, label_smoothing=0.1), [1, -1, 0]),
        (terms.binary_cross_entropy, [[0.0, 1, 1], [math.nan] * 3, [1.0, 0, 0]]),
        (lambda s, y: terms.absolute_error(s[:, :1], y), [1.0, math.nan, 0.5]),
    ],
    ids=["single-label", "multi-label", "regression"],
)
def test_unlabeled_utterances_cost_nothing(loss: Callable[[Tensor, Tensor], Tensor], labels: list) -> None:
    scores = torch.randn(3, 3, requires_grad=True)
    found = loss(scores, torch.tensor(labels))
    found.sum().backward()
    assert found[1] == 0
    assert torch.equal(scores.grad[1], torch.zeros(3))
    assert (found[[0, 2]] > 0).all()


def test_reconstruction_is_the_mean_squared_error_of_each_utterance() -> None:
    rebuilt, target = torch.randn(2, 4, 6)
    expected = torch.stack([F.mse_loss(a, b) for a, b in zip(rebuilt, target, strict=True)])
    torch.testing.assert_close(terms.reconstruction(rebuilt, target), expected)


def test_smoothing_costs_nothing_for_the_first_of_a_conversation() -> None:
    contextual, topic = torch.randn(2, 5, 3)
    found = terms.smoothing(contextual, topic, layout_of(2, 3))
    expected = terms.reconstruction(contextual, topic)
    expected[[0, 2]] = 0
    torch.testing.assert_close(found, expected)
