from __future__ import annotations

import pytest
from pydantic import ValidationError

from joyful_ray.records import Scores

SCORES = Scores(
    task="single-label",
    utterances=3,
    loss=0.5,
    values={"accuracy": 1.0, "weighted_f1": 0.9, "macro_f1": 0.8},
    labels=["joy", "anger"],
    per_label={"joy": {"f1": 1.0}, "anger": {"f1": 0.6}},
    confusion=[[2, 0], [0, 1]],
)


def test_scores_come_back_from_json_as_they_were() -> None:
    assert Scores.model_validate_json(SCORES.model_dump_json()) == SCORES


def test_numbers_keep_every_digit_in_json() -> None:
    third = SCORES.model_copy(update={"loss": 1 / 3})
    assert Scores.model_validate_json(third.model_dump_json()).loss == 1 / 3


@pytest.mark.parametrize(
    ("task", "values", "selection"),
    [
        ("single-label", {"weighted_f1": 0.4}, 0.4),
        ("multi-label", {"weighted_f1": 0.6, "accuracy": 0.9}, 0.6),
        ("regression", {"mae": 0.7, "correlation": 0.8}, -0.7),
    ],
)
def test_a_greater_selection_is_better_for_every_task(task: str, values: dict[str, float], selection: float) -> None:
    assert Scores.model_validate({"task": task, "utterances": 1, "loss": 0.0, "values": values}).selection == selection


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(ValidationError):
        Scores.model_validate({**SCORES.model_dump(), "novelty": 1})


def test_records_are_frozen() -> None:
    with pytest.raises(ValidationError):
        SCORES.loss = 0.1  # type: ignore[misc]
