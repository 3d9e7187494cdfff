"""The first pass over jsonl lines: what is in them, and what the corpus will therefore be."""

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
KEYS = ("conversation_id", "split", "utterance_ids", "speakers", "texts", "labels", *MODALITIES)


class ModalityHeader(BaseModel):
    """One modality in corpus.json."""

    model_config = ConfigDict(extra="forbid")
    extractor: str = "unknown"
    version: str = "unknown"
    parameters: dict[str, Any] = {}
    licence: str = "unknown"
    width: int | None = Field(None, gt=0)


class Header(BaseModel):
    """corpus.json, all of it optional."""

    model_config = ConfigDict(extra="forbid")
    name: str | None = None
    task: Task | None = None
    labels: list[str] | None = None
    modalities: dict[Modality, ModalityHeader] = {}


@dataclass
class JsonlScan:
    """What a first pass over the lines finds out."""

    tasks: dict[Task, str] = field(default_factory=dict)
    labels: set[str] = field(default_factory=set)
    widths: dict[Modality, int] = field(default_factory=dict)
    utterances: Counter[Split] = field(default_factory=Counter)
    has_texts: bool = False
    first_broken: str = ""


@dataclass
class LineReader:
    """Where the lines and the .npy files are, and how they are to be read."""

    files: list[tuple[Location, Split | None]]
    directory: Location
    patterns: dict[Modality, str]
    nan_is_absent: bool
    arrays: dict[str, NDArray] = field(default_factory=dict)

    def lines(self) -> Iterator[tuple[Location, int, Split | None, dict[str, Any] | str]]:
        """(file, line, split, the object or what is wrong with the line)."""
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
        """A .npy of the source, opened once."""
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
        return split, "not Unicode: half of a surrogate pair stands alone"
    except (ValueError, RecursionError) as error:
        return split, f"not JSON that can be read ({error})"
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
    """corpus.json of the source, or an empty one."""
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
    """Read all lines once; broken ones are left for the second pass to report."""
    survey = JsonlScan()
    for place, number, split, content in reader.lines():
        if isinstance(content, str) or split is None:
            survey.first_broken = survey.first_broken or f"{place.uri}, line {number}: {content}"
            continue
        survey.has_texts = survey.has_texts or "texts" in content
        speakers = content.get("speakers")
        survey.utterances[split] += len(speakers) if isinstance(speakers, list) else 0
        labels = content.get("labels")
        for label in labels if isinstance(labels, list) else []:
            kind = _kind(label)
            if kind:
                survey.tasks.setdefault(kind, f"{place.uri}, line {number}")
                survey.labels.update([label] if isinstance(label, str) else label if isinstance(label, list) else [])
        for name in MODALITIES:
            width = _width(content.get(name), reader)
            if width and name not in survey.widths:
                survey.widths[name] = width
    for name, pattern in reader.patterns.items():
        survey.widths[name] = reader.array(pattern.format(split=next(iter(survey.utterances), "train"))).shape[1]
    return survey


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
            return None  # the second pass says so, with the line
    if isinstance(vectors, list):
        return next((len(row) for row in vectors if isinstance(row, list)), None)
    return None


def task_of(wanted: str | None, survey: JsonlScan) -> Task:
    """The task that was asked for, else the one the labels are of.

    Raises:
        CorpusError: the labels are of several kinds.
    """
    if wanted is not None:
        if wanted not in TASKS:
            raise ConfigError(f"task {wanted} is none of {', '.join(TASKS)}")
        return wanted
    if len(survey.tasks) > 1:
        places = ", ".join(f"{task} ({place})" for task, place in survey.tasks.items())
        raise CorpusError(f"labels of several kinds: {places}; mend them, or say which with option task=")
    return next(iter(survey.tasks), "single-label")
