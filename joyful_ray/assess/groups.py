"""Computes scores by speaker, by attributes of the speakers, by length, position and modalities, with intervals.

Shapes: N = utterances, C = conversations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from joyful_ray.assess.bootstrap import intervals
from joyful_ray.assess.labeled_predictions import LabeledPredictions
from joyful_ray.assess.overlap import repeats
from joyful_ray.assess.scored_split import ScoredSplit
from joyful_ray.records import GroupScore, Interval
from joyful_ray.schema import UNKNOWN_VALUE
from joyful_ray.wording import counted

MAX_SPEAKERS, MIN_SPEAKER_UTTERANCES = 12, 20
"""Other speakers form one group."""
LENGTHS = (1, 2, 6, 11, 21, 41)
"""Smallest length of each bin."""
POSITIONS = (1, 2, 6, 11, 21)
"""Smallest position of each bin, from 1."""
LINES, REPEATED, UNSEEN = "training lines", "conversations that repeat one", "conversations that repeat none"


def group_scores(
    predictions: LabeledPredictions, scored: ScoredSplit, known: frozenset[str] | None = None
) -> dict[str, list[GroupScore]]:
    """Compute the main measure for each group, and its gap to all other utterances.

    Groups without a labeled utterance are left out. The gap is resampled with its conversations, so that both of its
    sides see the same ones.

    Args:
        predictions: labeled utterances of the split.
        scored: the split.
        known: lines in the training data; with them, conversations that repeat one are scored separately.

    Returns:
        Scores by name of the grouping, such as "speaker".
    """
    owner_N = scored.owner_N[predictions.index_N]
    return {
        name: [_score(predictions, owner_N, group, mask_N) for group, mask_N in groups]
        for name, groups in _groupings(predictions.index_N, scored, known)
    }


def _groupings(
    index_N: NDArray, scored: ScoredSplit, known: frozenset[str] | None
) -> Iterator[tuple[str, Iterator[tuple[str, NDArray[np.bool_]]]]]:
    length_N = scored.lengths_C[scored.owner_N][index_N]
    yield "speaker", _speakers([scored.speakers_N[index] for index in index_N])
    for name, values_N in scored.attributes.items():
        yield name, _values(np.array([values_N[index] or UNKNOWN_VALUE for index in index_N], dtype=object))
    yield "conversation length", _bins(length_N, LENGTHS)
    yield "position", _bins(scored.position_N[index_N] + 1, POSITIONS)
    yield "modalities", _values(scored.presence_N[index_N])
    if known is not None and scored.texts_N is not None:
        repeated_N = repeats(scored.texts_N, scored.owner_N, known)[index_N]
        yield LINES, _values(np.where(repeated_N, REPEATED, UNSEEN).astype(object))


def _speakers(names_N: list[str]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    counts = Counter(names_N)
    shown = [name for name, count in counts.most_common(MAX_SPEAKERS) if count >= MIN_SPEAKER_UTTERANCES]
    array_N = np.array(names_N, dtype=object)
    for name in shown:
        yield name, array_N == name
    others = len(counts) - len(shown)
    if others:
        yield f"({counted(others, 'other')})", ~np.isin(names_N, shown) if shown else np.ones(len(names_N), bool)


def _bins(values_N: NDArray[np.int64], firsts: tuple[int, ...]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    for first, next_first in zip(firsts, (*firsts[1:], None), strict=True):
        mask_N = values_N >= first if next_first is None else (values_N >= first) & (values_N < next_first)
        if mask_N.any():
            last = "or more" if next_first is None else f"to {next_first - 1}"
            yield str(first) if next_first == first + 1 else f"{first} {last}", mask_N


def _values(values_N: NDArray) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    for value in sorted(set(values_N), key=lambda name: (-str(name).count("+"), str(name))):
        yield str(value), values_N == value


def _score(predictions: LabeledPredictions, owner_N: NDArray, group: str, mask_N: NDArray[np.bool_]) -> GroupScore:
    part = predictions.select(mask_N)
    conversations, owner_M = np.unique(owner_N[mask_N], return_inverse=True)
    counts = part.counts(owner_M, len(conversations))
    gap, gap_interval = _gap(predictions, owner_N, mask_N)
    return GroupScore(
        group=group,
        utterances=int(mask_N.sum()),
        conversations=len(conversations),
        score=float(part.measures(counts.sum(axis=0))[0]),
        interval=intervals(counts, lambda cells: part.measures(cells)[..., :1])[0],
        gap=gap,
        gap_interval=gap_interval,
    )


def _gap(
    predictions: LabeledPredictions, owner_N: NDArray, mask_N: NDArray[np.bool_]
) -> tuple[float | None, Interval | None]:
    """The score of a group minus that of all other utterances, and its interval."""
    if mask_N.all():
        return None, None
    conversations, owner_N = np.unique(owner_N, return_inverse=True)
    sides = [predictions.select(side).counts(owner_N[side], len(conversations)) for side in (mask_N, ~mask_N)]
    width = sides[0].shape[1]

    def difference(cells: NDArray[np.float64]) -> NDArray[np.float64]:
        mine, others = (predictions.measures(part)[..., :1] for part in (cells[..., :width], cells[..., width:]))
        return mine - others

    counts = np.concatenate(sides, axis=1)
    return float(difference(counts.sum(axis=0))[0]), intervals(counts, difference)[0]
