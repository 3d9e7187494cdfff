"""Scores a bundle on a split of any corpus, with intervals, calibration, groups and feature shift."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from joyful_ray.assess.bootstrap import intervals
from joyful_ray.assess.groups import group_scores
from joyful_ray.assess.labeled_predictions import MEASURES, LabeledPredictions
from joyful_ray.assess.scored_split import ScoredSplit, score_split
from joyful_ray.assess.shared_labels import SharedLabels, mapped_loss, predictions_in_own_labels
from joyful_ray.corpora.label_map import read_label_map
from joyful_ray.corpora.shards import Corpus, open_corpus
from joyful_ray.errors import CorpusError
from joyful_ray.objective.joint import JointObjective
from joyful_ray.predict.decoder import PredictionDecoder
from joyful_ray.predict.predictor import Predictor
from joyful_ray.records import Assessment, Calibration, Interval, Scores
from joyful_ray.schema import Split
from joyful_ray.train.calibration import calibration_error, reliability_counts
from joyful_ray.train.scores import Tally

Watch = Callable[[int, int], None]


def assess_bundle(
    bundle: str | Sequence[str],
    corpus: str,
    *,
    split: Split = "test",
    label_map: str | None = None,
    device: str = "auto",
    watch: Watch | None = None,
) -> Assessment:
    """Score a bundle on one split of any corpus with the same features; modalities may be missing.

    Args:
        bundle, corpus: paths or s3:// URIs; the probabilities of several bundles are averaged.
        split: the split to score.
        label_map: a YAML file that maps the labels of the bundle to those of the corpus.
        device: auto, cpu or cuda.
        watch: called with the number of utterances scored so far, and with that of all.

    Raises:
        CheckpointError: there is no bundle, or it is damaged.
        CorpusError: there is no such split, features or task differ, or the bundle does not know a label.
        ConfigError: a label is missing from the label map.
    """
    mapping = read_label_map(label_map) if label_map is not None else None
    predictor = Predictor.open(bundle, device=device)
    opened = open_corpus(corpus)
    for each in predictor.bundles:
        each.check_fits(opened.manifest)
    if mapping is None:
        return assess(predictor, opened, split, watch=watch)
    map_names = {"from": mapping.source.name, "to": mapping.target.name}
    shared = SharedLabels.from_label_map(predictor.decoder.labels, opened.manifest.labels, mapping)
    return assess_mapped(predictor, opened, split, shared, map_names=map_names, watch=watch)


def assess(predictor: Predictor, corpus: Corpus, split: Split, *, watch: Watch | None = None) -> Assessment:
    """Score a model on a corpus with the same labels; `watch` as in `assess_bundle`.

    Raises:
        CorpusError: there is no such split, the task differs, or the model does not know a label.
    """
    encoding = predictor.bundle.encoding
    if corpus.manifest.task != encoding.task:
        raise CorpusError(
            f"the bundle was trained for {encoding.task}, but the corpus is labeled for {corpus.manifest.task}"
        )
    try:
        scored = score_split(predictor, corpus, split, encoding.labels, watch=watch)
    except CorpusError as error:
        unknown = [label for label in corpus.manifest.labels if label not in encoding.labels]
        hint = "; map it to a label of the bundle with --label-map FILE" if unknown else ""
        raise CorpusError(f"{error}{hint}") from None
    labeled = scored.labeled_N
    scores_NK, truth = scored.scores_NK[torch.from_numpy(labeled)], scored.truth[labeled]
    return _assessment(
        _own_scores(predictor, scored),
        predictions_in_own_labels(without_temperature(predictor.decoder), scores_NK, truth),
        predictions_in_own_labels(predictor.decoder, scores_NK, truth),
        scored,
        predictor,
    )


def assess_mapped(
    predictor: Predictor,
    corpus: Corpus,
    split: Split,
    shared: SharedLabels,
    *,
    map_names: dict[str, str],
    known: frozenset[str] | None = None,
    watch: Watch | None = None,
) -> Assessment:
    """Score a model on a corpus with other labels, over the labels that both share.

    Args:
        predictor: the model.
        corpus: the corpus with the split.
        split: the split to score.
        shared: the labels that model and corpus share.
        map_names: names of both sets of labels, for the record.
        known: lines in the training data, from `overlap.training_lines`.
        watch: as in `assess_bundle`.
    """
    task = corpus.manifest.task
    scored = score_split(predictor, corpus, split, shared.corpus_labels, watch=watch)
    labeled = scored.labeled_N
    scores_NK, truth = scored.scores_NK[torch.from_numpy(labeled)], scored.truth[labeled]
    decoder = without_temperature(predictor.decoder)
    predictions = shared.mapped(decoder, scores_NK, truth, task)
    at_temperature = shared.mapped(predictor.decoder, scores_NK, truth, task)
    loss = mapped_loss(predictions)
    assessment = _assessment(predictions.scores(loss=loss), predictions, at_temperature, scored, predictor, known)
    return assessment.model_copy(
        update={
            "raw": shared.raw(decoder, scores_NK, truth, task).scores(loss=loss),
            "label_map": map_names,
            "left_out": int(labeled.sum()) - len(predictions.truth),
        }
    )


def without_temperature(decoder: PredictionDecoder) -> PredictionDecoder:
    """Return the same decoder at temperature 1."""
    return PredictionDecoder(decoder.task, decoder.labels, decoder.thresholds)


def _temperature(predictor: Predictor) -> float | None:
    """The temperature of a bundle; 1 for several, whose probabilities have been calibrated before they are averaged."""
    return 1.0 if predictor.others else predictor.bundle.card.temperature


def _own_scores(predictor: Predictor, scored: ScoredSplit) -> Scores:
    """Compute scores over the model's own labels, in the same way as in training."""
    task, truth = predictor.decoder.task, torch.from_numpy(scored.truth)
    labels = truth if task == "single-label" else truth.float()
    tally = Tally(task, list(predictor.decoder.labels))
    loss = float(JointObjective.plain_loss(scored.scores_NK, labels, task).sum())
    tally.saw(scored.scores_NK, labels, torch.from_numpy(scored.labeled_N), loss)
    return tally.scores(predictor.decoder.thresholds or None)


