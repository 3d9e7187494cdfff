from __future__ import annotations

import inspect
import pickle

import pytest

from joyful_ray import errors

CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)]


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_keeps_its_type_and_message_between_ray_processes(kind: type[Exception]) -> None:
    read = pickle.loads(pickle.dumps(kind("name one with --name")))
    assert type(read) is kind
    assert str(read) == "name one with --name"


def test_only_training_errors_are_not_the_users_fault() -> None:
    assert {kind for kind in CLASSES if not issubclass(kind, errors.UserError)} == {errors.TrainingError}
