"""EmoryNLP from its csv files: scenes of a TV series, seven emotions that are not MELD's.

SOURCE holds `emorynlp_{split}_final.csv` and vectors as for MELD. A scene is known by season, episode and scene number.
A line that several people speak has one speaker of its own, named after them all (`Ann & Bob`).
"""

from __future__ import annotations

import ast
from collections.abc import Mapping

from joyful_ray.corpora.importers.annotated_csv import Layout, Utterance, read_annotated_csv
from joyful_ray.corpora.importers.base import Importer, ImportSource
from joyful_ray.corpora.importers.vectors import VECTOR_OPTIONS, DefaultVectors
from joyful_ray.storage import Location

LABELS = ["joyful", "mad", "neutral", "peaceful", "powerful", "sad", "scared"]
NUMBERS = ["Season", "Episode", "Scene_ID", "Utterance_ID"]


def speaker_of(cell: str) -> str:
    """The csv writes a Python list of names: `['Ann', 'Bob']` -> `Ann & Bob`.

    Raises:
        ValueError: it is no such list.
    """
    try:
        names = ast.literal_eval(cell)
    except (ValueError, SyntaxError):
        raise ValueError(f"Speaker {cell!r} is not a list of names") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"Speaker {cell!r} is not a list of names")
    return " & ".join(name.strip() for name in names)


def _read_row(cells: Mapping[str, str]) -> Utterance:
    for column in NUMBERS:
        if not cells[column].strip().isdigit():
            raise ValueError(f"{column} {cells[column]!r} is not a number")
    season, episode, scene, position = (int(cells[column]) for column in NUMBERS)
    conversation = f"s{season:02d}_e{episode:02d}_c{scene:02d}"
    return Utterance(
        conversation=conversation,
        position=position,
        key=f"{conversation}_u{position:03d}",
        speaker=speaker_of(cells["Speaker"]),
        label=cells["Emotion"].strip().lower(),
        text=cells["Utterance"],
    )


LAYOUT = Layout(
    name="emorynlp",
    file="emorynlp_{split}_final.csv",
    columns=["Utterance", "Speaker", "Emotion", *NUMBERS],
    labels=LABELS,
    read_row=_read_row,
    default_vectors={
        "text": DefaultVectors(
            pattern="{split}_text_minilm.npy",
            extractor="sentence-transformers/all-MiniLM-L6-v2",
            version="unknown",
            licence="Apache-2.0 (model)",
            parameters={"normalised": "unit length", "stored_as": "float16"},
        )
    },
    notes={"source": "EmoryNLP (files of declare-lab/MELD)"},
)


def read_emorynlp(source: Location, options: Mapping[str, str]) -> ImportSource:
    """EmoryNLP's scenes, in the order of its csv files."""
    return read_annotated_csv(LAYOUT, source, options)


IMPORTER = Importer(
    format="emorynlp",
    summary="EmoryNLP's csv files with vectors beside them",
    read=read_emorynlp,
    options=VECTOR_OPTIONS,
)
