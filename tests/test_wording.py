"""Counts agree with their nouns."""

from __future__ import annotations

import pytest

from joyful_ray.wording import counted


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "0 epochs"), (1, "1 epoch"), (2, "2 epochs"), (1200, "1,200 epochs")]
)
def test_one_is_singular_and_every_other_count_is_plural(count: int, expected: str) -> None:
    assert counted(count, "epoch") == expected


def test_an_irregular_plural_is_given() -> None:
    assert counted(1, "corpus", "corpora") == "1 corpus"
    assert counted(3, "corpus", "corpora") == "3 corpora"
