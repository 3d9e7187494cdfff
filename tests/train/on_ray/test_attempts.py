"""What Ray loses beside the workers is done again, as often as `max_failures` says, and each time it is said why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ray.data.exceptions import SystemException
from ray.exceptions import ActorDiedError, ObjectLostError, OutOfDiskError, OutOfMemoryError, RayTaskError
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from joyful_ray.errors import CorpusError, TrainingError
from joyful_ray.train.on_ray import attempts, connection
from joyful_ray.train.on_ray.attempts import Attempts, SayFailures, is_loss

MEMORY = OutOfMemoryError("1 worker(s) were killed due to the node running low on memory. \nand more")


def from_cause(error: Exception, cause: Exception) -> Exception:
    """The same kind of error, raised from another one."""
    raised = type(error)(str(error))
    raised.__cause__ = cause
    return raised


LOSSES: dict[str, Exception] = {
    "memory": MEMORY,
    "disk": OutOfDiskError("Local disk is full\nand more"),
    "controller": ControllerError(MEMORY),
    "the controller's process": ActorDiedError(),
    "a task of Ray Data": from_cause(MEMORY, SystemException()),
    "an object": ObjectLostError("00ff", None, ""),
}
OTHERS: dict[str, Exception] = {
    "of a corpus": CorpusError("damaged"),
    "of our own code": KeyError("name"),
    "workers, which Ray Train counts": WorkerGroupError("failed", {0: MEMORY}),
    "a start that Ray Train gave up": ControllerError(RuntimeError("no NCCL")),
    "of a task": RayTaskError("task", "a traceback", ValueError("wrong")),
}


def failing(times: int, error: Exception) -> Callable[[], str]:
    """What fails so often, and then succeeds."""
    left = [error] * times

    def work() -> str:
        if left:
            raise left.pop()
        return "done"

    return work


@pytest.mark.parametrize("name", LOSSES)
def test_what_was_lost_is_done_again_and_said(name: str) -> None:
    lines: list[str] = []
    assert Attempts(2, lines.append).run(failing(2, LOSSES[name])) == "done"
    assert len(lines) == 2
    assert "failure 2 of 2 that cluster.max_failures allows" in lines[1]
    assert "\n" not in "".join(lines)


@pytest.mark.parametrize("name", LOSSES)
def test_more_losses_than_allowed_end_with_the_cause(name: str) -> None:
    lines: list[str] = []
    with pytest.raises(TrainingError) as raised:
        Attempts(1, lines.append).run(failing(2, LOSSES[name]))
    assert len(lines) == 1
    assert str(raised.value)
    assert "\n" not in str(raised.value)


def test_losses_of_several_pieces_of_work_are_counted_together() -> None:
    several = Attempts(1, lambda line: None)
    several.run(failing(1, MEMORY))
    with pytest.raises(TrainingError, match="running low on memory"):
        several.run(failing(1, MEMORY))


def test_without_a_limit_it_is_done_again_for_ever() -> None:
    assert Attempts(-1, lambda line: None).run(failing(50, MEMORY)) == "done"


@pytest.mark.parametrize("name", OTHERS)
def test_other_errors_are_not_tried_again(name: str) -> None:
    calls = []
    error = OTHERS[name]

    def work() -> None:
        calls.append(None)
        raise error

    assert not is_loss(error)
    with pytest.raises(TrainingError if "Error" not in type(error).__name__ else Exception):
        Attempts(5, lambda line: None).run(work)
    assert len(calls) == 1


def test_a_command_that_loses_what_it_works_with_ends_in_one_line() -> None:
    with pytest.raises(TrainingError, match=r"^OutOfMemoryError: 1 worker\(s\) were killed .* on memory\.$"):
        connection.raise_loss(MEMORY)
    connection.raise_loss(KeyError("name"))


def test_failures_of_workers_are_said_if_they_start_again(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(attempts, "tell_command", lines.append)
    callback, run_context = SayFailures(1), Any
    for _ in range(2):
        callback.after_exception(run_context, {1: RuntimeError("closed"), 0: CorpusError("damaged")})
    (line,) = lines  # the second one ends the run, with its cause
    assert line.startswith("rank 0: CorpusError: damaged; failure 1 of 1 that cluster.max_failures allows")
