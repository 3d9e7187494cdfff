"""MELD from its official csv files: multi-party conversations of a TV series, seven emotions.

SOURCE holds `{split}_sent_emo.csv`. Vectors lie beside them, one file a split and modality (options `text_vectors`,
`audio_vectors`, `vision_vectors`): a .npy whose rows follow the csv's, or a .csv whose column `filename` says
`dia{D}_utt{U}.wav`. An utterance without a row, and an empty cell, are not present.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from joyful_ray.corpora.checks import Draft, Problem
from joyful_ray.corpora.importers.files import Row, read_csv
from joyful_ray.corpora.importers.source import Importer, Source
from joyful_ray.corpora.importers.vectors import (
    VECTOR_OPTIONS,
    DefaultVectors,
    VectorFile,
    contract_of,
    nan_is_absent,
    open_vectors,
    vector_patterns,
)
from joyful_ray.errors import CorpusError
from joyful_ray.schema import SPLITS, Modality, Split
from joyful_ray.storage import Location

LABELS = ["neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger"]
COLUMNS = ["Utterance", "Speaker", "Emotion", "Dialogue_ID", "Utterance_ID"]
DEFAULTS: dict[Modality, DefaultVectors] = {
    "text": DefaultVectors(
        pattern="{split}_text_minilm.npy",
        extractor="sentence-transformers/all-MiniLM-L6-v2",
        version="unknown",
        licence="Apache-2.0 (model), GPL-3.0 (MELD's texts)",
        parameters={"normalised": "unit length", "stored_as": "float16"},
    ),
    "audio": DefaultVectors(
        pattern="{split}_audio_praat.csv",
        extractor="praat",
        version="unknown",
        licence="unknown (published by SpeechCueLLM without a licence file)",
    ),
}


def read_meld(source: Location, options: Mapping[str, str]) -> Source:
    """Open the csv files and the vectors; the conversations follow lazily.

    Raises:
        CorpusError: a file is missing or not what it must be.
    """
    tables = {
        split: read_csv(source.join(f"{split}_sent_emo.csv"), COLUMNS)
        for split in SPLITS
        if source.join(f"{split}_sent_emo.csv").exists()
    }
    if not tables:
        raise CorpusError(f"{source.uri} holds none of MELD's files (train_sent_emo.csv, dev_…, test_…)")
    patterns = vector_patterns(source, options, DEFAULTS, list(tables))
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
    first = next(iter(vectors.values()))
    notes: dict[str, Any] = {"source": "MELD (declare-lab/MELD)", "licence": "GPL-3.0"}
    return Source(
        name="meld",
        task="single-label",
        labels=LABELS,
        modalities={
            modality: contract_of(modality, patterns[modality], file.width, options, DEFAULTS.get(modality))
            for modality, file in first.items()
        },
        drafts=_drafts(source, tables, vectors, notes),
        has_texts=True,
        notes=notes,
    )


def _drafts(
    source: Location,
    tables: Mapping[Split, list[Row]],
    vectors: Mapping[Split, Mapping[Modality, VectorFile]],
    notes: dict[str, Any],
) -> Iterator[tuple[Split, Draft]]:
    for split, rows in tables.items():
        file = source.join(f"{split}_sent_emo.csv").uri
        dialogues: dict[int, list[tuple[int, int]]] = {}
        for index, row in enumerate(rows):
            try:
                dialogue, utterance = int(row.cells["Dialogue_ID"]), int(row.cells["Utterance_ID"])
            except ValueError:
                reason = f"Dialogue_ID {row.cells['Dialogue_ID']!r} or Utterance_ID {row.cells['Utterance_ID']!r}"
                yield split, Draft("", problems=[Problem(f"{reason} is not a number", file, row.line)])
                continue
            dialogues.setdefault(dialogue, []).append((utterance, index))
        for dialogue, members in dialogues.items():
            yield split, _draft(split, dialogue, sorted(members), rows, vectors[split], file)
        for modality, opened in vectors[split].items():
            if opened.unused_rows:
                notes[f"{split}_{modality}_rows_without_utterance"] = opened.unused_rows


def _draft(
    split: Split,
    dialogue: int,
    members: list[tuple[int, int]],
    rows: list[Row],
    vectors: Mapping[Modality, VectorFile],
    file: str,
) -> Draft:
    indices = [index for _, index in members]
    keys = [f"dia{dialogue}_utt{utterance}" for utterance, _ in members]
    cells = [rows[index].cells for index in indices]
    draft = Draft(
        conversation_id=f"{split}_dia{dialogue}",
        utterance_ids=[f"{split}_{key}" for key in keys],
        speakers=[cell["Speaker"].strip() for cell in cells],
        labels=[cell["Emotion"].strip().lower() for cell in cells],
        texts=[cell["Utterance"] for cell in cells],
        file=file,
        rows=[rows[index].line for index in indices],
    )
    for modality, opened in vectors.items():
        draft.vectors[modality], faults = opened.take(indices, keys)
        draft.problems.extend(faults)
    return draft


IMPORTER = Importer(
    format="meld",
    summary="MELD's official csv files with vectors beside them",
    read=read_meld,
    options=VECTOR_OPTIONS,
)
