"""Converts the scores of a model to predictions: one row per utterance, one column per label.

The columns are `conversation_id`, `utterance_id`, then `probability_<label>` for each label (not for regression),
`prediction` (a name; a list of names for multi-label; a number for regression) and, on request, `embedding` and
`shared_<modality>`. Each label has a column instead of an entry in a map: pandas reads a plain table of numbers, DuckDB
can write `avg(probability_joy)`, and Parquet stores the minimum and maximum of each column, so that readers skip rows.

Shapes: N = utterances, K = labels, E = embedding width, S = width of the shared space.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from joyful_ray.schema import Modality, Task

DEFAULT_THRESHOLD = 0.5
EMBEDDING = "embedding"


@dataclass(frozen=True)
class VectorChoice:
    """Which vectors are returned beside the predictions.

    Attributes:
        embedding: the vector that the graph encoder computes for each utterance.
        shared: the vectors of each modality in the basis that all modalities share.
    """

    embedding: bool = False
    shared: bool = False

    def __bool__(self) -> bool:
        """Whether there are any."""
        return self.embedding or self.shared


class Scored(NamedTuple):
    """What a model computes for N utterances, on the CPU.

    Attributes:
        scores_NK: logits, or the predicted number for regression.
        embedding_NE: what the graph encoder computes, if it was requested.
        shared: per modality (N, S), if it was requested; NaN for an utterance without the modality.
    """

    scores_NK: Tensor
    embedding_NE: Tensor | None = None
    shared: Mapping[Modality, Tensor] = MappingProxyType({})


def probability_column(label: str) -> str:
    """Return the name of the column with the probability of a label."""
    return f"probability_{label}"


def shared_column(modality: Modality) -> str:
    """Return the name of the column with a modality's vectors in the shared basis."""
    return f"shared_{modality}"


@dataclass(frozen=True)
class PredictionDecoder:
    """Converts the scores of a task to probabilities and predictions.

    Attributes:
        task: the task of the model.
        labels: names, in the order of the scores.
        thresholds: for multi-label, the probability at temperature 1 from which a label is predicted; 0.5 by default.
        temperature: scores are divided by it before they become probabilities; predictions do not depend on it.
    """

    task: Task
    labels: Sequence[str]
    thresholds: Mapping[str, float] = field(default_factory=dict)
    temperature: float = 1.0

    @property
    def calibrated_thresholds(self) -> dict[str, float]:
        """For each label (multi-label), the probability at this temperature from which it is predicted."""
        calibrated = torch.sigmoid(torch.logit(self._thresholds_K) / self.temperature).tolist()
        return dict(zip(self.labels, calibrated, strict=True)) if self.task == "multi-label" else {}

    @property
    def _thresholds_K(self) -> Tensor:
        thresholds = [self.thresholds.get(name, DEFAULT_THRESHOLD) for name in self.labels]
        return torch.tensor(thresholds, dtype=torch.float64)

    def probabilities(self, scores_NK: Tensor) -> Tensor:
        """Return probabilities (N, K) in float64; for single-label, each row adds up to 1."""
        scaled_NK = scores_NK.double() / self.temperature
        return torch.softmax(scaled_NK, dim=1) if self.task == "single-label" else torch.sigmoid(scaled_NK)

    def predictions(self, scores_NK: Tensor) -> pa.Array:
        """Return the predicted names (or numbers), the same that `evaluate` counts."""
        if self.task == "regression":
            return pa.array(scores_NK.squeeze(1).float().numpy())
        if self.task == "single-label":
            return pa.array(self.labels, pa.string()).take(pa.array(scores_NK.double().argmax(dim=1).numpy()))
        chosen_NK = self.chosen(scores_NK).numpy()
        rows, names = np.nonzero(chosen_NK)
        offsets = np.searchsorted(rows, np.arange(len(chosen_NK) + 1)).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(self.labels, pa.string()).take(pa.array(names)))

    def chosen(self, scores_NK: Tensor) -> Tensor:
        """Return which labels reach their threshold (multi-label), (N, K) bool."""
        return torch.sigmoid(scores_NK.double()) >= self._thresholds_K

    def table(self, conversation_ids: pa.Array, utterance_ids: pa.Array, scored: Scored) -> pa.Table:
        """Return the table of predictions for N utterances."""
        scores_NK = scored.scores_NK
        columns: dict[str, pa.Array] = {"conversation_id": conversation_ids, "utterance_id": utterance_ids}
        if self.task != "regression":
            probabilities_NK: NDArray[np.float32] = self.probabilities(scores_NK).float().numpy()
            for index, name in enumerate(self.labels):
                columns[probability_column(name)] = pa.array(probabilities_NK[:, index])
        columns["prediction"] = self.predictions(scores_NK)
        if scored.embedding_NE is not None:
            columns[EMBEDDING] = _lists(scored.embedding_NE)
        columns |= {shared_column(name): _lists(vectors_NS) for name, vectors_NS in scored.shared.items()}
        return pa.table(columns)


def _lists(vectors_ND: Tensor) -> pa.Array:
    """One list per utterance; null where the vector is NaN."""
    missing_N = torch.isnan(vectors_ND).all(dim=1).numpy()
    flat = pa.array(vectors_ND.float().numpy().reshape(-1))
    mask = pa.array(missing_N) if missing_N.any() else None
    return pa.FixedSizeListArray.from_arrays(flat, vectors_ND.shape[1], mask=mask)
