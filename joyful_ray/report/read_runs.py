"""Runs and searches as their files tell them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from joyful_ray.config import NOT_YAML, JobConfig, resolve
from joyful_ray.errors import CheckpointError, ConfigError
from joyful_ray.records import EpochMetrics, RunRecord, SearchRecord, read_as, read_lines_as
from joyful_ray.search_settings import RangeConfig
from joyful_ray.storage import Location, open_location
from joyful_ray.tune.goals import GREATER, Goal
from joyful_ray.tune.importance import importance
from joyful_ray.tune.ledger import Ledger
from joyful_ray.tune.search_state import SearchState

CONFIG, METRICS, RECORD, BEST = "config.yaml", "metrics.jsonl", "record.json", "best.yaml"


@dataclass(frozen=True)
class Run:
    """One run; `record` is None while it is not finished."""

    name: str
    job: JobConfig
    epochs: Sequence[EpochMetrics]
    record: RunRecord | None


@dataclass(frozen=True)
class Search:
    """One search; `record` is None while it is not done.

    Attributes:
        ranges: what was drawn, by path.
        importance: share of each, the greatest first.
        best_yaml: the chosen config, or the best so far has none.
    """

    name: str
    job: JobConfig
    state: SearchState
    goals: Sequence[Goal]
    record: SearchRecord | None
    ranges: dict[str, RangeConfig]
    importance: dict[str, float]
    best_yaml: str

    @property
    def goal(self) -> Goal:
        """What decided."""
        return self.goals[0]


def read_all(uris: Sequence[str]) -> tuple[list[Run], list[Search]]:
    """Read what lies at these places.

    Raises:
        CheckpointError: one is neither a run nor a search, or is damaged.
    """
    runs: list[Run] = []
    searches: list[Search] = []
    for uri in uris:
        place = open_location(uri)
        if Ledger(place).exists():
            searches.append(read_search(place))
        elif place.join(CONFIG).exists():
            runs.append(read_run(place))
        else:
            raise CheckpointError(f"{place.uri} is neither a run nor a search; name a directory that holds {CONFIG}")
    return runs, searches


def read_run(place: Location) -> Run:
    """One run's files.

    Raises:
        CheckpointError: one of them is damaged.
    """
    metrics, record = place.join(METRICS), place.join(RECORD)
    epochs = read_lines_as(EpochMetrics, metrics.read_text(), place=metrics.uri) if metrics.exists() else []
    found = read_as(RunRecord, record.read_text(), place=record.uri) if record.exists() else None
    return Run(place.name, _job(place), epochs, found)


def read_search(place: Location) -> Search:
    """One search's files.

    Raises:
        CheckpointError: one of them is damaged.
    """
    job = _job(place)
    if job.search is None:
        raise CheckpointError(f"{place.join(CONFIG).uri} has no section search")
    state = SearchState.of(Ledger(place).events())
    names = state.sessions[-1].goals if state.sessions else job.search.metrics or ["weighted_f1"]
    greater = {name for known in GREATER.values() for name in known}
    goals = [Goal(name, 1 if name in greater else -1) for name in names]
    ranges = {
        path: entry
        for path, entry in job.search.space.items()
        if isinstance(entry, RangeConfig) and entry.kind != "same_as"
    }
    file = place.join(RECORD)
    record = read_as(SearchRecord, file.read_text(), place=file.uri) if file.exists() else None
    best = place.join(BEST).read_text() if place.join(BEST).exists() else ""
    return Search(place.name, job, state, goals, record, ranges, importance(state, ranges, goals[0]), best)


def _job(place: Location) -> JobConfig:
    try:
        content = yaml.safe_load(place.join(CONFIG).read_text())
        return resolve(content if isinstance(content, dict) else {"config": content})
    except (*NOT_YAML, ConfigError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{place.join(CONFIG).uri} is damaged, or of another version: {reason}") from None
