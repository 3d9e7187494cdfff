"""Scores of a model on one split."""

from __future__ import annotations

from collections.abc import Mapping

from joyful_ray.records.reading import Record
from joyful_ray.schema import Task

SELECTS: Mapping[Task, str] = {"single-label": "weighted_f1", "multi-label": "binary_weighted_f1", "regression": "mae"}
"""The dev score of each task that selects epochs; a smaller MAE is better."""


class Scores(Record):
    """Scores of one split.

    Attributes:
        utterances: number of labeled utterances that were scored.
        loss: mean loss per utterance, without class weights or label smoothing.
        values: `accuracy`, `weighted_f1` and `macro_f1` (single-label); the same (multi-label), where `accuracy` is a
            mean over labels and the F1 scores are those of positives, and beside them the literature's
            `binary_weighted_f1`, the mean over labels of the F1 of positives and negatives weighted by their number,
            and `binary_weighted_f1_by_support`, the same mean weighted by positives; `mae`, `correlation`,
            `concordance`, `accuracy_7`, `accuracy_2`, `f1_2` (regression).
        labels: label names; empty for regression.
        per_label: for each label name, its `precision`, `recall`, `f1` and `support`; multi-label adds
            `binary_weighted_f1`, `accuracy` and `threshold`.
        confusion: confusion matrix in the order of `labels`; rows are true labels, columns are predictions
            (single-label only).
    """

    task: Task
    utterances: int
    loss: float
    values: dict[str, float]
    labels: list[str] = []
    per_label: dict[str, dict[str, float]] = {}
    confusion: list[list[int]] | None = None

    @property
    def selection(self) -> float:
        """The number by which epochs are selected on dev, greater is better: an F1 score, or the negated MAE."""
        if self.task == "regression":
            return -self.values["mae"]
        return self.values.get(SELECTS[self.task], self.values["weighted_f1"])  # earlier versions had one name for both
