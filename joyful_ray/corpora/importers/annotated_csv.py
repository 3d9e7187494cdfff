"""Data sets with one CSV file per split, one row per utterance, and vectors in separate files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from joyful_ray.corpora.importers.base import ImportSource
from joyful_ray.corpora.importers.files import Row, read_csv
from joyful_ray.corpora.importers.vectors import (
    DefaultVectors,
    VectorFile,
    contract_of,
    nan_is_absent,
    open_vectors,
    vector_patterns,
)
from joyful_ray.corpora.validation import Draft, Problem
from joyful_ray.errors import CorpusError
from joyful_ray.schema import SPLITS, Modality, Split
from joyful_ray.storage import Location


@dataclass(frozen=True)
class Utterance:
    """An utterance as a row describes it.

    Attributes:
        conversation: name of its conversation within the split.
        position: its position in the conversation.
        key: its name in a CSV file of vectors; with the split as prefix, its id.
    """

    conversation: str
    position: int
    key: str
    speaker: str
    label: str
    text: str


@dataclass(frozen=True)
class Layout:
    """The files of a data set.

    Attributes:
        file: name of the CSV file of a split, with {split} in it.
        read_row: reads the cells of a row; raises ValueError if the row is wrong.
        default_vectors: files of vectors that are read if no option names others.
    """

    name: str
    file: str
    columns: list[str]
    labels: list[str]
    read_row: Callable[[Mapping[str, str]], Utterance]
    default_vectors: Mapping[Modality, DefaultVectors]
    notes: dict[str, Any] = field(default_factory=dict)


def read_annotated_csv(layout: Layout, source: Location, options: Mapping[str, str]) -> ImportSource:
    """Open the CSV files and the vectors. Conversations are read lazily, in the order of their first rows.

    Raises:
        CorpusError: a file is missing or cannot be used.
    """
    places = {split: source.join(layout.file.format(split=split)) for split in SPLITS}
    tables = {split: read_csv(place, layout.columns) for split, place in places.items() if place.exists()}
    if not tables:
        raise CorpusError(f"{source.uri} has none of {', '.join(place.name for place in places.values())}")
    patterns = vector_patterns(source, options, layout.default_vectors, list(tables))
    vectors = {
        split: {
            modality: open_vectors(
                source.join(pattern.format(split=split)),
                utterances=len(rows),
                key="filename",
                nan_is_absent=nan_is_absent(options),
            )
            for modality, pattern in patterns.items()
        }
        for split, rows in tables.items()
    }
    notes = dict(layout.notes)
    defaults = layout.default_vectors
    return ImportSource(
        name=layout.name,
        task="single-label",
        labels=layout.labels,
        modalities={
            modality: contract_of(modality, patterns[modality], file.width, options, defaults.get(modality))
            for modality, file in next(iter(vectors.values())).items()
        },
        drafts=_drafts(layout, places, tables, vectors, notes),
        has_texts=True,
        utterances=sum(map(len, tables.values())),
        notes=notes,
    )


def _drafts(
    layout: Layout,
    places: Mapping[Split, Location],
    tables: Mapping[Split, list[Row]],
    vectors: Mapping[Split, Mapping[Modality, VectorFile]],
    notes: dict[str, Any],
) -> Iterator[tuple[Split, Draft]]:
    for split, rows in tables.items():
        file = places[split].uri
        conversations: dict[str, list[tuple[int, Utterance]]] = {}
        for index, row in enumerate(rows):
            try:
                utterance = layout.read_row(row.cells)
            except ValueError as error:
                yield split, Draft("", problems=[Problem(str(error), file, row.line)])
                continue
            conversations.setdefault(utterance.conversation, []).append((index, utterance))
        for name, members in conversations.items():
            members.sort(key=lambda member: member[1].position)
            yield split, _draft(f"{split}_{name}", split, members, rows, vectors[split], file)
        for modality, opened in vectors[split].items():
            if opened.unused_rows:
                notes[f"{split}_{modality}_rows_without_utterance"] = opened.unused_rows


def _draft(
    conversation_id: str,
    split: Split,
    members: list[tuple[int, Utterance]],
    rows: list[Row],
    vectors: Mapping[Modality, VectorFile],
    file: str,
) -> Draft:
    indices = [index for index, _ in members]
    utterances = [utterance for _, utterance in members]
    draft = Draft(
        conversation_id=conversation_id,
        utterance_ids=[f"{split}_{utterance.key}" for utterance in utterances],
        speakers=[utterance.speaker for utterance in utterances],
        labels=[utterance.label for utterance in utterances],
        texts=[utterance.text for utterance in utterances],
        file=file,
        rows=[rows[index].line for index in indices],
    )
    for modality, opened in vectors.items():
        draft.vectors[modality], faults = opened.take(indices, [utterance.key for utterance in utterances])
        draft.problems.extend(faults)
    return draft
