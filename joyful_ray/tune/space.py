"""The search space: ranges checked against real jobs, and configs sampled from them. No torch, no ray."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from joyful_ray.config import JobConfig, first_problem, merge, nearest, setting, setting_paths, with_exact_epochs
from joyful_ray.errors import ConfigError
from joyful_ray.search_settings import RangeConfig, SearchConfig
from joyful_ray.tune.ranges import (
    all_values,
    as_optuna,
    contains,
    distribution,
    draw_value,
    grid_values,
    probe_values,
)

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Settings = dict[str, Any]
"""Values of settings, by path."""

NOT_SEARCHED = {
    "name": "it is the name of the search",
    "corpus": "trials are compared on one corpus",
    "train.refit": "trials are compared on dev",
    "study": "a search and a study are different commands",
    "storage": "it is where the search is written",
    "seed": "search.repeat tries several seeds",
    "task": "the corpus determines it",
    "search": "a search cannot search its own settings",
    "cluster": "search.cpus_per_trial, gpus_per_trial and workers_per_trial determine it",
    "data.dev_fraction": "trials are compared on one dev split",
    "data.folds": "trials are compared on one dev split",
    "data.fold": "trials are compared on one dev split",
    "data.ingest": "it does not change the result",
    "data.streaming_buffer_conversations": "it does not change the result with a corpus in memory",
    "model.preset": "it is below the job's own settings; search the settings that should differ",
    "train.device": "search.gpus_per_trial determines it",
    "train.keep_checkpoints": "search.keep_best determines what is kept",
    "train.diagnostics": "it does not change the result",
    "train.evaluation_utterances": "it does not change the result",
}
ATTEMPTS = 200
PROBES = 24


@dataclass(frozen=True)
class Space:
    """The ranges of a search, on top of its job.

    Attributes:
        ranges: what is sampled, ordered so that conditions come after the settings that they refer to.
        constants: settings with one value.
        same: by path, the path whose value it takes.
    """

    job: JobConfig
    search: SearchConfig
    ranges: Mapping[str, RangeConfig]
    constants: Mapping[str, Any]
    same: Mapping[str, str]

    @classmethod
    def of(cls, job: JobConfig) -> Space:
        """The space of a search job. Each path and range is checked by building real jobs.

        Raises:
            ConfigError: the job has no search, a path is unknown, or a value is not valid for its setting.
        """
        if job.search is None:
            raise ConfigError(f"job {job.name} has no section search; see jobs/meld-search.yaml for one")
        entries = job.search.space
        _check_paths(list(entries), job)
        drawn = {path: entry for path, entry in entries.items() if isinstance(entry, RangeConfig)}
        same = {path: entry.same_as for path, entry in drawn.items() if entry.same_as is not None}
        space = cls(
            job=job.model_copy(update={"search": None}),
            search=job.search,
            ranges=_in_order({path: entry for path, entry in drawn.items() if path not in same}),
            constants={path: entry for path, entry in entries.items() if path not in drawn},
            same=same,
        )
        space._check()
        return space

    def draw(self, index: int) -> Settings:
        """The random config with this number; it depends only on the search's seed and the number.

        Raises:
            ConfigError: none of many samples is a valid combination.
        """
        random = np.random.default_rng([self.search.seed, index])
        problem = ""
        for _ in range(ATTEMPTS):
            settings = self.complete({path: draw_value(entry, random) for path, entry in self.ranges.items()})
            try:
                self.job_of(settings)
            except ConfigError as error:
                problem = str(error)
            else:
                return settings
        raise ConfigError(f"search.space: none of {ATTEMPTS} samples is a valid combination; the last one: {problem}")

    def grid(self) -> list[Settings]:
        """Every valid combination once.

        Raises:
            ConfigError: a range has no step.
        """
        columns = [grid_values(path, entry) for path, entry in self.ranges.items()]
        found: dict[str, Settings] = {}
        for values in itertools.product(*columns):
            settings = self.complete(dict(zip(self.ranges, values, strict=True)))
            try:
                self.job_of(settings)
            except ConfigError:
                continue
            found.setdefault(json.dumps(settings, sort_keys=True), settings)
        return list(found.values())

    def complete(self, drawn: Mapping[str, Any]) -> Settings:
        """Add constants and equal settings to sampled values, and drop settings whose condition does not hold."""
        settings = dict(self.constants)
        for path, entry in self.ranges.items():
            if path in drawn and _holds(entry.when, settings):
                settings[path] = drawn[path]
        for path, other in self.same.items():
            if path.startswith("data.") and not other.startswith("data."):
                raise ConfigError(f"search.space.{path}: same_as must name another setting of data, not {other}")
            if other in settings and _holds(self._entry(path).when, settings):
                settings[path] = settings[other]
        return settings

    def job_of(self, settings: Mapping[str, Any], *, seed: int | None = None) -> JobConfig:
        """The job of one config.

        Raises:
            ConfigError: the settings are not a valid combination.
        """
        return job_with(self.job, dict(settings) | ({} if seed is None else {"seed": seed}))

    def distributions(self) -> dict[str, BaseDistribution]:
        """The ranges as optuna's distributions; choices are encoded as JSON."""
        return {path: distribution(entry) for path, entry in self.ranges.items()}

    def known_values(self, settings: Mapping[str, Any]) -> dict[str, Any] | None:
        """The values of a trial of another space in the ranges of this one, for optuna; None if they are outside.

        A setting that the trial did not sample has the job's value.
        """
        found: dict[str, Any] = {}
        complete = self.complete({path: settings.get(path, setting(self.job, path)) for path in self.ranges})
        for path, kind in self.distributions().items():
            if path not in complete:
                continue
            value = as_optuna(self.ranges[path], complete[path])
            if not contains(kind, value):
                return None
            found[path] = value
        return found

    def _entry(self, path: str) -> RangeConfig:
        entry = self.search.space[path]
        assert isinstance(entry, RangeConfig)
        return entry

    def _check(self) -> None:
        for path, entry in self.ranges.items():
            if path.startswith("data.") and entry.kind != "choice":
                raise ConfigError(f"search.space.{path}: the corpus is prepared for each value; give a choice")
            for value in probe_values(entry):
                self._check_value(path, value)
            self._check_condition(path, entry)
        for path, value in self.constants.items():
            self._check_value(path, value)
        for path, other in self.same.items():
            if path.startswith("data.") and not other.startswith("data."):
                raise ConfigError(f"search.space.{path}: same_as must name another setting of data, not {other}")
            if other not in self.ranges and other not in self.constants:
                known = [*self.ranges, *self.constants]
                raise ConfigError(f"search.space.{path} is the same as {other}; {nearest(other, known)}")
            self._check_condition(path, self._entry(path))
            for value in probe_values(self.ranges[other]) if other in self.ranges else [self.constants[other]]:
                self._check_value(path, value)
        if self.search.algorithm == "grid":
            if not self.grid():
                raise ConfigError("search.space: no combination is valid")
        else:
            for index in range(PROBES):
                self.draw(index)

    def _check_value(self, path: str, value: Any) -> None:
        try:
            JobConfig.model_validate(merge(self.job.model_dump(mode="json"), tree_of({path: value})))
        except ValidationError as error:
            # Rules between settings are checked on whole configs.
            if error.errors()[0]["loc"]:
                raise ConfigError(f"search.space: {first_problem(error)}") from None

    def _check_condition(self, path: str, entry: RangeConfig) -> None:
        for other, wanted in (entry.when or {}).items():
            if other not in self.ranges and other not in self.constants:
                known = [*self.ranges, *self.constants]
                raise ConfigError(f"search.space.{path}.when names {other}; {nearest(other, known)}")
            looked_at = self.ranges.get(other)
            values = all_values(looked_at) if looked_at is not None else [self.constants[other]]
            for value in wanted if isinstance(wanted, list) else [wanted]:
                if value not in values:
                    raise ConfigError(f"search.space.{path}.when: {other} is never {value!r}; its values are {values}")


