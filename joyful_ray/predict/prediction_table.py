"""What a prediction looks like: one row an utterance, a column a label.

`conversation_id`, `utterance_id`, then `probability_<label>` for every label (none for regression), `prediction` (a
name; a list of names for multi-label; a number for regression) and, where it is asked for, `embedding`. A column a
label and not a map, because pandas then has a plain table of numbers, DuckDB writes `avg(probability_joy)`, and Parquet
keeps the least and the most of each column, by which a reader skips what it does not need.

Shapes: N = utterances, K = labels, E = embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from joyful_ray.schema import Task

DEFAULT_THRESHOLD = 0.5


def probability_column(label: str) -> str:
    """The column that holds a label's probability."""
    return f"probability_{label}"


@dataclass(frozen=True)
class PredictionTable:
    """How a task's scores become probabilities and predictions.

    Attributes:
        thresholds: per label (multi-label), of probabilities at temperature 1.
        temperature: scores are divided by it before they become probabilities; predictions never depend on it.
    """

    task: Task
    labels: Sequence[str]
    thresholds: Mapping[str, float] = field(default_factory=dict)
    temperature: float = 1.0

    @property
    def calibrated_thresholds(self) -> dict[str, float]:
        """Per label, the probability at this temperature from which on it is predicted."""
        moved = torch.sigmoid(torch.logit(self._limits_K) / self.temperature).tolist()
        return dict(zip(self.labels, moved, strict=True)) if self.task == "multi-label" else {}

    @property
    def _limits_K(self) -> Tensor:
        limits = [self.thresholds.get(name, DEFAULT_THRESHOLD) for name in self.labels]
        return torch.tensor(limits, dtype=torch.float64)

    def probabilities(self, scores_NK: Tensor) -> Tensor:
        """(N, K) in float64; rows add up to 1 for single-label."""
        scaled_NK = scores_NK.double() / self.temperature
        return torch.softmax(scaled_NK, dim=1) if self.task == "single-label" else torch.sigmoid(scaled_NK)

    def predictions(self, scores_NK: Tensor) -> pa.Array:
        """What is predicted, by name, as `evaluate` counts it."""
        if self.task == "regression":
            return pa.array(scores_NK.squeeze(1).float().numpy())
        if self.task == "single-label":
            return pa.array(self.labels, pa.string()).take(pa.array(scores_NK.double().argmax(dim=1).numpy()))
        chosen_NK = self.chosen(scores_NK).numpy()
        rows, names = np.nonzero(chosen_NK)
        offsets = np.searchsorted(rows, np.arange(len(chosen_NK) + 1)).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(self.labels, pa.string()).take(pa.array(names)))

    def chosen(self, scores_NK: Tensor) -> Tensor:
        """Which labels pass their threshold, (N, K) bool (multi-label)."""
        return torch.sigmoid(scores_NK.double()) >= self._limits_K

    def table(
        self, conversation_ids: pa.Array, utterance_ids: pa.Array, scores_NK: Tensor, embedding_NE: Tensor | None
    ) -> pa.Table:
        """The columns of these utterances."""
        columns: dict[str, pa.Array] = {"conversation_id": conversation_ids, "utterance_id": utterance_ids}
        if self.task != "regression":
            probabilities_NK: NDArray[np.float32] = self.probabilities(scores_NK).float().numpy()
            for place, name in enumerate(self.labels):
                columns[probability_column(name)] = pa.array(probabilities_NK[:, place])
        columns["prediction"] = self.predictions(scores_NK)
        if embedding_NE is not None:
            flat = pa.array(embedding_NE.float().numpy().reshape(-1))
            columns["embedding"] = pa.FixedSizeListArray.from_arrays(flat, embedding_NE.shape[1])
        return pa.table(columns)
