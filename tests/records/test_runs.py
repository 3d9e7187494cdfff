from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from joyful_ray.records import EpochMetrics, RunRecord, Scores

SCORES = Scores(
    task="single-label",
    utterances=3,
    loss=0.5,
    values={"accuracy": 1.0, "weighted_f1": 0.9, "macro_f1": 0.8},
    labels=["joy", "anger"],
)
METRICS = EpochMetrics(
    epoch=1,
    losses={"total": 1.0},
    conversations=5,
    dev=SCORES,
    seconds=1.0,
    train_seconds=0.5,
    waiting_share=0.1,
    utterances_per_second=9.0,
    learning_rate=0.1,
    gradient_norm=1.0,
    is_best=True,
)


def test_a_line_of_metrics_is_one_line_of_plain_json() -> None:
    text = METRICS.model_dump_json()
    assert "\n" not in text
    assert json.loads(text)["dev"]["values"]["weighted_f1"] == 0.9
    assert EpochMetrics.model_validate_json(text) == METRICS


def test_a_run_has_one_of_two_outcomes() -> None:
    with pytest.raises(ValidationError, match="outcome"):
        RunRecord.model_validate({"name": "first", "outcome": "paused"})
