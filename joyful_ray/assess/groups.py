"""Scores by speaker, conversation length, position and modality presence, each with its interval.

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
from joyful_ray.records import GroupScore

SPEAKERS_SHOWN, SPEAKER_UTTERANCES = 12, 20
LENGTHS = (1, 2, 6, 11, 21, 41)
"""First length of each bin."""
POSITIONS = (1, 2, 6, 11, 21)
LINES, REPEATED, UNSEEN = "lines of training", "conversations that repeat one", "conversations that repeat none"


def group_scores(
    judgement: LabeledPredictions, answered: ScoredSplit, known: frozenset[str] | None = None
) -> dict[str, list[GroupScore]]:
    """The judgement's first measure over each group of each grouping, groups without a labeled utterance left out.

    Args:
        known: lines that training could see; then conversations that repeat one are a group of their own.
    """
    owner_N = answered.owner_N[judgement.place_N]
    return {
        name: [_score(judgement, owner_N, group, member_N) for group, member_N in groups]
        for name, groups in _groupings(judgement.place_N, answered, known)
    }


def _groupings(
    place_N: NDArray, answered: ScoredSplit, known: frozenset[str] | None
) -> Iterator[tuple[str, Iterator[tuple[str, NDArray[np.bool_]]]]]:
    length_N = answered.lengths_C[answered.owner_N][place_N]
    yield "speaker", _speakers([answered.speakers_N[place] for place in place_N])
    yield "conversation length", _bins(length_N, LENGTHS)
    yield "position", _bins(answered.position_N[place_N] + 1, POSITIONS)
    yield "modalities", _values(answered.presence_N[place_N])
    if known is not None and answered.texts_N is not None:
        repeated_N = repeats(answered.texts_N, answered.owner_N, known)[place_N]
        yield LINES, _values(np.where(repeated_N, REPEATED, UNSEEN).astype(object))


def _speakers(names_N: list[str]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    counts = Counter(names_N)
    shown = [name for name, count in counts.most_common(SPEAKERS_SHOWN) if count >= SPEAKER_UTTERANCES]
    array_N = np.array(names_N, dtype=object)
    for name in shown:
        yield name, array_N == name
    others = len(counts) - len(shown)
    if others:
        yield f"({others} others)", ~np.isin(names_N, shown) if shown else np.ones(len(names_N), bool)


def _bins(values_N: NDArray[np.int64], firsts: tuple[int, ...]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    for first, after in zip(firsts, (*firsts[1:], None), strict=True):
        member_N = values_N >= first if after is None else (values_N >= first) & (values_N < after)
        if member_N.any():
            last = "or more" if after is None else f"to {after - 1}"
            yield str(first) if after == first + 1 else f"{first} {last}", member_N


def _values(values_N: NDArray) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    for value in sorted(set(values_N), key=lambda name: (-str(name).count("+"), str(name))):
        yield str(value), values_N == value


def _score(judgement: LabeledPredictions, owner_N: NDArray, group: str, member_N: NDArray[np.bool_]) -> GroupScore:
    part = judgement.only(member_N)
    conversations, owner_M = np.unique(owner_N[member_N], return_inverse=True)
    counts = part.counts(owner_M, len(conversations))
    return GroupScore(
        group=group,
        utterances=int(member_N.sum()),
        conversations=len(conversations),
        score=float(part.measures(counts.sum(axis=0))[0]),
        interval=intervals(counts, lambda cells: part.measures(cells)[..., :1])[0],
    )
