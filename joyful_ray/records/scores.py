"""Scores of a model on one split."""

from __future__ import annotations

from joyful_ray.records.reading import Record
from joyful_ray.schema import Task


class Scores(Record):
    """Scores of one split.

    Attributes:
        utterances: number of labeled utterances that were scored.
        loss: mean loss per utterance, without class weights or label smoothing.
        values: `accuracy`, `weighted_f1` and `macro_f1` (single-label); `weighted_f1` and `accuracy` as means over the
            labels, and `macro_f1` (multi-label);
            `mae`, `correlation`, `accuracy_7`, `accuracy_2`, `f1_2` (regression).
        labels: label names; empty for regression.
        per_label: for each label name, its `precision`, `recall`, `f1` and `support`; multi-label adds `weighted_f1`,
            `accuracy` and `threshold`.
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
        """The number by which epochs are selected on dev: weighted F1, or the negated MAE. Greater is better."""
        return -self.values["mae"] if self.task == "regression" else self.values["weighted_f1"]
