"""Predicts new conversations in a JSONL file, and adds the speakers, texts and labels of the file."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from joyful_ray.corpora.importers.files import read_npy
from joyful_ray.errors import ConfigError, CorpusError, StorageError
from joyful_ray.predict.decoder import VectorChoice
from joyful_ray.predict.predictor import NO_VECTORS, Predictor
from joyful_ray.predict.table_file import table_format, table_writer
from joyful_ray.schema import MODALITIES
from joyful_ray.storage import Location, open_location
from joyful_ray.wording import counted

CONVERSATIONS_PER_CHUNK = 256


@dataclass(frozen=True)
class JsonlPredictions:
    """The result of `predict_jsonl`.

    Attributes:
        conversations, utterances: how many were predicted.
        table: all rows, or None if they were written to a file.
        out: URI of the file, if there is one.
    """

    conversations: int
    utterances: int
    table: pa.Table | None
    out: str | None


def predict_jsonl(
    bundle: str | Sequence[str],
    source: str,
    out: str | None = None,
    *,
    vectors: VectorChoice = NO_VECTORS,
    device: str = "auto",
) -> JsonlPredictions:
    """Predict every utterance of a JSONL file of conversations.

    The file has the format of the `jsonl` importer, with vectors inline or in .npy files next to it. `labels` and
    `split` are allowed, but do not matter. With `out`, only a few hundred conversations are in memory at a time.

    Args:
        bundle: `<run>/bundle` or the run itself, a path or s3:// URI; the probabilities of several are averaged.
        source: the JSONL file, a path or s3:// URI.
        out: a .jsonl, .csv or .parquet file for the results; without it, they are returned.
        vectors: what to return beside the predictions (not in a .csv file).
        device: auto, cpu or cuda.

    Returns:
        The columns `conversation_id`, `utterance_id`, `speaker`, `text` (null if the file has none), `label` (from the
        file; as JSON if it is not a string), then the columns of `joyful predict`.

    Raises:
        ConfigError: `out` has another suffix, or vectors were requested for a .csv file, or the model has no such ones.
        CorpusError: the bundle cannot read a conversation; the message names the file and the line.
    """
    if out is not None and table_format(out) == ".csv" and vectors:
        raise ConfigError("a .csv file cannot hold vectors; use a .parquet or .jsonl file")
    place = open_location(source)
    if not place.exists():
        raise CorpusError(f"there is no JSONL file {place.uri}")
    predictor = Predictor.open(bundle, device=device)
    tables = _tables(predictor, place, vectors)
    first = next(tables, None)
    if first is None:
        raise CorpusError(f"{place.uri} contains no conversation")
    tables = itertools.chain([first], tables)
    if out is None:
        table = pa.concat_tables(tables)
        return JsonlPredictions(len(set(table["conversation_id"].to_pylist())), table.num_rows, table, None)
    target = open_location(out)
    conversations, utterances = 0, 0
    with target.open("wb") as file, table_writer(file, table_format(out), first.schema) as writer:
        for table in tables:
            writer.write_table(table)
            conversations += len(set(table["conversation_id"].to_pylist()))
            utterances += table.num_rows
    return JsonlPredictions(conversations, utterances, None, target.uri)


def _tables(predictor: Predictor, place: Location, vectors: VectorChoice) -> Iterator[pa.Table]:
    seen: set[str] = set()
    lines = _lines(place)
    while chunk := list(itertools.islice(lines, CONVERSATIONS_PER_CHUNK)):
        conversations = [content for _, content in chunk]
        for number, content in chunk:
            if content["conversation_id"] in seen:
                raise CorpusError(
                    f"{place.uri}, line {number}: conversation_id {content['conversation_id']} appears twice"
                )
            seen.add(content["conversation_id"])
        try:
            predicted = predictor.predict(conversations, embedding=vectors.embedding, shared=vectors.shared)
        except CorpusError:
            _name_invalid_line(predictor, place, chunk)
            raise
        yield _with_inputs(conversations, predicted)


def _name_invalid_line(predictor: Predictor, place: Location, chunk: list[tuple[int, dict[str, Any]]]) -> None:
    """Find the line that the predictor refused, and raise an error that names it."""
    for number, content in chunk:
        try:
            predictor.predict([content])
        except CorpusError as error:
            reason = str(error).partition(": ")[2] or str(error)
            raise CorpusError(f"{place.uri}, line {number}: {reason}") from None


def _lines(place: Location) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield line numbers and conversations, with ids, and with the vectors of .npy files in place of references."""
    arrays: dict[str, np.ndarray] = {}
    with place.open("r") as file:
        try:
            for number, line in enumerate(file, start=1):
                text = line.removeprefix("\ufeff") if number == 1 else line
                if not text.strip():
                    continue
                where = f"{place.uri}, line {number}"
                try:
                    content = json.loads(text)
                except (ValueError, RecursionError) as error:
                    raise CorpusError(f"{where}: not JSON ({error})") from None
                if not isinstance(content, dict):
                    raise CorpusError(f"{where}: not a JSON object")
                content.pop("split", None)
                if not isinstance(content.setdefault("conversation_id", f"conversation-{number}"), str):
                    raise CorpusError(f"{where}: conversation_id is not a string")
                try:
                    _load_vectors(content, place.parent, arrays)
                except (ValueError, CorpusError, StorageError) as error:
                    raise CorpusError(f"{where}: {error}") from None
                yield number, content
        except UnicodeDecodeError:
            raise CorpusError(f"{place.uri} is not UTF-8 text") from None


def _load_vectors(content: dict[str, Any], folder: Location, arrays: dict[str, np.ndarray]) -> None:
    speakers = content.get("speakers")
    count = len(speakers) if isinstance(speakers, list) else 0
    for name in MODALITIES:
        reference = content.get(name)
        if not isinstance(reference, Mapping):
            continue
        file, start = reference.get("npy"), reference.get("start", 0)
        if not isinstance(file, str) or not isinstance(start, int) or start < 0 or set(reference) - {"npy", "start"}:
            raise ValueError(f'{name}: write vectors of a file as {{"npy": "file.npy", "start": 0}}')
        if file not in arrays:
            arrays[file] = read_npy(folder.join(file))
        rows = arrays[file]
        if start + count > len(rows):
            needed = f"rows {start} to {start + count - 1}"
            raise ValueError(f"{name}: needs {needed} of {file}, which has {counted(len(rows), 'row')}")
        content[name] = np.asarray(rows[start : start + count], dtype=np.float32)


def _with_inputs(conversations: list[dict[str, Any]], predicted: pa.Table) -> pa.Table:
    columns: dict[str, list[str | None]] = {"speaker": [], "text": [], "label": []}
    for content in conversations:
        count = len(content["speakers"])
        labels = content.get("labels")
        columns["speaker"] += content["speakers"]
        columns["text"] += content.get("texts") or [None] * count
        labels = labels if isinstance(labels, list) and len(labels) == count else [None] * count
        columns["label"] += map(_label_text, labels)
    for position, (name, values) in enumerate(columns.items(), start=2):
        predicted = predicted.add_column(position, name, pa.array(values, pa.string()))
    return predicted


def _label_text(label: Any) -> str | None:
    return label if label is None or isinstance(label, str) else json.dumps(label)
