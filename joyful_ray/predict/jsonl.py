"""Predicts new conversations in a JSONL file, and adds the speakers, texts and labels of the file."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
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
from joyful_ray.wording import counted

CONVERSATIONS_PER_CHUNK = 256
FORMATS = (".jsonl", ".csv", ".parquet")


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
    bundle: str | Sequence[str], source: str, out: str | None = None, *, embedding: bool = False, device: str = "auto"
) -> JsonlPredictions:
    """Predict every utterance of a JSONL file of conversations.

    The file has the format of the `jsonl` importer, with vectors inline or in .npy files next to it. `labels` and
    `split` are allowed, but do not matter. With `out`, only a few hundred conversations are in memory at a time.

    Args:
        bundle: `<run>/bundle` or the run itself, a path or s3:// URI; the probabilities of several are averaged.
        source: the JSONL file, a path or s3:// URI.
        out: a .jsonl, .csv or .parquet file for the results; without it, they are returned.
        embedding: also return the vector that the graph encoder computes for each utterance (not in a .csv file).
        device: auto, cpu or cuda.

    Returns:
        The columns `conversation_id`, `utterance_id`, `speaker`, `text` (null if the file has none), `label` (from the
        file; as JSON if it is not a string), then the columns of `joyful predict`.

    Raises:
        ConfigError: `out` has another suffix, or embeddings were requested for a .csv file.
        CorpusError: the bundle cannot read a conversation; the message names the file and the line.
    """
    suffix = Path(out).suffix if out is not None else ".jsonl"
    if suffix not in FORMATS:
        raise ConfigError(f"--out {out} must end in one of {', '.join(FORMATS)}")
    if suffix == ".csv" and embedding:
        raise ConfigError("a .csv file cannot hold embeddings; use a .parquet or .jsonl file")
    place = open_location(source)
    if not place.exists():
        raise CorpusError(f"there is no JSONL file {place.uri}")
    predictor = Predictor.open(bundle, device=device)
    tables = _tables(predictor, place, embedding=embedding)
    first = next(tables, None)
    if first is None:
        raise CorpusError(f"{place.uri} contains no conversation")
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
    while chunk := list(itertools.islice(lines, CONVERSATIONS_PER_CHUNK)):
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


class _JsonlWriter:
    """Writes the rows of a table as JSON lines, with the interface of pyarrow's writers."""

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
    """Writes a table as CSV, and lists (multi-label) as names separated by commas."""

    def __init__(self, file: Any, schema: pa.Schema) -> None:
        fields = [pa.field(f.name, pa.string()) if pa.types.is_list(f.type) else f for f in schema]
        self._writer = pyarrow.csv.CSVWriter(file, pa.schema(fields))

    def __enter__(self) -> _CsvWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._writer.close()

    def write_table(self, table: pa.Table) -> None:
        for index, column in enumerate(table.schema):
            if pa.types.is_list(column.type):
                values = [", ".join(names) for names in table[column.name].to_pylist()]
                table = table.set_column(index, column.name, pa.array(values))
        self._writer.write_table(table)


def _writer(file: Any, suffix: str, schema: pa.Schema) -> Any:
    if suffix == ".parquet":
        return pq.ParquetWriter(file, schema)
    return _CsvWriter(file, schema) if suffix == ".csv" else _JsonlWriter(file)
