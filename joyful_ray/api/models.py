"""Functions of the Python API that use corpora and trained models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from joyful_ray.api.data_results import CorpusResult, EvaluationResult, PredictionResult, ReportResult
    from joyful_ray.predict.predictor import Predictor
    from joyful_ray.schema import Split


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
    from joyful_ray.api.data_results import EvaluationResult
    from joyful_ray.assess.assessment import assess_bundle

    return EvaluationResult(assess_bundle(bundle, corpus, split=split, label_map=label_map, device=device), split)


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
    from joyful_ray.api.data_results import PredictionResult
    from joyful_ray.errors import ConfigError

    is_corpus = isinstance(source, str) and not source.endswith(".jsonl")
    if not is_corpus and (splits is not None or workers):
        raise ConfigError("splits and workers belong to a corpus, not to a .jsonl file or conversations")
    if not isinstance(source, str):
        if out is not None:
            raise ConfigError("conversations given as dicts are predicted in memory; write the result with to_pandas()")
        return PredictionResult(load(bundle, device=device).predict(source, embedding=embedding))
    if not is_corpus:
        from joyful_ray.predict.jsonl import predict_jsonl

        found = predict_jsonl(bundle, source, out, embedding=embedding, device=device)
        return PredictionResult(found.table, found.out)
    if out is None:
        raise ConfigError("predictions for a corpus need out, a folder or s3:// URI")
    return _predict_corpus(bundle, source, out, splits=splits, workers=workers, embedding=embedding, device=device)


def _predict_corpus(
    bundle: str, corpus: str, out: str, *, splits: Sequence[Split] | None, workers: int, embedding: bool, device: str
) -> PredictionResult:
    from joyful_ray.api.data_results import PredictionResult
    from joyful_ray.predict.job import predict_corpus
    from joyful_ray.settings import ClusterConfig
    from joyful_ray.storage import open_location

    card = predict_corpus(
        bundle,
        corpus,
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
    from joyful_ray.api.data_results import CorpusResult
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
    from joyful_ray.api.data_results import ReportResult
    from joyful_ray.report.page import page
    from joyful_ray.report.read_runs import read_all
    from joyful_ray.storage import open_location

    text = page(*read_all([places] if isinstance(places, str) else list(places)))
    target = open_location(out)
    target.write_text(text)
    return ReportResult(target.uri, text)
