"""What a retrieval across modalities scored."""

from __future__ import annotations

from joyful_ray.records.assessments import Interval
from joyful_ray.records.reading import Record
from joyful_ray.schema import Modality


class RetrievalScores(Record):
    """How well one modality of an utterance finds another one of the same utterance.

    Attributes:
        source, target: the modality that searches, and the one that is searched.
        utterances: number of queries, and of candidates: the utterances that have both.
        values: `recall@1`, `recall@5`, `recall@10` and `mean_reciprocal_rank`.
        chance: what a random order scores.
        intervals: 95 % intervals of the values over conversations.
    """

    source: Modality
    target: Modality
    utterances: int
    values: dict[str, float]
    chance: dict[str, float]
    intervals: dict[str, Interval] = {}
