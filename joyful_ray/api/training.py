"""Functions of the Python API that train and search."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from joyful_ray.api.run_results import RunResult, SearchResult, SeedsResult
    from joyful_ray.config import JobConfig
    from joyful_ray.train.callbacks import Callback

    Job = JobConfig | Mapping[str, Any] | str | PathLike[str]
    Overrides = Mapping[str, Any] | Sequence[str]


def load_job(job: Job, overrides: Overrides | None = None) -> JobConfig:
    """Read a job and check it.

    Args:
        job: path of a YAML file, or a mapping with the same keys, or a job that is loaded already.
        overrides: settings that win over the job: `{"train.epochs": 3}`, or `["train.epochs=3"]` as on the command
            line.

    Returns:
        The job with every setting resolved.

    Raises:
        ConfigError: the file is absent, or a setting is unknown or out of range.

    Example:
        job = joyful_ray.load_job("jobs/meld.yaml", {"train.epochs": 3})
    """
    from joyful_ray import config

    lines = _override_lines(overrides)
    if isinstance(job, config.JobConfig):
        return config.override(job, lines) if lines else job
    return config.load_job(job if isinstance(job, Mapping) else Path(job), lines)


def train(
    job: Job, *, overrides: Overrides | None = None, name: str | None = None, callbacks: Iterable[Callback] = ()
) -> RunResult:
    """Train one run. Dev selects the epoch, and test is read once.

    The same call with the same name continues an unfinished run. A finished run is refused.

    Args:
        job: path of a YAML file, a mapping, or a job.
        overrides: settings that win over the job, as in `load_job`. `{"cluster.workers": 0}` trains in this process,
            without Ray.
        name: name of the run; None takes the job's name.
        callbacks: receive the events of the run, in this process; see `Callback`.

    Returns:
        Record, epochs and model of the run.

    Raises:
        UserError: the job, the corpus or the run's folder cannot be used; nothing was started.
        TrainingError: the run started and failed, or it finished and a callback failed.

    Example:
        run = joyful_ray.train("jobs/demo.yaml", overrides={"cluster.workers": 0})
        run.to_pandas().plot(x="epoch", y="dev/weighted_f1")
    """
    from joyful_ray.api.run_results import RunResult
    from joyful_ray.train.launch import train as launch
    from joyful_ray.train.run_directory import RunDirectory

    resolved = load_job(job, overrides)
    record = launch(resolved, name=name, callbacks=list(callbacks))
    directory = RunDirectory.of(resolved, name)
    return RunResult(record, directory.metrics(), directory.location.uri)


def train_seeds(
    job: Job,
    seeds: Sequence[int],
    *,
    overrides: Overrides | None = None,
    name: str | None = None,
    parallel: int = 1,
) -> SeedsResult:
    """Train a job once per seed, and give mean and standard deviation of every score.

    Args:
        job: path of a YAML file, a mapping, or a job.
        seeds: each once. Seeds that are finished are not trained again.
        overrides: settings that win over the job, as in `load_job`.
        name: name of the job; the runs are called `<name>-seed-<seed>`.
        parallel: maximum number of runs at a time, each in its own process if there are several. The scores do not
            depend on it.

    Returns:
        Scores per seed, their means and deviations.

    Raises:
        UserError: seeds, job, corpus or an existing run do not fit; nothing was started.
        TrainingError: no seed finished.

    Example:
        joyful_ray.train_seeds("jobs/meld.yaml", [0, 1, 2]).to_pandas()
    """
    from joyful_ray.api.run_results import SeedsResult
    from joyful_ray.train.seeds import train_seeds as launch

    return SeedsResult(launch(load_job(job, overrides), seeds, name=name, parallel=parallel))


def search(
    job: Job, *, overrides: Overrides | None = None, name: str | None = None, add_trials: int = 0
) -> SearchResult:
    """Search settings with Ray Tune. The same call continues an interrupted search.

    Args:
        job: path of a YAML file, a mapping, or a job; it has a section `search`.
        overrides: settings that win over the job, as in `load_job`.
        name: name of the search; None takes the job's name.
        add_trials: how many trials to add to a finished search.

    Returns:
        The chosen settings, their scores, and all trials.

    Raises:
        UserError: the job, the corpus or the search's folder cannot be used; nothing was started.
        TrainingError: no trial has a score.

    Example:
        joyful_ray.search("jobs/meld-search.yaml").to_pandas()
    """
    from joyful_ray.api.run_results import SearchResult
    from joyful_ray.report.read_runs import read_search
    from joyful_ray.storage import open_location
    from joyful_ray.tune.search import search as launch

    resolved = load_job(job, overrides)
    record = launch(resolved, name=name, add_trials=add_trials)
    place = open_location(resolved.storage).join(record.name)
    trials = [
        {"trial": trial.name, "outcome": trial.outcome, "epochs": len(trial.epochs), "seconds": trial.seconds}
        | {f"dev/{score}": value for score, value in (trial.selected.dev if trial.selected else {}).items()}
        | dict(trial.settings)
        for trial in read_search(place).state.searched
    ]
    return SearchResult(record, trials, place.uri)


def _override_lines(overrides: Overrides | None) -> list[str]:
    if overrides is None:
        return []
    if isinstance(overrides, Mapping):
        return [f"{path}={json.dumps(value)}" for path, value in overrides.items()]
    return list(overrides)
