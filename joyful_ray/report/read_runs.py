"""Reads runs, searches and studies from their files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import yaml

from joyful_ray.config import NOT_YAML, JobConfig, resolve
from joyful_ray.errors import CheckpointError, ConfigError
from joyful_ray.records import STUDY_RECORD, EpochMetrics, RunRecord, SearchRecord, StudyRecord, read_as, read_lines_as
from joyful_ray.search_settings import RangeConfig
from joyful_ray.storage import Location, open_location
from joyful_ray.tune.goals import GREATER, Goal
from joyful_ray.tune.importance import importance
from joyful_ray.tune.ledger import Ledger
from joyful_ray.tune.search_state import SearchState

DEEPEST = 4
"""How many levels of folders a report looks through."""
CONFIG, METRICS, RECORD, BEST = "config.yaml", "metrics.jsonl", "record.json", "best.yaml"


@dataclass(frozen=True)
class Run:
    """A run; `record` is None until it is finished."""

    name: str
    job: JobConfig
    epochs: Sequence[EpochMetrics]
    record: RunRecord | None


@dataclass(frozen=True)
class Search:
    """A search; `record` is None until it is finished.

    Attributes:
        ranges: the searched ranges, by path.
        importance: importance of each setting, the largest first.
        best_yaml: the chosen config as YAML; empty until there is one.
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
        """The goal that decides."""
        return self.goals[0]


def read_all(uris: Sequence[str]) -> tuple[list[Run], list[Search]]:
    """Read runs and searches.

    Args:
        uris: folders of runs and searches, or folders with runs and searches anywhere below. Trials of a search are not
            runs of their own.

    Raises:
        CheckpointError: a folder has neither, or a file is damaged.
    """
    runs: list[Run] = []
    searches: list[Search] = []
    seen: set[str] = set()
    for uri in uris:
        found = list(_below(open_location(uri), DEEPEST))
        if not found and not any(_studies(open_location(uri), DEEPEST)):
            raise CheckpointError(
                f"{open_location(uri).uri} has no run, no search and no study, nor has any folder below it"
            )
        for place in found:
            if place.uri in seen:
                continue
            seen.add(place.uri)
            if Ledger(place).exists():
                searches.append(read_search(place))
            else:
                runs.append(read_run(place))
    return runs, searches


def read_studies(uris: Sequence[str]) -> list[StudyRecord]:
    """Read the studies at some folders, or anywhere below.

    Raises:
        CheckpointError: a record is damaged.
    """
    files = dict.fromkeys(place.join(STUDY_RECORD) for uri in uris for place in _studies(open_location(uri), DEEPEST))
    return [read_as(StudyRecord, file.read_text(), place=file.uri) for file in files]


def _studies(place: Location, depth: int) -> Iterator[Location]:
    if place.join(STUDY_RECORD).exists():
        yield place
    elif depth and not place.join(CONFIG).exists():
        for name in place.list():
            if not name.startswith(".") and place.join(name).is_dir():
                yield from _studies(place.join(name), depth - 1)


def _below(place: Location, depth: int) -> Iterator[Location]:
    """The runs and searches at a place, or else below it; those of a study belong to it."""
    if place.join(CONFIG).exists():
        yield place
    elif depth and not place.join(STUDY_RECORD).exists():
        for name in place.list():
            if not name.startswith(".") and place.join(name).is_dir():
                yield from _below(place.join(name), depth - 1)


def read_run(place: Location) -> Run:
    """Read one run.

    Raises:
        CheckpointError: one of them is damaged.
    """
    metrics, record = place.join(METRICS), place.join(RECORD)
    epochs = read_lines_as(EpochMetrics, metrics.read_text(), place=metrics.uri) if metrics.exists() else []
    found = read_as(RunRecord, record.read_text(), place=record.uri) if record.exists() else None
    return Run(place.name, _job(place), epochs, found)


def read_search(place: Location) -> Search:
    """Read one search.

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
        raise CheckpointError(
            f"{place.join(CONFIG).uri} is damaged, or was written by another version: {reason}"
        ) from None
