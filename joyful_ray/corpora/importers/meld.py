"""MELD from its official CSV files: multi-party conversations of a TV series, seven emotions.

SOURCE is a folder with `{split}_sent_emo.csv`, and one file of vectors per split and modality (options `text_vectors`,
`audio_vectors`, `vision_vectors`): a .npy file with one row per CSV row, in the same order, or a .csv file whose column
`filename` is `dia{D}_utt{U}.wav`. An empty cell, and an utterance without a row, is not present.
"""

from __future__ import annotations

from collections.abc import Mapping

from joyful_ray.corpora.importers.annotated_csv import Layout, Utterance, read_annotated_csv
from joyful_ray.corpora.importers.base import Importer, ImportSource
from joyful_ray.corpora.importers.vectors import VECTOR_OPTIONS, DefaultVectors
from joyful_ray.storage import Location

LABELS = ["neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger"]


def _read_row(cells: Mapping[str, str]) -> Utterance:
    dialogue, utterance = cells["Dialogue_ID"], cells["Utterance_ID"]
    try:
        position = int(utterance)
        conversation = f"dia{int(dialogue)}"
    except ValueError:
        raise ValueError(f"Dialogue_ID {dialogue!r} or Utterance_ID {utterance!r} is not a number") from None
    return Utterance(
        conversation=conversation,
        position=position,
        key=f"{conversation}_utt{position}",
        speaker=cells["Speaker"].strip(),
        label=cells["Emotion"].strip().lower(),
        text=cells["Utterance"],
    )


LAYOUT = Layout(
    name="meld",
    file="{split}_sent_emo.csv",
    columns=["Utterance", "Speaker", "Emotion", "Dialogue_ID", "Utterance_ID"],
    labels=LABELS,
    read_row=_read_row,
    default_vectors={
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
    },
    notes={"source": "MELD (declare-lab/MELD)", "licence": "GPL-3.0"},
)


def read_meld(source: Location, options: Mapping[str, str]) -> ImportSource:
    """Read MELD's conversations, in the order of its CSV files."""
    return read_annotated_csv(LAYOUT, source, options)


IMPORTER = Importer(
    format="meld",
    summary="MELD: the official CSV files, with files of vectors",
    read=read_meld,
    options=VECTOR_OPTIONS,
)
