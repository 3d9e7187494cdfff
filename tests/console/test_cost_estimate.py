"""What `joyful plan` prints."""

from __future__ import annotations

import pytest

from joyful_ray.console.cost_estimate import duration, show_cost_estimate
from joyful_ray.submit.cost_estimate import CostEstimate
from joyful_ray.submit.resources import Resources
from tests.narrow_screen import assert_fits, narrow_screen

ESTIMATE = CostEstimate(
    name="meld",
    corpus="s3://bucket/corpora/meld",
    workers=2,
    parameters=42_878_143,
    model_bytes=5 * 2**30,
    worker_bytes=7 * 2**30,
    corpus_bytes=2**20,
    storage_bytes=2**30,
    conversations=23_000,
    steps_per_epoch=1_438,
    epochs=60,
    setup_s=12.3,
    step_s=1.234,
    epoch_s=1_800.0,
    hours=30.0,
    earliest_hours=5.5,
    error=0.52,
    gpu_hours=60.0,
    cost=1_234.5,
    measured="12 steps on cpu, 2 processes side by side on this machine",
    resources=Resources(where="http://head.example.org:8265", nodes=1, cpus=8, gpus=2),
    warnings=["a warning"],
)


def test_the_figures_fit_80_columns_and_agree_in_number() -> None:
    screen = narrow_screen()
    show_cost_estimate(screen, ESTIMATE)
    lines = assert_fits(screen)
    assert "runs on            http://head.example.org:8265: 1 node, 8 CPUs, 2 GPUs" in lines
    assert "all 60 epochs      30 h 00 min ± 52%, including 12 s to start" in lines
    assert "cost               1,234.50 ± 52%" in lines
    assert lines[-1] == "warning: a warning"


def test_one_epoch_is_singular() -> None:
    screen = narrow_screen()
    show_cost_estimate(screen, ESTIMATE.model_copy(update={"epochs": 1, "workers": 0, "cost": None}))
    lines = assert_fits(screen)
    assert [line for line in lines if line.startswith("the epoch")]
    assert "workers            none: one process without Ray" in lines
    assert not [line for line in lines if line.startswith("cost")]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(4.23, "4.2 s"), (200, "3 min 20 s"), (7_500, "2 h 05 min"), (3_600_000, "1,000 h 00 min")],
)
def test_durations(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected
