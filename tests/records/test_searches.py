from __future__ import annotations

import pytest
from pydantic import ValidationError

from joyful_ray.records import Candidate, SearchRecord

DEFAULT = Candidate(config="default", settings={}, seeds=[3, 4], dev=[0.25, 0.75], mean=0.5, deviation=0.25)


def test_a_search_record_comes_back_from_json_as_it_was() -> None:
    record = SearchRecord(
        name="first",
        fingerprint="0",
        corpus={"name": "tiny"},
        metric="weighted_f1",
        trials={"finished": 2},
        epochs=8,
        train_seconds=1.0,
        wall_seconds=2.0,
        slots=1,
        best_trial="t1",
        best_dev=0.75,
        chosen="default",
        settings={"train.learning_rate": 1e-3},
        chosen_by="dev",
        candidates=[DEFAULT],
        verdict="none",
        dev={"weighted_f1": 0.5},
        test=None,
        test_reads=0,
        versions={},
    )
    assert SearchRecord.model_validate_json(record.model_dump_json()) == record


def test_the_default_needs_no_difference_but_every_candidate_needs_a_mean() -> None:
    assert DEFAULT.difference is None
    with pytest.raises(ValidationError, match="mean"):
        Candidate.model_validate({"config": "c1", "settings": {}, "seeds": [], "dev": []})
