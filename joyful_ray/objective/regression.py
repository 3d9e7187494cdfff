"""Losses for numbers, such as the strength of a sentiment: ordered bins, correlation, and weights for rare values.

Shapes: N = utterances of the micro-batch, T = thresholds, B = bins of the training labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from joyful_ray.model.precision import at_least_fp32
from joyful_ray.schema import LABEL_BIN

FLAT = 1e-8


def ordinal(scores_N: Tensor, targets_N: Tensor, thresholds: Sequence[float], *, scale: float) -> Tensor:
    """How wrong a number is about the ordered bins: for each border, whether the target lies above it.

    The probability of lying above a border t is sigmoid((score - t) / scale); the loss is the binary cross-entropy,
    averaged over borders. It is log(2) for a score on the only border.

    Args:
        scores_N: predicted numbers.
        targets_N: true numbers; NaN is unlabeled, with loss 0.
        thresholds: the borders between the bins.
        scale: > 0; how wide the transition at a border is, in units of the target.

    Returns:
        (N,), in nats.

    Source: the proportional odds model (McCullagh 1980) with fixed borders.
    """
    borders_T = torch.tensor(list(thresholds), device=scores_N.device)
    logits_NT = (at_least_fp32(scores_N)[:, None] - borders_T) / scale
    above_NT = (torch.nan_to_num(targets_N)[:, None] > borders_T).float()
    loss_NT = F.binary_cross_entropy_with_logits(logits_NT, above_NT, reduction="none")
    return loss_NT.mean(dim=1) * ~torch.isnan(targets_N)


def discordance(scores_N: Tensor, targets_N: Tensor) -> Tensor:
    """One minus the concordance correlation coefficient of the labeled utterances: a scalar between 0 and 2.

    It is 1 if the scores or the targets are all alike, and 0 without or with one labeled utterance.

    Args:
        scores_N: predicted numbers.
        targets_N: true numbers; NaN is unlabeled.

    Source: Lin 1989, equation 2, with the biased moments of the paper.
    """
    known_N = ~torch.isnan(targets_N)
    guess, truth = at_least_fp32(scores_N)[known_N], at_least_fp32(targets_N[known_N])
    if len(truth) < 2:
        return at_least_fp32(scores_N).sum() * 0.0
    guess_mean, truth_mean = guess.mean(), truth.mean()
    covariance = ((guess - guess_mean) * (truth - truth_mean)).mean()
    spread = (guess - guess_mean).square().mean() + (truth - truth_mean).square().mean()
    return 1.0 - 2.0 * covariance / (spread + (guess_mean - truth_mean).square()).clamp(min=FLAT)


class LabelWeights(nn.Module):
    """Weights of training labels by how rare values near them are (label distribution smoothing).

    The histogram of the labels is smoothed by a Gaussian; a weight is (1 / density) to a power, scaled to a mean of 1
    over the training labels. Values outside the histogram take the weight of its nearest end.

    Args:
        histogram: number of training labels by bin; bin b holds the labels nearest to b * `LABEL_BIN`.
        power: 0 gives equal weights, 1 balances fully.
        bandwidth: standard deviation of the Gaussian, in units of the label.

    Source: Yang et al., Delving into Deep Imbalanced Regression, ICML 2021, section 3.1.
    """

    weight_B: Tensor

    def __init__(self, histogram: Mapping[int, int], *, power: float, bandwidth: float) -> None:
        super().__init__()
        self.first = min(histogram)
        bins = torch.arange(self.first, max(histogram) + 1, dtype=torch.float64)
        count_B = torch.zeros(len(bins), dtype=torch.float64)
        for place, count in histogram.items():
            count_B[place - self.first] = count
        distance_BB = (bins[:, None] - bins[None, :]) * LABEL_BIN / bandwidth
        density_B = torch.exp(-0.5 * distance_BB.square()) @ count_B
        raw_B = density_B.clamp(min=1e-12) ** -power
        self.register_buffer("weight_B", (raw_B * count_B.sum() / (raw_B * count_B).sum()).float(), persistent=False)

    def forward(self, targets_N: Tensor) -> Tensor:
        """The weight of each target, (N,); 0 for NaN."""
        places_N = torch.round(torch.nan_to_num(targets_N) / LABEL_BIN).long() - self.first
        return self.weight_B[places_N.clamp(0, len(self.weight_B) - 1)] * ~torch.isnan(targets_N)
