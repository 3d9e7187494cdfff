"""MELD from the pickles of MMGCN (a tuple of ten) or JOYFUL (samples).

SOURCE is the pickle, or a folder with one; joyful_ray/corpora/README.md describes both layouts. Speakers are one-hot
rows in these files (nine of them), and become `speaker 0` and so on. The tuple joins the official train and dev
dialogues. There is no dev split, unless option `dev_share` makes one; training then holds out dialogues of train.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from joyful_ray.corpora.importers.base import Importer, ImportSource
from joyful_ray.corpora.importers.dialogue_drafts import (
    DEV_OPTION,
    PICKLE_OPTIONS,
    class_label,
    share_option,
    source_of,
)
from joyful_ray.corpora.importers.dialogues import find_pickle, read_dialogues
from joyful_ray.corpora.importers.meld import LABELS
from joyful_ray.storage import Location


def speaker_of(row: Any) -> str:
    """The speaker of a one-hot row.

    Raises:
        ValueError: the row does not have exactly one 1.
    """
    if isinstance(row, str):
        return row
    values = np.atleast_1d(np.asarray(row, dtype=float))
    if values.size < 2 or (values != 0).sum() != 1:
        raise ValueError(f"speaker {row!r} is not a row with one 1")
    return f"speaker {int(values.argmax())}"


def read_meld_pickle(source: Location, options: Mapping[str, str]) -> ImportSource:
    """Read MELD's dialogues, in the order of the file; in the order of their ids if the file has a set."""
    dialogues = read_dialogues(find_pickle(source), dev_share=share_option(options, default=0.0))
    for dialogue in dialogues.every():
        dialogue.name = f"dia{dialogue.name}"
        dialogue.utterance_ids = [f"{dialogue.name}_utt{index}" for index in range(len(dialogue.labels))]
    return source_of(
        dialogues,
        name="meld-pickle",
        task="single-label",
        labels=LABELS,
        label_of=class_label(LABELS),
        speaker_of=speaker_of,
        extractors={
            "text": "SBERT paraphrase-distilroberta-base-v1" if dialogues.layout == "samples" else "TextCNN",
            "audio": "openSMILE",
            "vision": "DenseNet",
        },
        options=options,
    )


IMPORTER = Importer(
    format="meld-pickle",
    summary="MELD: pickles of MMGCN and JOYFUL",
    read=read_meld_pickle,
    options={**DEV_OPTION, **PICKLE_OPTIONS},
)
