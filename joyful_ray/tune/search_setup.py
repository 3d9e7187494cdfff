"""A search that is checked and not started: its space, corpus, goals and folder."""

from __future__ import annotations

from dataclasses import dataclass

from joyful_ray.config import JobConfig
from joyful_ray.corpora.shards import Corpus, open_corpus
from joyful_ray.data.prepare import task_of, widths_of
from joyful_ray.data.split_rows import split_rows
from joyful_ray.errors import ConfigError
from joyful_ray.search_settings import SearchConfig
from joyful_ray.train.component_check import check_components
from joyful_ray.train.launch import check_gpus
from joyful_ray.tune.goals import Goal, goals_of
from joyful_ray.tune.search_directory import SearchDirectory
from joyful_ray.tune.space import Space


@dataclass(frozen=True)
class SearchSetup:
    """A checked search, before Ray starts."""

    space: Space
    corpus: Corpus
    goals: list[Goal]
    home: SearchDirectory

    @property
    def search(self) -> SearchConfig:
        """The settings of the search."""
        return self.space.search

    @property
    def goal(self) -> Goal:
        """The first goal, which decides about early stopping and the winner."""
        return self.goals[0]


def setup(job: JobConfig, *, name: str | None = None) -> SearchSetup:
    """Check a search job and its corpus, without starting anything.

    Raises:
        UserError: a setting, a range, a metric or the corpus cannot be used.
    """
    space = Space.of(job)
    if job.corpus is None:
        raise ConfigError("corpus is not set; name one in the job file or with --set corpus=PATH")
    corpus = open_corpus(job.corpus)
    goals = goals_of(space.search, task_of(corpus.manifest, job))
    widths_of(corpus.manifest, job)
    split_rows(corpus, job)
    check_components(space.job, corpus)
    workers = space.search.workers_per_trial
    if workers > 1:
        check_gpus(space.search.gpus_per_trial / workers, f"search.gpus_per_trial with {workers} workers per trial")
    return SearchSetup(space, corpus, goals, SearchDirectory.of(job, name))
