"""What a study writes when it ends."""

from __future__ import annotations

from typing import Any

from joyful_ray.records.reading import Record
from joyful_ray.records.seeds import Spread
from joyful_ray.schema import Split

STUDY_RECORD = "study.json"


class StudyGroup(Record):
    """A group of utterances under one variant.

    Attributes:
        kind: what the groups are of: speaker, or an attribute of the speakers.
        score: mean and standard deviation over seeds.
        gap: mean over seeds of the score minus that of all other utterances.
        low, high: bounds of the interval of the gap.
    """

    kind: str
    group: str
    utterances: int
    score: Spread
    gap: float
    low: float
    high: float


class StudyRow(Record):
    """One variant on one corpus.

    Attributes:
        removed: modality that was removed when the variant was scored; None for none.
        scores: the score of each seed on the split that is compared.
        score: their mean and standard deviation.
        dev: mean and standard deviation of the score on dev, which selected the epochs; None with `removed`.
        difference, low, high: mean difference to the reference and the bounds of its interval, greater is better; None
            for the reference itself.
        verdict: one sentence: what is and is not distinguishable.
        groups: groups of utterances compared with all others.
        measures: mean and standard deviation of other scores, and of losses and diagnostics at the selected epoch.
        epochs: mean number of epochs trained.
    """

    corpus: str
    variant: str
    removed: str | None = None
    scores: dict[int, float]
    score: Spread
    dev: Spread | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    verdict: str
    groups: list[StudyGroup] = []
    measures: dict[str, Spread] = {}
    epochs: float = 0.0


class StudyRecord(Record):
    """`study.json`: variants of a job compared over corpora and seeds.

    Attributes:
        question: what the study asks.
        metric: the score that is compared.
        greater_is_better: its direction.
        split: by corpus, the split that is compared: test, or dev if the corpus has no test.
        folds: number of parts of a cross-validation; `dev` then means all of them. None if there is none.
        variants: settings of each variant by path.
        level: joint confidence level of the intervals of a corpus.
        failures: by run, why it failed; while there are any, test is not read and rows compare dev.
        test_reads: how often a trained model was scored on test: once per run, once more for each removed modality, and
            once more if groups were added to a finished study.
    """

    name: str
    question: str
    metric: str
    greater_is_better: bool
    corpora: dict[str, dict[str, str]]
    split: dict[str, Split]
    variants: dict[str, dict[str, Any]]
    reference: str
    seeds: list[int]
    folds: int | None = None
    axis: str = ""
    level: float
    rows: list[StudyRow]
    failures: dict[str, str] = {}
    test_reads: int
    seconds: float
    versions: dict[str, str]