def _assessment(
    scores: Scores,
    predictions: LabeledPredictions,
    at_temperature: LabeledPredictions,
    scored: ScoredSplit,
    predictor: Predictor,
    known: frozenset[str] | None = None,
) -> Assessment:
    labeled_index = np.flatnonzero(scored.labeled_N)
    predictions = replace(predictions, index_N=labeled_index[predictions.index_N])
    at_temperature = replace(at_temperature, index_N=predictions.index_N)
    if not len(predictions.truth):
        return Assessment(**dict(scores), shift=scored.shift)
    owners, owner_N = np.unique(scored.owner_N[predictions.index_N], return_inverse=True)
    bounds = intervals(predictions.counts(owner_N, len(owners)), predictions.measures)
    return Assessment(
        **dict(scores),
        conversations=len(owners),
        intervals={
            name: interval
            for name, interval in zip(MEASURES[predictions.task], bounds, strict=True)
            if interval is not None and name in scores.values
        },
        calibration=_calibration(predictions, at_temperature, scored.owner_N, _temperature(predictor)),
        groups=group_scores(predictions, scored, known),
        shift=scored.shift,
    )


def _calibration(
    predictions: LabeledPredictions,
    at_temperature: LabeledPredictions,
    owner_N: NDArray[np.int64],
    temperature: float | None,
) -> Calibration | None:
    plain = _calibration_error(predictions, owner_N)
    if plain is None:
        return None
    calibrated = _calibration_error(at_temperature, owner_N) if temperature is not None else None
    return Calibration(
        error=plain[0],
        interval=plain[1],
        temperature=temperature,
        error_at_temperature=calibrated[0] if calibrated else None,
        interval_at_temperature=calibrated[1] if calibrated else None,
    )


def _calibration_error(
    predictions: LabeledPredictions, owner_N: NDArray[np.int64]
) -> tuple[float, Interval | None] | None:
    confidences = predictions.confidences()
    if confidences is None:
        return None
    confidence, is_correct, rows = confidences
    conversations, owner = np.unique(owner_N[predictions.index_N][rows], return_inverse=True)
    counts = reliability_counts(confidence, is_correct, owner, len(conversations))
    bounds = intervals(counts, lambda cells: calibration_error(cells)[..., None])[0]
    return float(calibration_error(counts.sum(axis=0))), bounds
