"""The alignment term: one modality of an utterance should find the other in the basis that both share.

Shapes: N = utterances of the micro-batch, S = width of the shared space.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations

import torch
from torch import Tensor

from joyful_ray.data.batch import Batch, Layout
from joyful_ray.errors import ConfigError
from joyful_ray.objective.terms import nt_xent
from joyful_ray.schema import Modality


def alignment(shared: Mapping[Modality, Tensor], batch: Batch, *, temperature: float, in_batch: bool) -> Tensor:
    """Pull the modalities of each utterance together, and push other utterances apart (InfoNCE in both directions).

    Args:
        shared: per modality (N, S), its vectors in the space that all modalities share.
        batch: says which utterances have a modality; the others neither count nor serve as negatives.
        temperature: > 0; cosine similarities are divided by it.
        in_batch: whether negatives come from the whole micro-batch, or from the same conversation.

    Returns:
        The sum over pairs of modalities, and over the utterances that have both, in nats. Each adds log(n) in a group
        of n whose vectors are all alike.

    Raises:
        ConfigError: `shared` lacks a modality, as that of a fusion of the user may.

    Source: Radford et al., CLIP, ICML 2021, section 2.3, with a fixed temperature.
    """
    missing = [name for name in batch.given if name not in shared]
    if missing:
        raise ConfigError(f"objective.alignment_weight: the fusion gives no vectors of {missing[0]} (Fused.shared)")
    total = torch.zeros((), device=batch.speakers_N.device)
    for first, second, has_both_N in _pairs(batch):
        lengths_C = torch.bincount(batch.layout.conversation_N[has_both_N], minlength=len(batch.lengths_C))
        lengths_C = lengths_C.sum()[None] if in_batch else lengths_C[lengths_C > 0]
        if int(lengths_C.sum()) == 0:
            continue
        ours, others = shared[first][has_both_N], shared[second][has_both_N]
        total = total + nt_xent(ours, others, Layout.of(lengths_C), temperature=temperature, intra=False).sum()
    return total


def aligned(batch: Batch) -> Tensor:
    """The number of pairs that `alignment` adds up: the divisor of its sum."""
    return sum((has_both_N.sum() for _, _, has_both_N in _pairs(batch)), torch.zeros((), device=batch.labels.device))


def _pairs(batch: Batch) -> Iterator[tuple[Modality, Modality, Tensor]]:
    """Each pair of modalities, with the utterances that have both, (N,) bool."""
    for first, second in combinations(batch.given, 2):
        yield first, second, batch.given[first] & batch.given[second]
