from __future__ import annotations

import pytest
from pydantic import ValidationError

from joyful_ray.records import Assessment, GroupScore, Interval, ModalityShift

SHIFT = ModalityShift(
    present_share=1.0,
    mean_shift=0.0,
    largest_mean_shift=0.0,
    width_ratio=1.0,
    width_low=1.0,
    width_high=1.0,
    far_share=0.0,
)
ASSESSMENT = Assessment(
    task="regression",
    utterances=2,
    loss=0.5,
    values={"mae": 0.5},
    conversations=2,
    intervals={"mae": Interval(low=0.25, high=0.75)},
    groups={"speaker": [GroupScore(group="A", utterances=2, conversations=1, score=0.5, interval=None)]},
    shift={"audio": SHIFT},
)


def test_an_assessment_comes_back_from_json_as_it_was() -> None:
    assert Assessment.model_validate_json(ASSESSMENT.model_dump_json()) == ASSESSMENT


def test_an_assessment_selects_like_the_scores_it_extends() -> None:
    assert ASSESSMENT.selection == -0.5


def test_a_shift_is_of_a_known_modality() -> None:
    with pytest.raises(ValidationError, match="shift"):
        Assessment.model_validate({**ASSESSMENT.model_dump(), "shift": {"smell": SHIFT.model_dump()}})
