"""Tiny corpora, written once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from joyful_ray.schema import Task
from tests.tiny_corpus import write_tiny

Tiny = Callable[..., str]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """The tiny corpus of a task."""
    folder = tmp_path_factory.mktemp("tiny")
    written: dict[Task, str] = {}

    def of(task: Task = "single-label") -> str:
        if task not in written:
            written[task] = write_tiny(folder / task, task=task)
        return written[task]

    return of
