"""The first pass over JSONL lines: it finds task, labels and widths of the corpus."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from joyful_ray.corpora.importers.base import nearest
from joyful_ray.corpora.importers.files import read_npy
from joyful_ray.errors import ConfigError, CorpusError, StorageError
from joyful_ray.schema import MODALITIES, SPLITS, TASKS, Modality, Split, Task
from joyful_ray.storage import Location

HEADER = "corpus.json"
KEYS = ("conversation_id", "split", "utterance_ids", "speakers", "speaker_attributes", "texts", "labels", *MODALITIES)


class ModalityHeader(BaseModel):
    """A modality in corpus.json."""

    model_config = ConfigDict(extra="forbid")
    extractor: str = "unknown"
    version: str = "unknown"
    parameters: dict[str, Any] = {}
    licence: str = "unknown"
    width: int | None = Field(None, gt=0)


class Header(BaseModel):
    """corpus.json; every entry is optional."""

    model_config = ConfigDict(extra="forbid")
    name: str | None = None
    task: Task | None = None
    labels: list[str] | None = None
    modalities: dict[Modality, ModalityHeader] = {}


@dataclass
class JsonlScan:
    """Results of the first pass over the lines."""

    tasks: dict[Task, str] = field(default_factory=dict)
    labels: set[str] = field(default_factory=set)
    widths: dict[Modality, int] = field(default_factory=dict)
    utterances: Counter[Split] = field(default_factory=Counter)
    has_texts: bool = False
    speaker_attributes: set[str] = field(default_factory=set)
    first_broken: str = ""


@dataclass
class LineReader:
    """Reads the lines, and the .npy files that they refer to."""

    files: list[tuple[Location, Split | None]]
    directory: Location
    patterns: dict[Modality, str]
    nan_is_absent: bool
    arrays: dict[str, NDArray] = field(default_factory=dict)

    def lines(self) -> Iterator[tuple[Location, int, Split | None, dict[str, Any] | str]]:
        """(file, line number, split, object) of each line; a bad line has a string with its fault instead."""
        for place, split in self.files:
            with place.open("r") as file:
                try:
                    for number, line in enumerate(file, start=1):
                        text = line.removeprefix("\ufeff") if number == 1 else line
                        if text.strip():
                            yield place, number, *_parsed(text, split)
                except UnicodeDecodeError:
                    raise CorpusError(f"{place.uri} is not UTF-8 text") from None

    def array(self, name: str) -> NDArray:
        """A .npy file of the source, opened once."""
        if name not in self.arrays:
            self.arrays[name] = read_npy(self.directory.join(name))
        return self.arrays[name]


def _parsed(line: str, split: Split | None) -> tuple[Split | None, dict[str, Any] | str]:
    try:
        content = json.loads(line)
        if "\\u" in line:
            json.dumps(content, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        return split, f"not JSON (column {error.colno}: {error.msg})"
    except UnicodeEncodeError:
        return split, "not Unicode: half of a surrogate pair"
    except (ValueError, RecursionError) as error:
        return split, f"cannot be read as JSON ({error})"
    if not isinstance(content, dict):
        return split, "not a JSON object"
    for key in content:
        if key not in KEYS:
            return split, f"unknown key {key!r}; {nearest(key, KEYS)}"
    if split is None:
        named = content.get("split")
        if named not in SPLITS:
            return None, f"split {named!r} is not one of {', '.join(SPLITS)}"
        return named, content
    if content.get("split", split) != split:
        return split, f"split {content['split']!r} in the file of {split}"
    return split, content


def read_header(directory: Location) -> Header:
    """corpus.json of the source; empty if there is none."""
    place = directory.join(HEADER)
    if not place.exists():
        return Header()
    try:
        return Header.model_validate_json(place.read_text())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CorpusError(f"{place.uri}: {where}: {first['msg']}") from None


def scan_lines(reader: LineReader) -> JsonlScan:
    """Read all lines once; the second pass reports bad ones."""
    scan = JsonlScan()
    for place, number, split, content in reader.lines():
        if isinstance(content, str) or split is None:
            scan.first_broken = scan.first_broken or f"{place.uri}, line {number}: {content}"
            continue
        scan.has_texts = scan.has_texts or "texts" in content
        attributes = content.get("speaker_attributes")
        scan.speaker_attributes.update(attributes if isinstance(attributes, dict) else ())
        speakers = content.get("speakers")
        scan.utterances[split] += len(speakers) if isinstance(speakers, list) else 0
        labels = content.get("labels")
        for label in labels if isinstance(labels, list) else []:
            kind = _kind(label)
            if kind:
                scan.tasks.setdefault(kind, f"{place.uri}, line {number}")
                scan.labels.update([label] if isinstance(label, str) else label if isinstance(label, list) else [])
        for name in MODALITIES:
            width = _width(content.get(name), reader)
            if width and name not in scan.widths:
                scan.widths[name] = width
    for name, pattern in reader.patterns.items():
        scan.widths[name] = reader.array(pattern.format(split=next(iter(scan.utterances), "train"))).shape[1]
    return scan


def _kind(label: Any) -> Task | None:
    if isinstance(label, str):
        return "single-label"
    if isinstance(label, list):
        return "multi-label" if all(isinstance(name, str) for name in label) else None
    return "regression" if isinstance(label, int | float) else None


def _width(vectors: Any, reader: LineReader) -> int | None:
    if isinstance(vectors, dict) and isinstance(vectors.get("npy"), str):
        try:
            return int(reader.array(vectors["npy"]).shape[1])
        except (CorpusError, StorageError):
            return None  # the second pass reports it with its line
    if isinstance(vectors, list):
        return next((len(row) for row in vectors if isinstance(row, list)), None)
    return None


def task_of(named: str | None, scan: JsonlScan) -> Task:
    """The task that an option or corpus.json names, or else that of the labels.

    Raises:
        ConfigError: there is no such task.
        CorpusError: the labels are of several kinds.
    """
    if named is not None:
        if named not in TASKS:
            raise ConfigError(f"task {named} is not one of {', '.join(TASKS)}")
        return named
    if len(scan.tasks) > 1:
        places = ", ".join(f"{task} ({place})" for task, place in scan.tasks.items())
        raise CorpusError(f"there are labels of several kinds: {places}; fix them, or give --option task=TASK")
    return next(iter(scan.tasks), "single-label")
