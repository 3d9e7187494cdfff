"""Predictions for new conversations in a JSONL file, joined with what the file says of each utterance."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from joyful_ray.corpora.importers.files import read_npy
from joyful_ray.errors import ConfigError, CorpusError, StorageError
from joyful_ray.predict.predictor import Predictor
from joyful_ray.schema import MODALITIES
from joyful_ray.storage import Location, open_location

CONVERSATIONS_AT_ONCE = 256
FORMATS = (".jsonl", ".csv", ".parquet")


@dataclass(frozen=True)
class JsonlPredictions:
    """What `predict_jsonl` gave.

    Attributes:
        table: all rows where nothing was written to a file, else None.
        out: URI of the file, if any.
    """

    conversations: int
    utterances: int
    table: pa.Table | None
    out: str | None


def predict_jsonl(
    bundle: str, source: str, out: str | None = None, *, embedding: bool = False, device: str = "auto"
) -> JsonlPredictions:
    """Predict every utterance of a JSONL file of conversations.

    The lines are those of the `jsonl` importer, with vectors inline or in .npy files beside the file; `labels` and
    `split` may be there and do not matter. A few hundred conversations are in memory at a time where `out` is given.

    Args:
        bundle: `<run>/bundle` or the run itself, a path or s3:// URI.
        source: the JSONL file, a path or s3:// URI.
        out: a .jsonl, .csv or .parquet file for the results; without it, they are returned.
        embedding: add the vector that the graph gave each utterance (not in a csv).

    Returns:
        Columns `conversation_id`, `utterance_id`, `speaker`, `text` (null where the file has none), `label` (as in the
        file, as JSON where it is no string), then those of `joyful predict`.

    Raises:
        ConfigError: `out` has another suffix, or embeddings were asked for in a csv.
        CorpusError: a line is not a conversation that the bundle can read; the message names file and line.
    """
    suffix = Path(out).suffix if out is not None else ".jsonl"
    if suffix not in FORMATS:
        raise ConfigError(f"--out {out} ends in {suffix or 'nothing'}; give one of {', '.join(FORMATS)}")
    if suffix == ".csv" and embedding:
        raise ConfigError("a csv holds no embeddings; use a .parquet or .jsonl file")
    place = open_location(source)
    if not place.exists():
        raise CorpusError(f"no JSONL file at {place.uri}")
    predictor = Predictor.open(bundle, device=device)
    tables = _tables(predictor, place, embedding=embedding)
    first = next(tables, None)
    if first is None:
        raise CorpusError(f"{place.uri} holds no conversation")
    tables = itertools.chain([first], tables)
    if out is None:
        table = pa.concat_tables(tables)
        return JsonlPredictions(len(set(table["conversation_id"].to_pylist())), table.num_rows, table, None)
    target = open_location(out)
    conversations, utterances = 0, 0
    with target.open("wb") as file, _writer(file, suffix, first.schema) as writer:
        for table in tables:
            writer.write_table(table)
            conversations += len(set(table["conversation_id"].to_pylist()))
            utterances += table.num_rows
    return JsonlPredictions(conversations, utterances, None, target.uri)


def _tables(predictor: Predictor, place: Location, *, embedding: bool) -> Iterator[pa.Table]:
    seen: set[str] = set()
    lines = _lines(place)
    while chunk := list(itertools.islice(lines, CONVERSATIONS_AT_ONCE)):
        conversations = [content for _, content in chunk]
        for number, content in chunk:
            if content["conversation_id"] in seen:
                raise CorpusError(
                    f"{place.uri}, line {number}: conversation_id {content['conversation_id']} appears twice"
                )
            seen.add(content["conversation_id"])
        try:
            predicted = predictor.predict(conversations, embedding=embedding)
        except CorpusError:
            _blame(predictor, place, chunk)
            raise
        yield _joined(conversations, predicted)


def _blame(predictor: Predictor, place: Location, chunk: list[tuple[int, dict[str, Any]]]) -> None:
    """Find the line that the predictor refused, and name it."""
    for number, content in chunk:
        try:
            predictor.predict([content])
        except CorpusError as error:
            reason = str(error).partition(": ")[2] or str(error)
            raise CorpusError(f"{place.uri}, line {number}: {reason}") from None


def _lines(place: Location) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, conversation) with references to .npy files resolved and an id for each."""
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
                    _resolve(content, place.parent, arrays)
                except (ValueError, CorpusError, StorageError) as error:
                    raise CorpusError(f"{where}: {error}") from None
                yield number, content
        except UnicodeDecodeError:
            raise CorpusError(f"{place.uri} is not UTF-8 text") from None


def _resolve(content: dict[str, Any], folder: Location, arrays: dict[str, np.ndarray]) -> None:
    speakers = content.get("speakers")
    count = len(speakers) if isinstance(speakers, list) else 0
    for name in MODALITIES:
        reference = content.get(name)
        if not isinstance(reference, Mapping):
            continue
        file, start = reference.get("npy"), reference.get("start", 0)
        if not isinstance(file, str) or not isinstance(start, int) or start < 0 or set(reference) - {"npy", "start"}:
            raise ValueError(f'{name}: vectors in a file are written {{"npy": "file.npy", "start": 0}}')
        if file not in arrays:
            arrays[file] = read_npy(folder.join(file))
        rows = arrays[file]
        if start + count > len(rows):
            raise ValueError(f"{name}: rows {start} to {start + count - 1} of {file}, which has {len(rows)}")
        content[name] = np.asarray(rows[start : start + count], dtype=np.float32)


def _joined(conversations: list[dict[str, Any]], predicted: pa.Table) -> pa.Table:
    columns: dict[str, list[str | None]] = {"speaker": [], "text": [], "label": []}
    for content in conversations:
        count = len(content["speakers"])
        labels = content.get("labels")
        columns["speaker"] += content["speakers"]
        columns["text"] += content.get("texts") or [None] * count
        columns["label"] += map(_word, labels) if isinstance(labels, list) and len(labels) == count else [None] * count
    for place, (name, values) in enumerate(columns.items(), start=2):
        predicted = predicted.add_column(place, name, pa.array(values, pa.string()))
    return predicted


def _word(label: Any) -> str | None:
    return label if label is None or isinstance(label, str) else json.dumps(label)


class _JsonlWriter:
    """Writes a table's rows as JSON lines, with the interface of pyarrow's writers."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __enter__(self) -> _JsonlWriter:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def write_table(self, table: pa.Table) -> None:
        for row in table.to_pylist():
            self._file.write((json.dumps(row, ensure_ascii=False) + "\n").encode())


class _CsvWriter:
    """Writes a table as csv; a list (multi-label) is written as names separated by commas."""

    def __init__(self, file: Any, schema: pa.Schema) -> None:
        fields = [pa.field(f.name, pa.string()) if pa.types.is_list(f.type) else f for f in schema]
        self._writer = pyarrow.csv.CSVWriter(file, pa.schema(fields))

    def __enter__(self) -> _CsvWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._writer.close()

    def write_table(self, table: pa.Table) -> None:
        for place, column in enumerate(table.schema):
            if pa.types.is_list(column.type):
                values = [", ".join(names) for names in table[column.name].to_pylist()]
                table = table.set_column(place, column.name, pa.array(values))
        self._writer.write_table(table)


def _writer(file: Any, suffix: str, schema: pa.Schema) -> Any:
    if suffix == ".parquet":
        return pq.ParquetWriter(file, schema)
    return _CsvWriter(file, schema) if suffix == ".csv" else _JsonlWriter(file)
