"""What a study trains: one job for each variant, corpus and seed, resolved and checked before anything starts."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from joyful_ray.config import JobConfig, load_job, nearest
from joyful_ray.corpora.shards import Corpus, open_corpus
from joyful_ray.corpora.synthetic import synthesize
from joyful_ray.errors import ConfigError
from joyful_ray.schema import MANIFEST_NAME, Task
from joyful_ray.storage import Location, open_location
from joyful_ray.study.counts import SPEAKER
from joyful_ray.study_settings import StudyConfig
from joyful_ray.train.launch import check_job
from joyful_ray.tune.goals import GREATER, LESS

Overrides = Sequence[str | tuple[str, Any]]
SCORE = "score"
"""First part of a measure that is a score of the compared split."""
FIXED = ("name", "corpus", "storage", "seed", "study", "search", "transfer", "cluster")
"""Settings that a variant cannot change."""


@dataclass(frozen=True)
class Planned:
    """One run of a study."""

    corpus: str
    variant: str
    seed: int
    job: JobConfig

    @property
    def name(self) -> str:
        """Name of the run, a folder below that of the study."""
        part = "" if self.job.data.folds is None else f"-fold-{self.job.data.fold}-of-{self.job.data.folds}"
        return f"{self.variant}-on-{self.corpus}-seed-{self.seed}{part}"


@dataclass(frozen=True)
class StudyPlan:
    """A study with everything resolved.

    Attributes:
        name: name of the study.
        study: its section.
        variants: settings by path of each variant, grid included, in the order of the table.
        corpora: the opened corpora by name.
        runs: all runs, seed by seed, so that a study that is stopped has whole rounds.
        location: folder of the study.
    """

    name: str
    study: StudyConfig
    variants: Mapping[str, Mapping[str, Any]]
    corpora: Mapping[str, Corpus]
    runs: Sequence[Planned]
    location: Location


def plan_study(
    source: str | Path | Mapping[str, Any],
    overrides: Overrides = (),
    *,
    name: str | None = None,
    seeds: Sequence[int] | None = None,
) -> StudyPlan:
    """Resolve a study, make its synthetic corpora, and check every job.

    Args:
        source: the YAML file of the study, or a mapping with the same keys.
        overrides: as for `load_job`; they hold for every variant, below the variant's own settings.
        name: name of the study; None takes the job's.
        seeds: in place of `study.seeds`.

    Raises:
        UserError: the study, one of its jobs or a corpus cannot be used; nothing was trained.
    """
    base = load_job(source, overrides)
    if base.study is None:
        raise ConfigError(f"job {base.name} has no section study; see jobs/studies")
    study = base.study if seeds is None else StudyConfig.model_validate({**base.study.model_dump(), "seeds": [*seeds]})
    name = base.name if name is None else name
    location = open_location(base.storage).join(name)
    variants = variants_of(study)
    uris = _corpora(study, base, location)
    jobs = {
        (corpus, variant): _job_of(source, overrides, settings, variant, uri, location)
        for corpus, uri in uris.items()
        for variant, settings in variants.items()
    }
    corpora = {corpus: open_corpus(uri) for corpus, uri in uris.items()}
    tasks = {corpus: opened.manifest.task for corpus, opened in corpora.items()}
    if len(set(tasks.values())) > 1:
        found = ", ".join(f"{corpus} is {task}" for corpus, task in tasks.items())
        raise ConfigError(f"the corpora of a study must have one task, so that scores can be compared; {found}")
    _check_measures(study.measures, next(iter(tasks.values())))
    for corpus, opened in corpora.items():
        _check_groups(study.groups, corpus, opened)
    for (corpus, variant), job in jobs.items():
        _check_folds(study, variant, job)
        check_job(job, corpora[corpus])
        if job.train.refit and "test" not in corpora[corpus].splits():
            raise ConfigError(f"variant {variant} trains on dev (train.refit), and {corpus} has no test to compare on")
    runs = [
        Planned(corpus, variant, seed, each.model_copy(update={"seed": seed}))
        for seed in study.seeds
        for (corpus, variant), job in jobs.items()
        for each in _by_fold(job, study.folds)
    ]
    return StudyPlan(name, study, variants, corpora, runs, location)


def _by_fold(job: JobConfig, folds: int | None) -> list[JobConfig]:
    """The job on each part of a cross-validation, or the job itself."""
    if folds is None:
        return [job]
    divided = [job.data.model_copy(update={"folds": folds, "fold": fold}) for fold in range(folds)]
    return [job.model_copy(update={"data": data}) for data in divided]


def _check_folds(study: StudyConfig, variant: str, job: JobConfig) -> None:
    if study.folds is not None and job.train.refit:
        raise ConfigError(f"variant {variant}: train.refit would train on the parts that study.folds holds out")
    if study.folds is None and job.data.folds is not None:
        raise ConfigError(f"variant {variant}: data.folds is set; let study.folds divide the corpus")


def _check_measures(measures: Sequence[str], task: Task) -> None:
    known = [name for name in (*GREATER[task], *LESS[task]) if name != "seconds"]
    for measure in measures:
        what, _, name = measure.partition("/")
        if what == SCORE and name not in known:
            raise ConfigError(f"study.measures: {task} has no score {name}; {nearest(name, known)}")


def _check_groups(groups: Sequence[str], name: str, corpus: Corpus) -> None:
    known = [SPEAKER, *corpus.manifest.speaker_attributes]
    for group in groups:
        if group not in known:
            advice = "" if len(known) > 1 else "; joyful import has the option speaker_attributes=FILE"
            raise ConfigError(f"study.groups: {name} has no speaker attribute {group}, only {', '.join(known)}{advice}")
    if groups and not {"test", "dev"} & set(corpus.splits()):
        raise ConfigError(f"study.groups needs a corpus with test or dev; {name} has {', '.join(corpus.splits())}")


def variants_of(study: StudyConfig) -> dict[str, Mapping[str, Any]]:
    """The settings of each variant by path, those of the grid included.

    Raises:
        ConfigError: the reference is none of them, or one changes what a variant cannot.
    """
    found: dict[str, Mapping[str, Any]] = dict(study.variants)
    paths = list(study.grid)
    for values in itertools.product(*study.grid.values()) if paths else ():
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", "_".join(_word(value) for value in values))
        found[name] = dict(zip(paths, values, strict=True))
    if study.reference not in found:
        raise ConfigError(
            f"study.reference: there is no variant {study.reference}; {nearest(study.reference, [*found])}"
        )
    for name, settings in found.items():
        for path in settings:
            if path.partition(".")[0] in FIXED:
                raise ConfigError(f"study.variants.{name} cannot change {path}")
    return found


def _word(value: Any) -> str:
    return "all" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _corpora(study: StudyConfig, base: JobConfig, location: Location) -> dict[str, str]:
    """The URI of each corpus; synthetic ones are made if they are not there yet."""
    if not study.corpora:
        if base.corpus is None:
            raise ConfigError("the study names no corpus; set corpus, or study.corpora")
        return {Path(base.corpus.rstrip("/")).name: base.corpus}
    uris = {}
    for name, entry in study.corpora.items():
        if isinstance(entry, str):
            uris[name] = entry
            continue
        of_task = "" if entry.task == "single-label" else f"-{entry.task}"
        place = location.join("corpora", f"{name}-{entry.conversations}-{entry.seed}{of_task}")
        if not place.join(MANIFEST_NAME).exists():
            synthesize(place.uri, conversations=entry.conversations, seed=entry.seed, task=entry.task, overwrite=True)
        uris[name] = place.uri
    return uris


def _job_of(
    source: str | Path | Mapping[str, Any],
    overrides: Overrides,
    settings: Mapping[str, Any],
    variant: str,
    corpus: str,
    location: Location,
) -> JobConfig:
    own = [("study", None), *settings.items(), ("corpus", corpus), ("storage", location.join("runs").uri)]
    try:
        return load_job(source, [*overrides, *own])
    except ConfigError as error:
        raise ConfigError(f"study variant {variant}: {error}") from None
