"""Functions of the Python API that use corpora and trained models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from joyful_ray.api.data_results import CorpusResult, EvaluationResult, PredictionResult, ReportResult
    from joyful_ray.predict.decoder import VectorChoice
    from joyful_ray.predict.predictor import Predictor
    from joyful_ray.schema import Split

    Place = str | PathLike[str]


def evaluate(
    bundle: Place | Sequence[Place],
    corpus: Place,
    *,
    split: Split = "test",
    label_map: Place | None = None,
    device: str = "auto",
) -> EvaluationResult:
    """Score a trained model on a split of any corpus.

    Args:
        bundle: `<run>/bundle` or the run itself; a path or s3:// URI. The probabilities of several are averaged.
        corpus: a path or s3:// URI.
        split: train, dev or test.
        label_map: a YAML file that maps the model's labels to those of the corpus, if they differ.
        device: auto, cpu or cuda.

    Returns:
        Scores with intervals, calibration, groups and feature shift.

    Raises:
        UserError: bundle and corpus do not fit, or there is no such split.

    Example:
        joyful_ray.evaluate("runs/meld/bundle", "corpora/meld").confusion()
    """
    from joyful_ray.api.data_results import EvaluationResult
    from joyful_ray.assess.assessment import assess_bundle

    _check_split(split)
    names = None if label_map is None else fspath(label_map)
    assessment = assess_bundle(_bundles(bundle), fspath(corpus), split=split, label_map=names, device=device)
    return EvaluationResult(assessment, split)


def predict(
    bundle: Place | Sequence[Place],
    source: Place | Iterable[Mapping[str, Any]],
    out: Place | None = None,
    *,
    splits: Iterable[Split] | None = None,
    workers: int = 0,
    gpus_per_worker: float = 0.0,
    address: str | None = None,
    embedding: bool = False,
    shared: bool = False,
    device: str = "auto",
) -> PredictionResult:
    """Predict the label of every utterance.

    Args:
        bundle: `<run>/bundle` or the run itself; a path or s3:// URI. The probabilities of several are averaged.
        source: a corpus (path or s3:// URI), a `.jsonl` file of conversations, or conversations as dicts with the keys
            of such a file.
        out: where to write. A corpus needs it (a folder of Parquet files); for a `.jsonl` file it is a .jsonl, .csv or
            .parquet file, or None to return the predictions.
        splits: splits of a corpus; None is all of them.
        workers: actors on Ray that predict a corpus; 0 predicts in this process.
        gpus_per_worker: GPUs, or the share of one, of each actor.
        address: the Ray cluster to join if there are workers; None starts a local one.
        embedding: add the vector that the graph gave each utterance.
        shared: add each modality's vector in the basis that all modalities share.
        device: auto, cpu or cuda, if `workers` is 0.

    Returns:
        The predictions, in memory or where they were written.

    Raises:
        UserError: bundle and input do not fit, or an argument does not belong to this kind of input.

    Example:
        joyful_ray.predict("runs/mine/bundle", [{"speakers": ["Ann"], "text": [vector]}]).to_pandas()
    """
    from joyful_ray.api.data_results import PredictionResult
    from joyful_ray.errors import ConfigError
    from joyful_ray.predict.decoder import VectorChoice

    vectors = VectorChoice(embedding, shared)
    place = fspath(source) if isinstance(source, str | PathLike) else None
    target = None if out is None else fspath(out)
    is_corpus = place is not None and not place.endswith(".jsonl")
    if not is_corpus and (splits is not None or workers or gpus_per_worker or address):
        raise ConfigError("splits, workers, gpus_per_worker and address belong to a corpus, not to conversations")
    if not isinstance(source, str | PathLike):
        if target is not None:
            raise ConfigError("conversations given as dicts are predicted in memory; write the result with to_pandas()")
        return PredictionResult(load(bundle, device=device).predict(source, embedding=embedding, shared=shared))
    if not is_corpus:
        return _predict_jsonl(_bundles(bundle), fspath(source), target, vectors, device=device)
    if target is None:
        raise ConfigError("predictions for a corpus need out, a folder or s3:// URI")
    cluster = {"workers": workers, "gpus_per_worker": gpus_per_worker, "address": address}
    return _predict_corpus(_bundles(bundle), fspath(source), target, splits, cluster, vectors, device=device)


def _bundles(bundle: Place | Sequence[Place]) -> str | list[str]:
    return fspath(bundle) if isinstance(bundle, str | PathLike) else [fspath(each) for each in bundle]


def _predict_jsonl(
    bundle: str | Sequence[str], source: str, out: str | None, vectors: VectorChoice, *, device: str
) -> PredictionResult:
    from joyful_ray.api.data_results import PredictionResult
    from joyful_ray.predict.jsonl import predict_jsonl

    found = predict_jsonl(bundle, source, out, vectors=vectors, device=device)
    return PredictionResult(found.table, found.out)


def _predict_corpus(
    bundle: str | Sequence[str],
    corpus: str,
    out: str,
    splits: Iterable[Split] | None,
    cluster: Mapping[str, Any],
    vectors: VectorChoice,
    *,
    device: str,
) -> PredictionResult:
    from joyful_ray.api.data_results import PredictionResult
    from joyful_ray.config import resolve
    from joyful_ray.predict.job import predict_corpus
    from joyful_ray.storage import open_location

    card = predict_corpus(
        bundle,
        corpus,
        out,
        splits=None if splits is None else [_check_split(split) for split in splits],
        cluster=resolve({"cluster": dict(cluster)}).cluster,
        vectors=vectors,
        device=device,
    )
    return PredictionResult(None, open_location(out).uri, card)


def _check_split(split: Split) -> Split:
    from joyful_ray.errors import ConfigError
    from joyful_ray.schema import SPLITS

    if split not in SPLITS:
        raise ConfigError(f"there is no split {split!r}; splits are {', '.join(SPLITS)}")
    return split


def load(bundle: Place | Sequence[Place], *, device: str = "auto") -> Predictor:
    """Open a trained model to predict new conversations one call after the other.

    Args:
        bundle: `<run>/bundle` or the run itself; a path or s3:// URI. The probabilities of several are averaged.
        device: auto, cpu or cuda.

    Returns:
        A predictor; its method `predict` takes conversations as dicts and returns an Arrow table.

    Raises:
        CheckpointError: there is no bundle, or it is damaged.

    Example:
        joyful_ray.load("runs/meld/bundle").predict([{"speakers": ["Ann"], "text": [vector]}]).to_pandas()
    """
    from joyful_ray.predict.predictor import Predictor

    return Predictor.open(_bundles(bundle), device=device)


def import_corpus(
    format: str,
    source: Place,
    out: Place,
    *,
    options: Mapping[str, Any] | None = None,
    max_bad: float = 0.0,
    overwrite: bool = False,
) -> CorpusResult:
    """Convert the files of a data set to a corpus.

    Args:
        format: name of an importer; `joyful import --list` shows all.
        source: folder or file of the data set; a path or s3:// URI.
        out: where the corpus goes; a path or s3:// URI.
        options: options of the importer.
        max_bad: maximum share of bad conversations, 0 to 1; they go to quarantine.jsonl.
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

    given = {name: str(value) for name, value in (options or {}).items()}
    importers.import_corpus(format, fspath(source), fspath(out), options=given, max_bad=max_bad, overwrite=overwrite)
    return open_corpus(out)


def open_corpus(uri: Place) -> CorpusResult:
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
    from joyful_ray.api.data_results import CorpusResult
    from joyful_ray.corpora.shards import open_corpus as open_shards

    return CorpusResult(open_shards(fspath(uri)))


def report(places: Place | Sequence[Place], out: Place | None = None) -> ReportResult:
    """Write one HTML page with tables and charts of runs and searches. It needs no network.

    Args:
        places: folders of runs and searches; paths or s3:// URIs.
        out: where the page goes; None is `report.html` in the first folder.

    Returns:
        The page; a notebook shows it.

    Raises:
        ConfigError: no folder is given.
        CheckpointError: a folder holds no run or search, or is damaged.

    Example:
        joyful_ray.report(["runs/meld-seed-0", "runs/meld-seed-1"], "report.html")
    """
    from joyful_ray.api.data_results import ReportResult
    from joyful_ray.errors import ConfigError
    from joyful_ray.report.page import page
    from joyful_ray.report.read_runs import read_all, read_studies
    from joyful_ray.storage import open_location

    uris = [fspath(each) for each in ([places] if isinstance(places, str | PathLike) else places)]
    if not uris:
        raise ConfigError("a report needs at least one folder of a run or a search")
    text = page(*read_all(uris), read_studies(uris))
    target = open_location(out) if out is not None else open_location(uris[0]).join("report.html")
    target.write_text(text)
    return ReportResult(target.uri, text)
