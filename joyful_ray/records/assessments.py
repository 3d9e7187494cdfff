"""What the assessment of a model gives: scores with intervals, and transfer tables between corpora."""

from __future__ import annotations

from joyful_ray.records.reading import Record
from joyful_ray.records.scores import Scores
from joyful_ray.schema import Modality


class Interval(Record):
    """95 % interval of a score, from resampling whole conversations."""

    low: float
    high: float


class GroupScore(Record):
    """The selection score (weighted F1, or the mean absolute error) over a group of utterances.

    Attributes:
        conversations: number of conversations that have an utterance of the group.
        interval: None if fewer than two conversations have such utterances.
        gap: the score minus that of all other utterances; None if there are none.
        gap_interval: None if there is no gap, or fewer than two conversations.
    """

    group: str
    utterances: int
    conversations: int
    score: float
    interval: Interval | None
    gap: float | None = None
    gap_interval: Interval | None = None


class Calibration(Record):
    """Expected calibration error over 15 bins, of the raw probabilities and at the bundle's temperature."""

    error: float
    interval: Interval | None
    temperature: float | None = None
    error_at_temperature: float | None = None
    interval_at_temperature: Interval | None = None


class ModalityShift(Record):
    """How far one modality's features differ from those of the training data, in standard deviations of training.

    Attributes:
        present_share: share of utterances that have a vector.
        mean_shift: root mean square over the features of the distance between the two means; 0 means no shift.
        largest_mean_shift: the same distance for the feature that moved most.
        width_ratio: median over the features of their standard deviation; 1 means no shift.
        width_low, width_high: 5th and 95th percentile of the same ratio.
        far_share: share of utterances whose features are, root mean square, more than two standard deviations from the
            training mean.
    """

    present_share: float
    mean_shift: float
    largest_mean_shift: float
    width_ratio: float
    width_low: float
    width_high: float
    far_share: float


class Assessment(Scores):
    """Scores of a bundle on a split of any corpus, with everything that says how far to trust them.

    Attributes:
        conversations: number of conversations with a scored utterance.
        intervals: interval of each entry of `values`.
        groups: scores by speaker, conversation length, position and modality presence.
        shift: shift of each modality that both sides have; empty if the bundle does not normalise features.
        label_map: names of both sides if the labels were mapped; the scores are then over the labels that both have.
        raw: scores in which labels of the corpus that the map drops count as always missed.
        left_out: number of labeled utterances whose label the map drops.
    """

    conversations: int = 0
    intervals: dict[str, Interval] = {}
    calibration: Calibration | None = None
    groups: dict[str, list[GroupScore]] = {}
    shift: dict[Modality, ModalityShift] = {}
    label_map: dict[str, str] | None = None
    raw: Scores | None = None
    left_out: int = 0


class TransferCell(Record):
    """One cell of a transfer table: a model on a corpus, scored over the labels that all corpora share.

    Attributes:
        utterances, conversations: how many were scored.
        score: weighted F1 over the shared labels; utterances whose label is dropped are left out.
        raw: weighted F1 over all labels of the corpus; labels that the maps drop count as always missed.
        repeating: how many of the conversations repeat a line of the training data; None if there are no texts.
        score_unseen: the score over the other conversations.
    """

    trained_on: list[str]
    tested_on: str
    bundle: str
    utterances: int
    conversations: int
    score: float
    interval: Interval | None
    raw: float
    calibration_error: float | None
    repeating: int | None = None
    score_unseen: float | None = None
    interval_unseen: Interval | None = None


class TransferRecord(Record):
    """`transfer.json`: a transfer table."""

    name: str
    fingerprint: str
    seed: int
    labels: list[str]
    corpora: dict[str, dict[str, str]]
    cells: list[TransferCell]
    versions: dict[str, str]
