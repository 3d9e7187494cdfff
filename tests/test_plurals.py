"""Numbers with their nouns."""

from __future__ import annotations

import pytest

from joyful_ray.plurals import counted


@pytest.mark.parametrize(
    ("count", "noun", "expected"),
    [
        (0, "seed", "0 seeds"),
        (1, "worker", "1 worker"),
        (1.0, "CPU", "1 CPU"),
        (2, "micro-batch", "2 micro-batches"),
        (2, "process", "2 processes"),
        (2, "epoch", "2 epochs"),
        (0.5, "GPU", "0.5 GPUs"),
        (2_400_000, "utterance", "2,400,000 utterances"),
    ],
)
def test_singular_and_plural_agree_with_the_number(count: float, noun: str, expected: str) -> None:
    assert counted(count, noun) == expected
