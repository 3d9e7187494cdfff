"""The terms of the objective as pure functions; each returns one loss per utterance, so that ranks can add sums.

Shapes: N = utterances of the micro-batch, K = labels, D = any width, E = embedding width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from joyful_ray.data.batch import Layout
from joyful_ray.model.precision import at_least_fp32
from joyful_ray.schema import Task


def cross_entropy(
    scores_NK: Tensor, labels_N: Tensor, weight_K: Tensor, *, focal_gamma: float = 0.0, label_smoothing: float = 0.0
) -> Tensor:
    """Cross-entropy of each utterance in nats, times the weight of its class; log(K) for equal scores.

    Args:
        scores_NK: logits.
        labels_N: label ids; -1 means unlabeled, with loss 0.
        weight_K: class weights.
        focal_gamma: > 0 multiplies by (1 - p)^gamma (Lin et al., ICCV 2017).
        label_smoothing: share of the target that is spread evenly over all labels.

    Returns:
        (N,).
    """
    log_NK = F.log_softmax(at_least_fp32(scores_NK), dim=1)
    labeled_N = labels_N >= 0
    own_N = log_NK.gather(1, labels_N.clamp(min=0)[:, None]).squeeze(1)
    loss_N = -(1.0 - label_smoothing) * own_N - label_smoothing * log_NK.mean(dim=1)
    if focal_gamma:
        loss_N = loss_N * (1.0 - own_N.exp()).clamp(min=1e-6) ** focal_gamma
    return loss_N * weight_K[labels_N.clamp(min=0)] * labeled_N


def binary_cross_entropy(scores_NK: Tensor, indicators_NK: Tensor) -> Tensor:
    """Mean binary cross-entropy over the labels of each utterance; log(2) for zero scores, 0 if unlabeled (NaN).

    Returns:
        (N,).
    """
    labeled_N = ~torch.isnan(indicators_NK).any(dim=1)
    targets_NK = torch.nan_to_num(indicators_NK)
    loss_NK = F.binary_cross_entropy_with_logits(at_least_fp32(scores_NK), targets_NK, reduction="none")
    return loss_NK.mean(dim=1) * labeled_N


def absolute_error(scores_NK: Tensor, targets_N: Tensor) -> Tensor:
    """|score - target| of each utterance, 0 if unlabeled (NaN): (N,)."""
    labeled_N = ~torch.isnan(targets_N)
    return (at_least_fp32(scores_NK).squeeze(1) - torch.nan_to_num(targets_N)).abs() * labeled_N


def divergence(first_NK: Tensor, second_NK: Tensor, task: Task) -> Tensor:
    """How far the predictions of two passes lie apart: (N,), 0 if they are equal, symmetric.

    Args:
        first_NK, second_NK: scores of the two passes.
        task: `single-label`: mean of the two Kullback-Leibler divergences in nats. `multi-label`: the same for each
            label, averaged over labels. `regression`: squared difference.

    Source: Liang et al., R-Drop, NeurIPS 2021, equation 2.
    """
    first_NK, second_NK = at_least_fp32(first_NK), at_least_fp32(second_NK)
    if task == "regression":
        return (first_NK - second_NK).square().squeeze(1)
    if task == "multi-label":
        gap_NK = torch.sigmoid(first_NK) - torch.sigmoid(second_NK)
        return 0.5 * (gap_NK * (first_NK - second_NK)).mean(dim=1)
    first, second = F.log_softmax(first_NK, dim=1), F.log_softmax(second_NK, dim=1)
    return 0.5 * ((first.exp() - second.exp()) * (first - second)).sum(dim=1)


def reconstruction(rebuilt_ND: Tensor, target_ND: Tensor) -> Tensor:
    """Squared error of each utterance, averaged over dimensions: (N,).

    Source: JOYFUL, section 3.3 (J_rec); METHOD.md, choice 8.
    """
    return (at_least_fp32(rebuilt_ND) - at_least_fp32(target_ND)).square().mean(dim=1)


def rebuilt(rebuilt_NW: Tensor, features_NW: Tensor) -> Tensor:
    """Squared error of each utterance, averaged over the features that are not missing (NaN); 0 if all are: (N,)."""
    known = ~torch.isnan(features_NW)
    error_NW = (at_least_fp32(rebuilt_NW) - at_least_fp32(torch.nan_to_num(features_NW))).square() * known
    return error_NW.sum(dim=1) / known.sum(dim=1).clamp(min=1)


def smoothing(contextual_ND: Tensor, topic_ND: Tensor, layout: Layout) -> Tensor:
    """Squared distance from the topic so far, averaged over dimensions; 0 for the first utterance of a conversation.

    Returns:
        (N,).

    Source: JOYFUL, section 3.3 (J_smooth); METHOD.md, choice 5.
    """
    return reconstruction(contextual_ND, topic_ND) * (layout.position_N > 0)


def inter_view_contrast(anchor_NE: Tensor, other_NE: Tensor, layout: Layout, *, temperature: float) -> Tensor:
    """Pull the two views of each utterance together, and push it from other utterances in the other view (InfoNCE).

    Args:
        anchor_NE, other_NE: embeddings of the same utterances in two views.
        layout: groups of negatives: conversations, or the whole micro-batch as one group.
        temperature: > 0; cosine similarities are divided by it.

    Returns:
        The loss of each anchor in nats, (N,); log(n) in a group of n whose views are all alike, 0 if n is 1.

    Source: JOYFUL, section 3.4.3, with a temperature.
    """
    across_CLL = _hide(_similarities(anchor_NE, other_NE, layout, temperature), layout)
    return layout.unpad(torch.logsumexp(across_CLL, dim=2) - across_CLL.diagonal(dim1=1, dim2=2))


def intra_view_contrast(
    anchor_NE: Tensor, other_NE: Tensor, layout: Layout, *, temperature: float, self_negative: bool = False
) -> Tensor:
    """Pull the two views of each utterance together, and push it from other utterances in its own view.

    Args:
        anchor_NE, other_NE, layout, temperature: as for `inter_view_contrast`.
        self_negative: whether the denominator includes the anchor itself, e^(1 / temperature). The formula of the paper
            includes it, its text does not.

    Returns:
        The loss of each anchor in nats, (N,). In a group of n whose views are all alike it is log(n - 1), or 0 if n is
        1; with `self_negative` it is log(n).

    Source: JOYFUL, section 3.4.3; METHOD.md, choice 16.
    """
    positive_CL = _positives(anchor_NE, other_NE, layout, temperature)
    if self_negative:
        return layout.unpad(_within_view(anchor_NE, layout, temperature, self_negative=True) - positive_CL)
    within_CLL = _hide(_similarities(anchor_NE, anchor_NE, layout, temperature), layout, diagonal=True)
    alone_C11 = (layout.lengths_C == 1)[:, None, None]
    within_CLL = torch.where(alone_C11, positive_CL[:, :, None], within_CLL)
    within_CLL = within_CLL.masked_fill(alone_C11 & _off_diagonal(within_CLL), float("-inf"))
    return layout.unpad(torch.logsumexp(within_CLL, dim=2) - positive_CL)


def nt_xent(
    anchor_NE: Tensor,
    other_NE: Tensor,
    layout: Layout,
    *,
    temperature: float,
    inter: bool = True,
    intra: bool = True,
    self_negative: bool = False,
) -> Tensor:
    """InfoNCE with the negatives of both views in one denominator, averaged over both directions.

    Per anchor: -log(e^(s(u_i, v_i)/t) / (sum_j e^(s(u_i, v_j)/t) + sum_j e^(s(u_i, u_j)/t))), in which the second sum
    leaves out j = i, unless `self_negative` is true. PyGCL's `DualBranchContrast`, which the released code calls,
    includes it.

    Args:
        anchor_NE, other_NE: embeddings of the same utterances in two views.
        layout: groups of negatives.
        temperature: > 0; cosine similarities are divided by it.
        inter, intra: whether to use negatives of the other view, and of the anchor's own view.
        self_negative: whether the negatives of the anchor's own view include the anchor itself, e^(1 / temperature).

    Returns:
        The loss of each utterance in nats, (N,). In a group of n whose views are all alike it is log(2 n - 1), or
        log(2 n) with `self_negative`.

    Source: METHOD.md, R5.
    """
    across_CLL = _hide(_similarities(anchor_NE, other_NE, layout, temperature), layout)
    positive_CL = across_CLL.diagonal(dim1=1, dim2=2)
    total = torch.zeros_like(positive_CL)
    for view_NE, dimension in ((anchor_NE, 2), (other_NE, 1)):
        denominator_CL = torch.logsumexp(across_CLL, dim=dimension) if inter else positive_CL
        if intra:
            # Recomputed in the backward pass; otherwise three square matrices of the whole micro-batch would be stored.
            within_CL = checkpoint(
                _within_view,
                view_NE,
                layout,
                temperature,
                self_negative=self_negative,
                use_reentrant=False,
                preserve_rng_state=False,
            )
            denominator_CL = torch.logaddexp(denominator_CL, within_CL)
        total = total + denominator_CL
    return layout.unpad(total / 2 - positive_CL)


def _within_view(view_NE: Tensor, layout: Layout, temperature: float, *, self_negative: bool) -> Tensor:
    """Log of the sum over the utterances of a view, (C, L)."""
    within_CLL = _hide(_similarities(view_NE, view_NE, layout, temperature), layout, diagonal=not self_negative)
    return torch.logsumexp(within_CLL, dim=2)


def _similarities(left_NE: Tensor, right_NE: Tensor, layout: Layout, temperature: float) -> Tensor:
    left_CLE = layout.pad(F.normalize(at_least_fp32(left_NE), dim=1) / temperature)
    right_CLE = layout.pad(F.normalize(at_least_fp32(right_NE), dim=1))
    return left_CLE @ right_CLE.transpose(1, 2)


def _positives(left_NE: Tensor, right_NE: Tensor, layout: Layout, temperature: float) -> Tensor:
    return layout.pad(F.cosine_similarity(at_least_fp32(left_NE), at_least_fp32(right_NE), dim=1) / temperature)


def _hide(similarity_CLL: Tensor, layout: Layout, *, diagonal: bool = False) -> Tensor:
    """Set padding, and the diagonal, to -inf in place; padding keeps its similarity to padding, so nothing is NaN."""
    if not bool(layout.valid_CL.all()):
        is_mixed = layout.valid_CL[:, :, None] != layout.valid_CL[:, None, :]
        similarity_CLL = similarity_CLL.masked_fill_(is_mixed, float("-inf"))
    if diagonal:
        own = layout.valid_CL[:, :, None] & ~_off_diagonal(similarity_CLL)
        similarity_CLL = similarity_CLL.masked_fill_(own, float("-inf"))
    return similarity_CLL


def _off_diagonal(square_CLL: Tensor) -> Tensor:
    return ~torch.eye(square_CLL.shape[-1], dtype=torch.bool, device=square_CLL.device)
