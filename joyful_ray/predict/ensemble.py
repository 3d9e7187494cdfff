"""Several bundles as one: their probabilities are averaged, or their numbers for regression.

Shapes: N = utterances, K = labels.
"""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Sequence

import torch
from torch import Tensor

from joyful_ray.errors import ConfigError
from joyful_ray.predict.decoder import PredictionDecoder
from joyful_ray.train.bundle import Bundle


def check_alike(bundles: Sequence[Bundle]) -> None:
    """Check that bundles can be averaged.

    Raises:
        ConfigError: their tasks or labels differ, or one is named twice.
    """
    first = bundles[0]
    for other in bundles[1:]:
        if (other.encoding.task, other.encoding.labels) != (first.encoding.task, first.encoding.labels):
            raise ConfigError(
                f"{other.location.uri} predicts {_described(other)}, but {first.location.uri} {_described(first)}; "
                "only bundles with the same labels can be averaged"
            )
    places = [bundle.location.uri for bundle in bundles]
    for place in places:
        if places.count(place) > 1:
            raise ConfigError(f"{place} is named twice; it would count twice in the average")


def combined(scores: Sequence[Tensor], decoders: Sequence[PredictionDecoder]) -> Tensor:
    """The scores whose probabilities, at temperature 1, are the mean of those of the members: (N, K).

    Args:
        scores: of each member, (N, K).
        decoders: of each member.
    """
    if decoders[0].task == "regression":
        return torch.stack(list(scores)).mean(dim=0)
    pairs = zip(decoders, scores, strict=True)
    mean_NK = torch.stack([decoder.probabilities(each) for decoder, each in pairs]).mean(dim=0)
    return mean_NK.log() if decoders[0].task == "single-label" else torch.logit(mean_NK, eps=1e-12)


def combined_decoder(decoders: Sequence[PredictionDecoder]) -> PredictionDecoder:
    """The decoder for combined scores; a threshold is the mean of the members' calibrated ones."""
    first = decoders[0]
    thresholds = {
        name: statistics.fmean(decoder.calibrated_thresholds[name] for decoder in decoders)
        for name in first.calibrated_thresholds
    }
    return PredictionDecoder(first.task, first.labels, thresholds=thresholds)


def joint_hash(bundles: Sequence[Bundle]) -> str:
    """sha256 of a bundle, or of several in any order."""
    if len(bundles) == 1:
        return bundles[0].hash
    return hashlib.sha256("".join(sorted(bundle.hash for bundle in bundles)).encode()).hexdigest()


def _described(bundle: Bundle) -> str:
    return f"{bundle.encoding.task} {', '.join(bundle.encoding.labels)}".strip()