def job_with(job: JobConfig, settings: Mapping[str, Any]) -> JobConfig:
    """A job with some settings changed, by path.

    Raises:
        ConfigError: they are not valid.
    """
    try:
        return JobConfig.model_validate(merge(job.model_dump(mode="json"), with_exact_epochs(tree_of(settings))))
    except ValidationError as error:
        raise ConfigError(first_problem(error)) from None


def tree_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Convert settings by path to a tree of sections."""
    tree: dict[str, Any] = {}
    for path, value in settings.items():
        branch: Any = value
        for part in reversed(path.split(".")):
            branch = {part: branch}
        tree = merge(tree, branch)
    return tree


def _check_paths(paths: list[str], job: JobConfig) -> None:
    known = [path for path in setting_paths() if not _reason_against(path)]
    for part in ("fusion", "context", "encoder"):
        known += [f"model.{part}.options.{name}" for name in getattr(job.model, part).options]
    for path in paths:
        reason = _reason_against(path)
        if reason:
            raise ConfigError(f"search.space: {path} cannot be searched, because {reason}")
        if path not in known:
            raise ConfigError(f"search.space: unknown setting {path}; {nearest(path, known)}")


def _reason_against(path: str) -> str | None:
    found = (NOT_SEARCHED[name] for name in NOT_SEARCHED if path == name or path.startswith(name + "."))
    return next(found, None)


def _in_order(ranges: dict[str, RangeConfig]) -> dict[str, RangeConfig]:
    ordered: dict[str, RangeConfig] = {}
    waiting = dict(ranges)
    while waiting:
        ready = [path for path, entry in waiting.items() if not set(entry.when or {}) & set(waiting)]
        if not ready:
            raise ConfigError(f"search.space: the conditions of {', '.join(waiting)} refer to each other in a circle")
        ordered |= {path: waiting.pop(path) for path in ready}
    return ordered


def _holds(when: Mapping[str, Any] | None, settings: Mapping[str, Any]) -> bool:
    return all(
        path in settings and settings[path] in (wanted if isinstance(wanted, list) else [wanted])
        for path, wanted in (when or {}).items()
    )
