"""Counts agree with their nouns."""

from __future__ import annotations

import pytest

from joyful_ray.wording import counted


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "0 epochs"), (1, "1 epoch"), (2, "2 epochs"), (1200, "1,200 epochs")]
)
def test_one_is_singular_and_every_other_count_is_plural(count: int, expected: str) -> None:
    assert counted(count, "epoch") == expected


def test_fractions_stay_as_they_are() -> None:
    assert counted(0.5, "GPU") == "0.5 GPUs"
    assert counted(1.0, "CPU") == "1 CPU"
    assert counted(2_400_000, "utterance") == "2,400,000 utterances"


def test_nouns_that_end_in_a_hiss_get_es() -> None:
    assert counted(2, "micro-batch") == "2 micro-batches"
    assert counted(2, "process") == "2 processes"


def test_an_irregular_plural_is_given() -> None:
    assert counted(1, "corpus", "corpora") == "1 corpus"
    assert counted(3, "corpus", "corpora") == "3 corpora"
