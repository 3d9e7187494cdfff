"""EmoryNLP from its CSV files: scenes of a TV series, seven emotions, which are not those of MELD.

SOURCE is a folder with `emorynlp_{split}_final.csv`, and files of vectors as for MELD. A conversation is a scene,
identified by season, episode and scene number. A line that several people speak has one speaker, named after all of
them (`Ann & Bob`).
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
    """The speaker of a row, whose cell is a Python list of names: `['Ann', 'Bob']` becomes `Ann & Bob`.

    Raises:
        ValueError: the cell is not such a list.
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
    """Read EmoryNLP's scenes, in the order of its CSV files."""
    return read_annotated_csv(LAYOUT, source, options)


IMPORTER = Importer(
    format="emorynlp",
    summary="EmoryNLP: the CSV files, with files of vectors",
    read=read_emorynlp,
    options=VECTOR_OPTIONS,
)
