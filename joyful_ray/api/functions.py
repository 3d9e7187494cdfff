"""The functions of the Python API: the commands of `joyful`, with results instead of printed tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from joyful_ray.api.results import (
        CorpusResult,
        EvaluationResult,
        PredictionResult,
        ReportResult,
        RunResult,
        SearchResult,
        SeedsResult,
    )
    from joyful_ray.config import JobConfig
    from joyful_ray.predict.predictor import Predictor
    from joyful_ray.schema import Split
    from joyful_ray.train.callbacks import Callback

    Job = JobConfig | Mapping[str, Any] | str | PathLike[str]
    Overrides = Mapping[str, Any] | Sequence[str]

# `joyful_ray` has subpackages called train, predict and report as well. Python binds such a name when it first imports
# the subpackage; doing so here leaves the names to the functions. `from joyful_ray.train.launch import …` still works.
for _subpackage in ("train", "predict", "report"):
    import_module(f"joyful_ray.{_subpackage}")


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
    from joyful_ray.api.results import RunResult
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
        parallel: runs at a time; more than 1 needs `cluster.workers: 0`.

    Returns:
        Scores per seed, their means and deviations.

    Raises:
        UserError: seeds, job, corpus or an existing run do not fit; nothing was started.
        TrainingError: no seed finished.

    Example:
        joyful_ray.train_seeds("jobs/meld.yaml", [0, 1, 2]).to_pandas()
    """
    from joyful_ray.api.results import SeedsResult
    from joyful_ray.train.seeds import train_seeds as launch

    return SeedsResult(launch(load_job(job, overrides), seeds, name=name, parallel=parallel))


def evaluate(
    bundle: str, corpus: str, *, split: Split = "test", label_map: str | None = None, device: str = "auto"
) -> EvaluationResult:
    """Score a trained model on a split of any corpus.

    Args:
        bundle: `<run>/bundle` or the run itself; a path or s3:// URI.
        corpus: a path or s3:// URI.
        split: train, dev or test.
        label_map: a YAML file that maps the model's labels to those of the corpus, if they differ.
        device: auto, cpu or cuda.

    Returns:
        Scores with intervals, calibration, groups and feature shift.

    Raises:
        UserError: bundle and corpus do not fit.

    Example:
        joyful_ray.evaluate("runs/meld/bundle", "corpora/meld").confusion()
    """
    from joyful_ray.api.results import EvaluationResult
    from joyful_ray.assess.assessment import assess_bundle

    return EvaluationResult(assess_bundle(bundle, corpus, split=split, label_map=label_map, device=device), split)


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
    from joyful_ray.api.results import SearchResult
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


def predict(
    bundle: str,
    source: str | Sequence[Mapping[str, Any]],
    out: str | None = None,
    *,
    splits: Sequence[Split] | None = None,
    workers: int = 0,
    embedding: bool = False,
    device: str = "auto",
) -> PredictionResult:
    """Predict the label of every utterance.

    Args:
        bundle: `<run>/bundle` or the run itself; a path or s3:// URI.
        source: a corpus (path or s3:// URI), a `.jsonl` file of conversations, or conversations as dicts with the keys
            of such a file.
        out: where to write. A corpus needs it (a folder of Parquet files); for a `.jsonl` file it is a .jsonl, .csv or
            .parquet file, or None to return the predictions.
        splits: splits of a corpus; None is all of them.
        workers: actors on Ray that predict a corpus; 0 predicts in this process.
        embedding: add the vector that the graph gave each utterance.
        device: auto, cpu or cuda, if `workers` is 0.

    Returns:
        The predictions, in memory or where they were written.

    Raises:
        UserError: bundle and input do not fit, or an argument does not belong to this kind of input.

    Example:
        joyful_ray.predict("runs/mine/bundle", [{"speakers": ["Ann"], "texts": ["We won!"]}]).to_pandas()
    """
    from joyful_ray.api.results import PredictionResult
    from joyful_ray.errors import ConfigError

    is_corpus = isinstance(source, str) and not source.endswith(".jsonl")
    if not is_corpus and (splits is not None or workers):
        raise ConfigError("splits and workers belong to a corpus, not to a .jsonl file or conversations")
    if is_corpus and out is None:
        raise ConfigError("predictions for a corpus need out, a folder or s3:// URI")
    if not isinstance(source, str):
        if out is not None:
            raise ConfigError("conversations given as dicts are predicted in memory; write the result with to_pandas()")
        return PredictionResult(load(bundle, device=device).predict(source, embedding=embedding))
    if not is_corpus:
        from joyful_ray.predict.jsonl import predict_jsonl

        found = predict_jsonl(bundle, source, out, embedding=embedding, device=device)
        return PredictionResult(found.table, found.out)
    from joyful_ray.predict.job import predict_corpus
    from joyful_ray.settings import ClusterConfig
    from joyful_ray.storage import open_location

    assert out is not None
    card = predict_corpus(
        bundle,
        source,
        out,
        splits=None if splits is None else list(splits),
        cluster=ClusterConfig(workers=workers),
        embedding=embedding,
        device=device,
    )
    return PredictionResult(None, open_location(out).uri, card)


