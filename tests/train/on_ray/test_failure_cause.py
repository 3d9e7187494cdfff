"""The first cause of a failed `fit`, for every kind of error that Ray raises."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import ray
from ray.exceptions import RayTaskError
from ray.train.v2._internal.exceptions import WorkerGroupStartupFailedError, WorkerHealthCheckFailedError
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from joyful_ray.errors import TrainingError
from joyful_ray.train.launch import train
from joyful_ray.train.on_ray.failure_cause import first_cause
from tests.tiny_corpus import small_job


def failed(*, at: float | None, cause: Exception) -> Exception:
    if at is not None:
        cause.failed_at = at  # type: ignore[attr-defined]
    return cause


def test_the_rank_that_failed_first_is_named_and_not_the_lowest() -> None:
    failures = {
        0: failed(at=12.0, cause=RuntimeError("Connection closed by peer")),
        1: failed(at=11.0, cause=ValueError("the cause\nand more")),
        2: failed(at=12.5, cause=RuntimeError("Connection closed by peer")),
    }
    assert first_cause(WorkerGroupError("failed", failures)) == "rank 1: ValueError: the cause"


def test_a_killed_rank_failed_before_the_ranks_that_waited_for_it() -> None:
    failures = {
        0: failed(at=12.0, cause=RuntimeError("Connection closed by peer")),
        1: failed(at=None, cause=RuntimeError("the actor died")),
    }
    assert first_cause(WorkerGroupError("failed", failures)) == "rank 1: RuntimeError: the actor died"


def raised_from(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


TORCH = RuntimeError("Found no NVIDIA driver on your system.\nPlease check")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ControllerError(ValueError("the cause\nand more")), "ValueError: the cause"),
        (ControllerError(raised_from(RuntimeError("start failed"), TORCH)), "RuntimeError: Found no NVIDIA driver on"),
        (ControllerError(ControllerError(KeyError("gpu"))), "KeyError: 'gpu'"),
        (ControllerError(RayTaskError("setup", "a long traceback", TORCH)), "RuntimeError: Found no NVIDIA driver on"),
        (
            WorkerGroupError("x", {3: WorkerHealthCheckFailedError("the check failed", MemoryError("no memory"))}),
            "rank 3: MemoryError: no memory",
        ),
        (
            ControllerError(WorkerGroupStartupFailedError("a node died while its worker started")),
            "WorkerGroupStartupFailedError: a node died while its worker started",
        ),
        (
            WorkerGroupError("\nthe workers are gone", {}),
            "WorkerGroupError: Training failed due to worker errors: the w",
        ),
        (RuntimeError("Announced:\n\n  and said\nmore"), "RuntimeError: Announced: and said"),
        (OSError(), "OSError"),
    ],
)
def test_the_cause_is_told_in_one_line(error: Exception, expected: str) -> None:
    found = first_cause(error)
    assert found.startswith(expected)
    assert "\n" not in found


def test_errors_that_wrap_each_other_end() -> None:
    one, other = RuntimeError("one"), RuntimeError("other")
    one.__cause__, other.__cause__ = other, one
    assert first_cause(one) in ("RuntimeError: one", "RuntimeError: other")


@pytest.mark.long
@pytest.mark.ray
def test_a_gpu_that_torch_does_not_see_is_the_cause(tiny: Callable[..., str], tmp_path: Path) -> None:
    ray.init(address="local", num_cpus=4, num_gpus=1, include_dashboard=False, log_to_driver=False)
    try:
        job = small_job(
            {"corpus": tiny(), "storage": str(tmp_path)},
            {"cluster": {"workers": 1, "gpus_per_worker": 1, "max_failures": 0}},
        )
        with pytest.raises(TrainingError) as caught:
            train(job)
    finally:
        ray.shutdown()
    assert "\n" not in str(caught.value)
    assert any(word in str(caught.value) for word in ("NCCL", "NVIDIA", "CUDA", "GPU")), str(caught.value)
