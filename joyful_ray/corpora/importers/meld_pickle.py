"""MELD from the ten-part tuple that MMGCN reads, or from JOYFUL's samples of it; see dialogues.py.

Speakers are one-hot rows there (nine of them), so they come out as `speaker 0` and so on. The tuple puts the official
train and dev dialogues together; no dev split is made unless `dev_share` asks for one, so training cuts it, seeded.
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
    """A one-hot row -> the speaker's number.

    Raises:
        ValueError: not exactly one speaker is set.
    """
    if isinstance(row, str):
        return row
    values = np.atleast_1d(np.asarray(row, dtype=float))
    if values.size < 2 or (values != 0).sum() != 1:
        raise ValueError(f"speaker {row!r} is not a row with one 1")
    return f"speaker {int(values.argmax())}"


def read_meld_pickle(source: Location, options: Mapping[str, str]) -> ImportSource:
    """MELD's dialogues, in the order of the file (of their ids where it holds a set)."""
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
    summary="MELD pickles of MMGCN and JOYFUL",
    read=read_meld_pickle,
    options={**DEV_OPTION, **PICKLE_OPTIONS},
)
