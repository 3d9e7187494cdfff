"""From the labels of a model and those of a corpus to the names that both have.

Shapes: N = utterances, K = labels of the model, L = labels of the corpus, S = shared names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from joyful_ray.assess.labeled_predictions import ELSEWHERE, LabeledPredictions
from joyful_ray.corpora.label_map import LabelMap, identity_map
from joyful_ray.errors import ConfigError
from joyful_ray.predict.prediction_table import PredictionTable
from joyful_ray.schema import Task

SMALLEST = 1e-12


@dataclass(frozen=True)
class SharedLabels:
    """Which labels of a model and of a corpus are the same thing.

    Attributes:
        names: the shared names.
        model_K, corpus_L: the place of each label among the names, -1 where it is dropped.
        corpus_labels: the corpus's own names.
    """

    names: tuple[str, ...]
    model_K: NDArray[np.int64]
    corpus_L: NDArray[np.int64]
    corpus_labels: tuple[str, ...]

    @classmethod
    def of(
        cls, model_labels: Sequence[str], corpus_labels: Sequence[str], of_model: LabelMap, of_corpus: LabelMap
    ) -> SharedLabels:
        """Both sides in the words of one target.

        Args:
            of_model, of_corpus: from the labels of each side to those of the target.

        Raises:
            ConfigError: a label of either side is forgotten, or nothing is shared.
        """
        of_model.check_source(model_labels, whose="the bundle")
        of_corpus.check_source(corpus_labels, whose="the corpus")
        of_corpus.check_target(of_model.target.labels, whose=f"{of_model.target.name} in the bundle's label map")
        names = [name for name in of_model.kept if name in of_corpus.kept]
        if not names:
            raise ConfigError("the label maps leave no label that the bundle and the corpus share")
        places = {name: place for place, name in enumerate(names)}

        def sides(labels: Sequence[str], mapping: Mapping[str, str]) -> NDArray[np.int64]:
            return np.array([places.get(mapping.get(label, ""), ELSEWHERE) for label in labels], np.int64)

        return cls(
            tuple(names), sides(model_labels, of_model.map), sides(corpus_labels, of_corpus.map), tuple(corpus_labels)
        )

    @classmethod
    def between(cls, model_labels: Sequence[str], corpus_labels: Sequence[str], label_map: LabelMap) -> SharedLabels:
        """The labels of the model in the words of the corpus."""
        label_map.check_target(corpus_labels, whose="the corpus")
        itself = identity_map(label_map.target.name, label_map.target.labels)
        return cls.of(model_labels, corpus_labels, label_map, itself)

    def probabilities(self, answers: PredictionTable, scores_NK: Tensor) -> NDArray[np.float64]:
        """(N, S): sums over the labels that share a name, or for multi-label the greatest of them."""
        given_NK = answers.probabilities(scores_NK).numpy()
        columns = [given_NK[:, self.model_K == place] for place in range(len(self.names))]
        several = answers.task == "multi-label"
        return np.stack([column.max(axis=1) if several else column.sum(axis=1) for column in columns], axis=1)

    def mapped(self, answers: PredictionTable, scores_NK: Tensor, truth: NDArray, task: Task) -> LabeledPredictions:
        """Judge over the shared names alone: the model chooses among them, dropped utterances are left out.

        Args:
            truth: in the corpus's labels: ids (N,), or indicators (N, L) for multi-label; all labeled.
            task: the corpus's.
        """
        probability_NS = self.probabilities(answers, scores_NK)
        if task == "multi-label":
            true_NS = self._shared_indicators(truth)
            if answers.task == "multi-label":
                chosen_NS = self._shared_choice(answers.chosen(scores_NK).numpy())
            else:
                chosen_NS = np.eye(len(self.names), dtype=bool)[probability_NS.argmax(axis=1)]
            places = np.arange(len(truth))
            return LabeledPredictions(task, self.names, true_NS, chosen_NS, probability_NS, places)
        place_N = self.corpus_L[truth]
        kept = place_N != ELSEWHERE
        probability_NS = probability_NS[kept]
        probability_NS = probability_NS / np.maximum(probability_NS.sum(axis=1, keepdims=True), SMALLEST)
        best_N = probability_NS.argmax(axis=1)
        return LabeledPredictions(task, self.names, place_N[kept], best_N, probability_NS, np.flatnonzero(kept))

    def raw(self, answers: PredictionTable, scores_NK: Tensor, truth: NDArray, task: Task) -> LabeledPredictions:
        """Judge without mercy: the model's own choice, renamed, and every labeled utterance.

        A label of the corpus that is dropped counts and is never found; a choice that is dropped is wrong.
        """
        dropped = np.flatnonzero(self.corpus_L == ELSEWHERE)
        labels = (*self.names, *(self.corpus_labels[place] for place in dropped))
        place_L = self.corpus_L.copy()
        place_L[dropped] = len(self.names) + np.arange(len(dropped))
        if task == "multi-label":
            true_NS = np.concatenate([self._shared_indicators(truth), truth[:, dropped].astype(bool)], axis=1)
            if answers.task == "multi-label":
                chosen_NS = self._shared_choice(answers.chosen(scores_NK).numpy())
            else:
                place_N = self.model_K[scores_NK.double().argmax(dim=1).numpy()]
                chosen_NS = place_N[:, None] == np.arange(len(self.names))
            padding = np.zeros((len(truth), len(dropped)), bool)
            chosen_NS = np.concatenate([chosen_NS, padding], axis=1)
            return LabeledPredictions(task, labels, true_NS, chosen_NS, None, np.arange(len(truth)))
        predicted_N = self.model_K[scores_NK.double().argmax(dim=1).numpy()]
        return LabeledPredictions(task, labels, place_L[truth], predicted_N, None, np.arange(len(truth)))

    def _shared_indicators(self, truth_NL: NDArray) -> NDArray[np.bool_]:
        columns = [truth_NL[:, self.corpus_L == place].any(axis=1) for place in range(len(self.names))]
        return np.stack(columns, axis=1).astype(bool)

    def _shared_choice(self, chosen_NK: NDArray[np.bool_]) -> NDArray[np.bool_]:
        columns = [chosen_NK[:, self.model_K == place].any(axis=1) for place in range(len(self.names))]
        return np.stack(columns, axis=1)


def mapped_loss(judgement: LabeledPredictions) -> float:
    """Mean negative log probability of what is true, in nats; over labels too for multi-label."""
    assert judgement.probability is not None
    probability = np.clip(judgement.probability, SMALLEST, 1 - SMALLEST)
    if not len(probability):
        return 0.0
    if judgement.task == "multi-label":
        return float(-np.where(judgement.truth, np.log(probability), np.log1p(-probability)).mean())
    return float(-np.log(probability[np.arange(len(probability)), judgement.truth]).mean())


def directly(answers: PredictionTable, scores_NK: Tensor, truth: NDArray) -> LabeledPredictions:
    """Judge a model in its own labels, all of them."""
    places = np.arange(len(truth))
    if answers.task == "regression":
        numbers = scores_NK.double().squeeze(1).numpy()
        return LabeledPredictions("regression", (), truth.astype(np.float64), numbers, None, places)
    probability = answers.probabilities(scores_NK).numpy()
    labels = tuple(answers.labels)
    if answers.task == "multi-label":
        return LabeledPredictions(
            "multi-label", labels, truth.astype(bool), answers.chosen(scores_NK).numpy(), probability, places
        )
    best = torch.argmax(scores_NK.double(), dim=1).numpy()
    return LabeledPredictions("single-label", labels, truth, best, probability, places)
