"""Maps the labels of a model and of a corpus to the labels that both share.

Shapes: N = utterances, K = labels of the model, L = labels of the corpus, S = shared names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from joyful_ray.assess.labeled_predictions import OTHER_LABEL, LabeledPredictions
from joyful_ray.corpora.label_map import LabelMap, identity_map
from joyful_ray.errors import ConfigError
from joyful_ray.predict.decoder import PredictionDecoder
from joyful_ray.schema import Task

MIN_PROBABILITY = 1e-12


@dataclass(frozen=True)
class SharedLabels:
    """Which labels of a model and of a corpus mean the same.

    Attributes:
        names: names of the shared labels.
        model_K, corpus_L: for each label of the model or corpus, its index in `names`, or -1 if it is dropped.
        corpus_labels: the labels of the corpus.
    """

    names: tuple[str, ...]
    model_K: NDArray[np.int64]
    corpus_L: NDArray[np.int64]
    corpus_labels: tuple[str, ...]

    @classmethod
    def of(
        cls, model_labels: Sequence[str], corpus_labels: Sequence[str], of_model: LabelMap, of_corpus: LabelMap
    ) -> SharedLabels:
        """Map both sets of labels to one target.

        Args:
            model_labels, corpus_labels: the labels of model and corpus.
            of_model, of_corpus: label maps from each of them to the target.

        Raises:
            ConfigError: a label is missing from a map, or no label is shared.
        """
        of_model.check_source(model_labels, whose="the bundle")
        of_corpus.check_source(corpus_labels, whose="the corpus")
        of_corpus.check_target(of_model.target.labels, whose=f"{of_model.target.name} in the bundle's label map")
        names = [name for name in of_model.kept if name in of_corpus.kept]
        if not names:
            raise ConfigError("with these label maps, the bundle and the corpus share no label")
        indices = {name: index for index, name in enumerate(names)}

        def mapped_indices(labels: Sequence[str], mapping: Mapping[str, str]) -> NDArray[np.int64]:
            return np.array([indices.get(mapping.get(label, ""), OTHER_LABEL) for label in labels], np.int64)

        return cls(
            tuple(names),
            mapped_indices(model_labels, of_model.map),
            mapped_indices(corpus_labels, of_corpus.map),
            tuple(corpus_labels),
        )

    @classmethod
    def from_label_map(
        cls, model_labels: Sequence[str], corpus_labels: Sequence[str], label_map: LabelMap
    ) -> SharedLabels:
        """Map the labels of a model to those of a corpus.

        Raises:
            ConfigError: a label is missing from the map, or no label is shared.
        """
        label_map.check_target(corpus_labels, whose="the corpus")
        identity = identity_map(label_map.target.name, label_map.target.labels)
        return cls.of(model_labels, corpus_labels, label_map, identity)

    def probabilities(self, decoder: PredictionDecoder, scores_NK: Tensor) -> NDArray[np.float64]:
        """Return probabilities (N, S): sums over labels with the same shared name, or for multi-label their maximum."""
        probability_NK = decoder.probabilities(scores_NK).numpy()
        columns = [probability_NK[:, self.model_K == index] for index in range(len(self.names))]
        is_multi_label = decoder.task == "multi-label"
        return np.stack([column.max(axis=1) if is_multi_label else column.sum(axis=1) for column in columns], axis=1)

    def mapped(self, decoder: PredictionDecoder, scores_NK: Tensor, truth: NDArray, task: Task) -> LabeledPredictions:
        """Predict among the shared labels only, and leave out utterances whose label is dropped.

        Args:
            decoder: the decoder of the model.
            scores_NK: scores of labeled utterances.
            truth: labels of the corpus: ids (N,), or indicators (N, L) for multi-label.
            task: the task of the corpus.
        """
        probability_NS = self.probabilities(decoder, scores_NK)
        if task == "multi-label":
            true_NS = self._shared_indicators(truth)
            if decoder.task == "multi-label":
                chosen_NS = self._shared_choice(decoder.chosen(scores_NK).numpy())
            else:
                chosen_NS = np.eye(len(self.names), dtype=bool)[probability_NS.argmax(axis=1)]
            index_N = np.arange(len(truth))
            return LabeledPredictions(task, self.names, true_NS, chosen_NS, probability_NS, index_N)
        label_N = self.corpus_L[truth]
        kept = label_N != OTHER_LABEL
        probability_NS = probability_NS[kept]
        probability_NS = probability_NS / np.maximum(probability_NS.sum(axis=1, keepdims=True), MIN_PROBABILITY)
        best_N = probability_NS.argmax(axis=1)
        return LabeledPredictions(task, self.names, label_N[kept], best_N, probability_NS, np.flatnonzero(kept))

    def raw(self, decoder: PredictionDecoder, scores_NK: Tensor, truth: NDArray, task: Task) -> LabeledPredictions:
        """Keep the model's own predictions, with the names of the shared labels, and every labeled utterance.

        An utterance whose label is dropped counts as wrong, and so does a predicted label that is dropped.
        """
        dropped = np.flatnonzero(self.corpus_L == OTHER_LABEL)
        labels = (*self.names, *(self.corpus_labels[index] for index in dropped))
        label_L = self.corpus_L.copy()
        label_L[dropped] = len(self.names) + np.arange(len(dropped))
        if task == "multi-label":
            true_NS = np.concatenate([self._shared_indicators(truth), truth[:, dropped].astype(bool)], axis=1)
            if decoder.task == "multi-label":
                chosen_NS = self._shared_choice(decoder.chosen(scores_NK).numpy())
            else:
                label_N = self.model_K[scores_NK.double().argmax(dim=1).numpy()]
                chosen_NS = label_N[:, None] == np.arange(len(self.names))
            padding = np.zeros((len(truth), len(dropped)), bool)
            chosen_NS = np.concatenate([chosen_NS, padding], axis=1)
            return LabeledPredictions(task, labels, true_NS, chosen_NS, None, np.arange(len(truth)))
        predicted_N = self.model_K[scores_NK.double().argmax(dim=1).numpy()]
        return LabeledPredictions(task, labels, label_L[truth], predicted_N, None, np.arange(len(truth)))

    def _shared_indicators(self, truth_NL: NDArray) -> NDArray[np.bool_]:
        columns = [truth_NL[:, self.corpus_L == index].any(axis=1) for index in range(len(self.names))]
        return np.stack(columns, axis=1).astype(bool)

    def _shared_choice(self, chosen_NK: NDArray[np.bool_]) -> NDArray[np.bool_]:
        columns = [chosen_NK[:, self.model_K == index].any(axis=1) for index in range(len(self.names))]
        return np.stack(columns, axis=1)


def mapped_loss(predictions: LabeledPredictions) -> float:
    """Return the mean negative log probability of the truth in nats; for multi-label, also over labels."""
    assert predictions.probability is not None
    probability = np.clip(predictions.probability, MIN_PROBABILITY, 1 - MIN_PROBABILITY)
    if not len(probability):
        return 0.0
    if predictions.task == "multi-label":
        return float(-np.where(predictions.truth, np.log(probability), np.log1p(-probability)).mean())
    return float(-np.log(probability[np.arange(len(probability)), predictions.truth]).mean())


def predictions_in_own_labels(decoder: PredictionDecoder, scores_NK: Tensor, truth: NDArray) -> LabeledPredictions:
    """Return the predictions of a model over all of its own labels."""
    index_N = np.arange(len(truth))
    if decoder.task == "regression":
        numbers = scores_NK.double().squeeze(1).numpy()
        return LabeledPredictions("regression", (), truth.astype(np.float64), numbers, None, index_N)
    probability = decoder.probabilities(scores_NK).numpy()
    labels = tuple(decoder.labels)
    if decoder.task == "multi-label":
        return LabeledPredictions(
            "multi-label", labels, truth.astype(bool), decoder.chosen(scores_NK).numpy(), probability, index_N
        )
    best = torch.argmax(scores_NK.double(), dim=1).numpy()
    return LabeledPredictions("single-label", labels, truth, best, probability, index_N)
