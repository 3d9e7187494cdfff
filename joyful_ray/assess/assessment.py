"""A bundle on a split of any corpus: scores, and what says how far to trust them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from joyful_ray.assess.bootstrap import intervals
from joyful_ray.assess.groups import group_scores
from joyful_ray.assess.labeled_predictions import MEASURES, LabeledPredictions
from joyful_ray.assess.scored_split import ScoredSplit, answer
from joyful_ray.assess.shared_labels import SharedLabels, directly, mapped_loss
from joyful_ray.corpora.label_map import read_label_map
from joyful_ray.corpora.shards import Corpus, open_corpus
from joyful_ray.errors import CorpusError
from joyful_ray.objective.joint import JointObjective
from joyful_ray.predict.prediction_table import PredictionTable
from joyful_ray.predict.predictor import Predictor
from joyful_ray.records import Assessment, Calibration, Interval, Scores
from joyful_ray.schema import Split
from joyful_ray.train.calibration import calibration_error, reliability_counts
from joyful_ray.train.scores import Tally


def assess_bundle(
    bundle: str, corpus: str, *, split: Split = "test", label_map: str | None = None, device: str = "auto"
) -> Assessment:
    """Score a bundle on one split of any corpus that fits it; a modality that the corpus lacks is not present.

    Args:
        label_map: a YAML that says what the bundle's labels are called in the corpus.

    Raises:
        CheckpointError: there is no bundle, or it is damaged.
        CorpusError: no such split, other features, another task, or a label that the bundle does not know.
        ConfigError: the label map forgets a label.
    """
    mapping = read_label_map(label_map) if label_map is not None else None
    predictor = Predictor.open(bundle, device=device)
    opened = open_corpus(corpus)
    predictor.bundle.check_fits(opened.manifest)
    if mapping is None:
        return assess(predictor, opened, split)
    named = {"from": mapping.source.name, "to": mapping.target.name}
    shared = SharedLabels.between(predictor.answers.labels, opened.manifest.labels, mapping)
    return assess_mapped(predictor, opened, split, shared, named=named)


def assess(predictor: Predictor, corpus: Corpus, split: Split) -> Assessment:
    """Assess a model on a corpus with the same labels."""
    encoding = predictor.bundle.encoding
    if corpus.manifest.task != encoding.task:
        raise CorpusError(
            f"the bundle was trained for {encoding.task}, but the corpus is labeled for {corpus.manifest.task}"
        )
    try:
        answered = answer(predictor, corpus, split, encoding.labels)
    except CorpusError as error:
        unknown = [label for label in corpus.manifest.labels if label not in encoding.labels]
        hint = "; name its counterpart with --label-map FILE" if unknown else ""
        raise CorpusError(f"{error}{hint}") from None
    labeled = answered.labeled_N
    scores_NK, truth = answered.scores_NK[torch.from_numpy(labeled)], answered.truth[labeled]
    return _assessment(
        _own_scores(predictor, answered),
        directly(plain(predictor.answers), scores_NK, truth),
        directly(predictor.answers, scores_NK, truth),
        answered,
        predictor,
    )


def assess_mapped(
    predictor: Predictor,
    corpus: Corpus,
    split: Split,
    shared: SharedLabels,
    *,
    named: dict[str, str],
    known: frozenset[str] | None = None,
) -> Assessment:
    """Assess a model on a corpus with other labels, over the names that both have.

    Args:
        named: whose labels stand on either side, for the record.
        known: lines that training could see, from `overlap.known_lines`.
    """
    task = corpus.manifest.task
    answered = answer(predictor, corpus, split, shared.corpus_labels)
    labeled = answered.labeled_N
    scores_NK, truth = answered.scores_NK[torch.from_numpy(labeled)], answered.truth[labeled]
    answers = plain(predictor.answers)
    judgement = shared.mapped(answers, scores_NK, truth, task)
    at_temperature = shared.mapped(predictor.answers, scores_NK, truth, task)
    loss = mapped_loss(judgement)
    assessment = _assessment(judgement.scores(loss=loss), judgement, at_temperature, answered, predictor, known)
    return assessment.model_copy(
        update={
            "raw": shared.raw(answers, scores_NK, truth, task).scores(loss=loss),
            "label_map": named,
            "left_out": int(labeled.sum()) - len(judgement.truth),
        }
    )


def plain(answers: PredictionTable) -> PredictionTable:
    """The same at temperature 1."""
    return PredictionTable(answers.task, answers.labels, answers.thresholds)


def _own_scores(predictor: Predictor, answered: ScoredSplit) -> Scores:
    """Scores in the model's own labels, counted as in training."""
    task, truth = predictor.answers.task, torch.from_numpy(answered.truth)
    labels = truth if task == "single-label" else truth.float()
    tally = Tally(task, list(predictor.answers.labels))
    loss = float(JointObjective.plain_loss(answered.scores_NK, labels, task).sum())
    tally.saw(answered.scores_NK, labels, torch.from_numpy(answered.labeled_N), loss)
    return tally.scores(predictor.answers.thresholds or None)


def _assessment(
    scores: Scores,
    judgement: LabeledPredictions,
    at_temperature: LabeledPredictions,
    answered: ScoredSplit,
    predictor: Predictor,
    known: frozenset[str] | None = None,
) -> Assessment:
    places = np.flatnonzero(answered.labeled_N)
    judgement = replace(judgement, place_N=places[judgement.place_N])
    at_temperature = replace(at_temperature, place_N=judgement.place_N)
    if not len(judgement.truth):
        return Assessment(**dict(scores), shift=answered.shift)
    owners, owner_N = np.unique(answered.owner_N[judgement.place_N], return_inverse=True)
    found = intervals(judgement.counts(owner_N, len(owners)), judgement.measures)
    return Assessment(
        **dict(scores),
        conversations=len(owners),
        intervals={
            name: interval
            for name, interval in zip(MEASURES[judgement.task], found, strict=True)
            if interval is not None and name in scores.values
        },
        calibration=_calibration(judgement, at_temperature, answered.owner_N, predictor.bundle.card.temperature),
        groups=group_scores(judgement, answered, known),
        shift=answered.shift,
    )


def _calibration(
    judgement: LabeledPredictions,
    at_temperature: LabeledPredictions,
    owner_N: NDArray[np.int64],
    temperature: float | None,
) -> Calibration | None:
    first = _calibration_error(judgement, owner_N)
    if first is None:
        return None
    second = _calibration_error(at_temperature, owner_N) if temperature is not None else None
    return Calibration(
        error=first[0],
        interval=first[1],
        temperature=temperature,
        error_at_temperature=second[0] if second else None,
        interval_at_temperature=second[1] if second else None,
    )


def _calibration_error(
    judgement: LabeledPredictions, owner_N: NDArray[np.int64]
) -> tuple[float, Interval | None] | None:
    believed = judgement.calibrated()
    if believed is None:
        return None
    confidence, hit, rows = believed
    conversations, owner = np.unique(owner_N[judgement.place_N][rows], return_inverse=True)
    counts = reliability_counts(confidence, hit, owner, len(conversations))
    bounds = intervals(counts, lambda cells: calibration_error(cells)[..., None])[0]
    return float(calibration_error(counts.sum(axis=0))), bounds
