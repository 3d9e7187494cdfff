from __future__ import annotations

import pytest
from pydantic import ValidationError

from joyful_ray.records import BundleCard
from joyful_ray.schema import FeatureContract

CARD = BundleCard(
    config={"name": "first"},
    fingerprint="0",
    task="single-label",
    labels=["joy", "anger"],
    modalities={"text": FeatureContract(extractor="roberta", version="1", width=2)},
    scaling={"text": {"mean": [0.0, 1 / 3], "deviation": [1.0, 1.0]}},
    speakers=2,
)


def test_a_card_keeps_every_digit_in_json() -> None:
    assert BundleCard.model_validate_json(CARD.model_dump_json()) == CARD


def test_a_card_without_a_temperature_says_so() -> None:
    assert CARD.temperature is None


def test_a_card_refuses_a_field_that_it_does_not_know() -> None:
    with pytest.raises(ValidationError, match="optimizer"):
        BundleCard.model_validate({**CARD.model_dump(), "optimizer": "adam"})
