"""Which workers of a step have nothing to do."""

from __future__ import annotations

import pytest

from joyful_ray.train.step_layout import StepLayout
from tests.tiny_corpus import small_job

BEYOND = {"objective": {"negatives": "micro-batch"}}


@pytest.mark.parametrize(
    ("workers", "micro_batches", "conversations", "idle", "message"),
    [
        (1, 4, 100, 0.0, None),
        (2, 4, 100, 0.0, None),
        (4, 4, 100, 0.0, None),
        (3, 4, 100, 1 / 3, "workers are idle 33% of the time, because 4 micro-batches cannot be divided evenly"),
        (
            6,
            4,
            100,
            1 / 3,
            "2 of 6 workers are idle, because objective.negatives: micro-batch needs fixed",
        ),
        (2, 1, 100, 1 / 2, "1 of 2 workers is idle, because"),
        # A step of a tiny corpus has fewer conversations than micro-batches.
        (4, 4, 2, 1 / 2, "2 of 4 workers are idle, because"),
        (0, 2, 100, 0.0, None),
    ],
)
def test_workers_without_a_micro_batch_are_counted_and_named(
    workers: int, micro_batches: int, conversations: int, idle: float, message: str | None
) -> None:
    settings = {"micro_batches": micro_batches, "batch_conversations": 8}
    layout = StepLayout.of(small_job(BEYOND, cluster={"workers": workers}, train=settings), conversations)
    assert layout.idle_fraction == pytest.approx(idle)
    assert [found.startswith(message or "nothing") for found in layout.warnings()] == ([True] if message else [])


@pytest.mark.parametrize(
    ("workers", "batch", "conversations", "says"),
    [
        (8, 16, 100, None),
        (1, 1, 100, None),
        (0, 1, 100, None),
        (8, 12, 100, "a step has 12 conversations for 8 workers, so that some are idle; use 6 workers, or "),
        (8, 64, 6, "a step has 6 conversations for 8 workers, so that some are idle; use 3 workers, or "),
        (2, 1, 100, "a step has 1 conversation for 2 workers, so that some are idle; use 1 worker, or "),
    ],
)
def test_otherwise_a_step_needs_two_conversations_for_each_worker(
    workers: int, batch: int, conversations: int, says: str | None
) -> None:
    job = small_job(cluster={"workers": workers}, train={"micro_batches": 1, "batch_conversations": batch})
    found = StepLayout.of(job, conversations).warnings()
    assert found == ([] if says is None else [f"{says}train.batch_conversations={2 * workers}"])
