"""Your own data: one conversation per line, as a JSON object.

SOURCE is a folder with `train.jsonl`, `dev.jsonl` and `test.jsonl` (those that exist are read), or one `.jsonl` file in
which each line has a `split`. A line is an object:

    {"conversation_id": "talk-1",                  required, unique in the corpus
     "split": "train",                             only if SOURCE is a file
     "utterance_ids": ["talk-1_0", "talk-1_1"],    optional; default: conversation id, _, number
     "speakers": ["Ann", "Bob"],                   required, one name per utterance
     "texts": ["Hi.", "Go away!"],                 optional, in all conversations or in none
     "speaker_attributes": {"gender": ["f", null]}, optional, likewise; one value per utterance, null is unknown
     "labels": ["joy", "anger"],                   a name, a list of names, or a number; null is unlabeled
     "text": [[0.1, 0.2], [0.3, null]],            one vector per utterance (also audio, vision); null
                                                   for a vector, or a value in it, is "not present"
     "audio": {"npy": "audio.npy", "start": 40}}   or rows 40, 41, … of a .npy file in SOURCE

A .npy file may also have the vectors of all utterances of a split, in the order of the lines: option
`text_vectors={split}_text.npy`, likewise for audio and vision. NaN and infinity are refused; option `nan=absent` reads
NaN in a .npy file as "not present".

`corpus.json` in SOURCE is optional. It may have `name`, `task` (single-label, multi-label, regression), `labels` (in
the order of their ids) and `modalities`: per modality `extractor`, `version`, `parameters`, `licence` and `width`. What
it leaves out is found in the data: the task from the kind of the labels, label names in alphabetical order, widths
from the first vector. Options `task` and `labels=a,b,c` win over it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from joyful_ray.corpora.importers.base import Importer, ImportSource, nearest
from joyful_ray.corpora.importers.jsonl_scan import (
    JsonlScan,
    LineReader,
    ModalityHeader,
    read_header,
    scan_lines,
    task_of,
)
from joyful_ray.corpora.importers.vectors import VECTOR_OPTIONS, nan_is_absent
from joyful_ray.corpora.validation import Draft, Problem
from joyful_ray.errors import CorpusError, StorageError
from joyful_ray.schema import MODALITIES, SPLITS, FeatureContract, Modality, Split
from joyful_ray.storage import Location
from joyful_ray.wording import counted

REFERENCE_KEYS = ("npy", "start")


def read_jsonl(source: Location, options: Mapping[str, str]) -> ImportSource:
    """Scan the lines, and then read their conversations lazily.

    Raises:
        CorpusError: there is no file, or there are labels of several kinds.
    """
    is_file = source.name.endswith(".jsonl")
    directory = source.parent if is_file else source
    files: list[tuple[Location, Split | None]] = [(source, None)] if is_file else []
    for split in SPLITS if not is_file else ():
        if source.join(f"{split}.jsonl").exists():
            files.append((source.join(f"{split}.jsonl"), split))
    if not files:
        raise CorpusError(
            f"{source.uri} has none of train.jsonl, dev.jsonl and test.jsonl; name such a folder, or a .jsonl file"
        )
    patterns = {name: options[f"{name}_vectors"] for name in MODALITIES if options.get(f"{name}_vectors")}
    reader = LineReader(files, directory, patterns, nan_is_absent(options))
    header = read_header(directory)
    scan = scan_lines(reader)
    task = task_of(options.get("task") or header.task, scan)
    labels = options["labels"].split(",") if "labels" in options else header.labels
    for name, entry in header.modalities.items():
        if entry.width is not None:
            scan.widths[name] = entry.width
    if not scan.widths:
        if scan.first_broken:
            raise CorpusError(f"{scan.first_broken}; no line of {source.uri} can be used")
        raise CorpusError(f"no conversation in {source.uri} has vectors of text, audio or vision")
    return ImportSource(
        name=header.name or (source.name.removesuffix(".jsonl") if is_file else directory.name),
        task=task,
        labels=[] if task == "regression" else (sorted(scan.labels) if labels is None else labels),
        modalities={
            name: _contract(name, width, header.modalities.get(name, ModalityHeader()), options)
            for name, width in scan.widths.items()
        },
        drafts=_drafts(reader, scan),
        has_texts=scan.has_texts,
        speaker_attributes=sorted(scan.speaker_attributes),
        utterances=scan.utterances.total(),
    )


def _contract(name: Modality, width: int, header: ModalityHeader, options: Mapping[str, str]) -> FeatureContract:
    return FeatureContract(
        extractor=options.get(f"{name}_extractor", header.extractor),
        version=options.get(f"{name}_version", header.version),
        licence=options.get(f"{name}_licence", header.licence),
        parameters=header.parameters,
        width=width,
    )


def _drafts(reader: LineReader, scan: JsonlScan) -> Iterator[tuple[Split, Draft]]:
    for name, pattern in reader.patterns.items():
        for part, utterances in scan.utterances.items():
            rows = len(reader.array(pattern.format(split=part)))
            if rows != utterances:
                place = reader.directory.join(pattern.format(split=part))
                raise CorpusError(
                    f"{place.uri}: expected {counted(utterances, 'row')} ({name} of {part}), found {rows}"
                )
    next_row: Counter[Split] = Counter()
    for place, number, split, content in reader.lines():
        if isinstance(content, str):
            yield split or "train", Draft("", problems=[Problem(content, place.uri, number)])
            continue
        assert split is not None
        draft = draft_of_line(content, file=place.uri, line=number, has_texts=scan.has_texts)
        for name in scan.widths:
            if name in reader.patterns:
                reference = {"npy": reader.patterns[name].format(split=split), "start": next_row[split]}
                _add_vectors(draft, name, reference, scan.widths[name], reader)
            else:
                _add_vectors(draft, name, content.get(name), scan.widths[name], reader)
        speakers = content.get("speakers")
        next_row[split] += len(speakers) if isinstance(speakers, list) else 0
        yield split, draft


def draft_of_line(content: Mapping[str, Any], *, file: str, line: int, has_texts: bool) -> Draft:
    """Everything of a line except its vectors; faults are in the problems of the draft."""
    conversation_id = content.get("conversation_id")
    draft = Draft(conversation_id if isinstance(conversation_id, str) else "", file=file)

    def strings(key: str, default: list[str] | None) -> list[str]:
        values = content.get(key, default)
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            draft.problems.append(Problem(f"{key} is not a list of strings", file, line, draft.conversation_id))
            return []
        return values

    if not draft.conversation_id:
        draft.problems.append(Problem("conversation_id is missing, empty, or not a string", file, line))
    draft.speakers = strings("speakers", None)
    default_ids = [f"{draft.conversation_id}_{index}" for index in range(len(draft.speakers))]
    draft.utterance_ids = strings("utterance_ids", default_ids)
    labels = content.get("labels", [None] * len(draft.speakers))
    if isinstance(labels, list):
        draft.labels = labels
    else:
        draft.problems.append(Problem("labels is not a list", file, line, draft.conversation_id))
    if has_texts and "texts" in content:
        draft.texts = strings("texts", None)
    attributes = content.get("speaker_attributes", {})
    if isinstance(attributes, dict):
        draft.speaker_attributes = attributes
    else:
        draft.problems.append(Problem("speaker_attributes is not an object", file, line, draft.conversation_id))
    draft.rows = [line] * max(1, len(draft.utterance_ids))
    return draft


def _add_vectors(draft: Draft, name: Modality, given: Any, width: int, reader: LineReader) -> None:
    line = draft.rows[0] if draft.rows else None
    try:
        if isinstance(given, dict):
            draft.vectors[name] = _referenced(given, len(draft.utterance_ids), reader)
        else:
            draft.vectors[name] = inline_vectors(given, len(draft.utterance_ids), width)
    except ValueError as error:
        draft.problems.append(Problem(f"{name}: {error}", draft.file, line, draft.conversation_id))


def _referenced(reference: Mapping[str, Any], count: int, reader: LineReader) -> NDArray | np.ma.MaskedArray:
    for key in reference:
        if key not in REFERENCE_KEYS:
            raise ValueError(f"unknown key {key!r}; {nearest(key, REFERENCE_KEYS)}")
    name, start = reference.get("npy"), reference.get("start", 0)
    if not isinstance(name, str) or not isinstance(start, int) or start < 0:
        raise ValueError('a reference to vectors must have the form {"npy": "file.npy", "start": 0}')
    try:
        rows = reader.array(name)
    except (CorpusError, StorageError) as error:
        raise ValueError(str(error)) from None
    if start + count > len(rows):
        raise ValueError(
            f"it needs rows {start} to {start + count - 1} of {name}, which has {counted(len(rows), 'row')}"
        )
    values = np.asarray(rows[start : start + count], dtype=np.float32)
    return np.ma.masked_invalid(values) if reader.nan_is_absent else values


def inline_vectors(rows: Any, count: int, width: int) -> np.ma.MaskedArray:
    """The vectors of a line, (count, width). Null for a value or a vector is masked; without `rows`, everything is.

    Raises:
        ValueError: there are not `count` vectors of `width` numbers each.
    """
    vectors = np.ma.masked_all((count, width), dtype=np.float64)
    if rows is None:
        return vectors
    if not isinstance(rows, list) or len(rows) != count:
        found = len(rows) if isinstance(rows, list) else type(rows).__name__
        raise ValueError(f"expected a list of {counted(count, 'vector')}, found {found}")
    for index, row in enumerate(rows):
        if row is None:
            continue
        if not isinstance(row, list) or len(row) != width:
            found = counted(len(row), "value") if isinstance(row, list) else repr(row)
            raise ValueError(f"vector {index} should have {counted(width, 'value')}, found {found}")
        wrong = next((cell for cell in row if cell is not None and type(cell) not in (int, float)), None)
        if wrong is not None:
            raise ValueError(f"vector {index} has {wrong!r}, which is not a number")
        try:
            numbers = [0.0 if cell is None else float(cell) for cell in row]
        except OverflowError:
            raise ValueError(f"vector {index} has a number that is too large for float32") from None
        vectors[index] = np.ma.MaskedArray(numbers, mask=[cell is None for cell in row])
    return vectors


IMPORTER = Importer(
    format="jsonl",
    summary="your own data: one JSON object per conversation",
    read=read_jsonl,
    options={
        "task": "single-label, multi-label or regression; default: by the kind of the labels",
        "labels": "label names in the order of their ids, separated by commas",
        **VECTOR_OPTIONS,
    },
)