def load(bundle: str, *, device: str = "auto") -> Predictor:
    """Open a trained model to predict new conversations one call after the other.

    Args:
        bundle: `<run>/bundle` or the run itself; a path or s3:// URI.
        device: auto, cpu or cuda.

    Returns:
        A predictor; its method `predict` takes conversations as dicts and returns an Arrow table.

    Raises:
        CheckpointError: there is no bundle, or it is damaged.

    Example:
        joyful_ray.load("runs/meld/bundle").predict([{"speakers": ["Ann"], "text": [vector]}]).to_pandas()
    """
    from joyful_ray.predict.predictor import Predictor

    return Predictor.open(bundle, device=device)


def import_corpus(
    format: str,
    source: str,
    out: str,
    *,
    options: Mapping[str, str] | None = None,
    max_bad: float = 0.0,
    overwrite: bool = False,
) -> CorpusResult:
    """Convert the files of a data set to a corpus.

    Args:
        format: name of an importer; `joyful import --list` shows all.
        source: folder or file of the data set; a path or s3:// URI.
        out: where the corpus goes; a path or s3:// URI.
        options: options of the importer.
        max_bad: share of conversations that may be set aside in quarantine.jsonl, from 0 to 1.
        overwrite: replace a corpus that is already at `out`.

    Returns:
        The open corpus.

    Raises:
        ConfigError: unknown format or option.
        CorpusError: a file of the source cannot be used; the message says which, where and why.

    Example:
        joyful_ray.import_corpus("jsonl", "my-data", "corpora/mine")
    """
    from joyful_ray.corpora import importers

    importers.import_corpus(format, source, out, options=options, max_bad=max_bad, overwrite=overwrite)
    return open_corpus(out)


def open_corpus(uri: str) -> CorpusResult:
    """Open a corpus and check it.

    Args:
        uri: a path or s3:// URI.

    Returns:
        The corpus, with counts, its card and its conversations.

    Raises:
        CorpusError: there is no corpus, or it is damaged.

    Example:
        joyful_ray.open_corpus("corpora/meld").to_pandas()
    """
    from joyful_ray.api.results import CorpusResult
    from joyful_ray.corpora.shards import open_corpus as open_shards

    return CorpusResult(open_shards(uri))


def report(places: str | Sequence[str], out: str) -> ReportResult:
    """Write one HTML page with tables and charts of runs and searches. It needs no network.

    Args:
        places: folders of runs and searches; paths or s3:// URIs.
        out: where the page goes.

    Returns:
        The page; a notebook shows it.

    Raises:
        CheckpointError: a folder holds no run or search, or is damaged.

    Example:
        joyful_ray.report(["runs/meld-seed-0", "runs/meld-seed-1"], "report.html")
    """
    from joyful_ray.api.results import ReportResult
    from joyful_ray.report.page import page
    from joyful_ray.report.read_runs import read_all
    from joyful_ray.storage import open_location

    text = page(*read_all([places] if isinstance(places, str) else list(places)))
    target = open_location(out)
    target.write_text(text)
    return ReportResult(target.uri, text)


def _override_lines(overrides: Overrides | None) -> list[str]:
    import json

    if overrides is None:
        return []
    if isinstance(overrides, Mapping):
        return [f"{path}={json.dumps(value)}" for path, value in overrides.items()]
    return list(overrides)
