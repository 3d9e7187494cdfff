"""Small searches for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from joyful_ray.config import JobConfig
from joyful_ray.tune.search_directory import SearchDirectory
from joyful_ray.tune.search_state import SearchState
from tests.tiny_corpus import small_job

SPACE: dict[str, Any] = {
    "train.learning_rate": {"log": [0.00001, 0.02]},
    "graph.window_past": {"int": [1, 4]},
    "graph.window_future": {"same_as": "graph.window_past"},
}


def search_job(
    corpus: str, storage: Path | str, *, space: Mapping[str, Any] = SPACE, epochs: int = 4, **search: Any
) -> JobConfig:
    settings = {"corpus": corpus, "storage": str(storage), "train": {"epochs": epochs, "diagnostics": False}}
    return small_job(settings, {"search": {"space": space, "grace_epochs": 1, "confirm": None, **search}})


def study_of(job: JobConfig, name: str) -> SearchState:
    return SearchState.of(SearchDirectory.of(job, name).ledger.events())
