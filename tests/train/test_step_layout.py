"""Which workers of a step have nothing to do."""

from __future__ import annotations

import pytest

from joyful_ray.train.step_layout import StepLayout
from tests.tiny_corpus import small_job


@pytest.mark.parametrize(
    ("workers", "micro_batches", "conversations", "idle", "message"),
    [
        (1, 4, 100, 0.0, None),
        (2, 4, 100, 0.0, None),
        (4, 4, 100, 0.0, None),
        (3, 4, 100, 1 / 3, "workers are idle 33% of the time, because 4 micro-batches cannot be divided evenly"),
        (6, 4, 100, 1 / 3, "2 of 6 workers are idle, because a step has 4 micro-batches; use 4 workers"),
        (2, 1, 100, 1 / 2, "1 of 2 workers is idle, because a step has 1 micro-batch; use 1 worker"),
        # A step of a tiny corpus has fewer conversations than micro-batches.
        (4, 4, 2, 1 / 2, "2 of 4 workers are idle, because a step has 2 micro-batches"),
        (0, 2, 100, 0.0, None),
    ],
)
def test_idle_workers_are_counted_and_named(
    workers: int, micro_batches: int, conversations: int, idle: float, message: str | None
) -> None:
    job = small_job(cluster={"workers": workers}, train={"micro_batches": micro_batches, "batch_conversations": 8})
    layout = StepLayout.of(job, conversations)
    assert layout.idle_fraction == pytest.approx(idle)
    assert [found.startswith(message or "nothing") for found in layout.warnings()] == ([True] if message else [])
