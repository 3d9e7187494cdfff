"""IEMOCAP from the pickles of COGMEN and JOYFUL (samples), or of DialogueRNN and MMGCN (tuple).

SOURCE is the pickle, or a folder with one; joyful_ray/corpora/README.md describes both layouts. There are six emotions;
option `labels=4` leaves excited and frustrated utterances out, as is usual in the literature. A tuple has train and
test only; the first tenth of train becomes dev, as in COGMEN and JOYFUL. The speakers M and F get the attribute
`gender`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from joyful_ray.corpora.importers.base import Importer, ImportSource
from joyful_ray.corpora.importers.dialogue_drafts import (
    DEV_OPTION,
    PICKLE_OPTIONS,
    class_label,
    share_option,
    source_of,
)
from joyful_ray.corpora.importers.dialogues import find_pickle, read_dialogues
from joyful_ray.errors import ConfigError
from joyful_ray.storage import Location

LABELS = ["happy", "sad", "neutral", "angry", "excited", "frustrated"]


def read_iemocap(source: Location, options: Mapping[str, str]) -> ImportSource:
    """Read IEMOCAP's dialogues, in the order of the file.

    Raises:
        ConfigError: `labels` is neither 4 nor 6.
        CorpusError: the file has none of the known layouts.
    """
    dialogues = read_dialogues(find_pickle(source), dev_share=share_option(options, default=0.1))
    found = 6 if any(_number(label) >= 4 for dialogue in dialogues.every() for label in dialogue.labels) else 4
    count = options.get("labels", str(found))
    if count not in ("4", "6"):
        raise ConfigError(f"option labels is 4 or 6, not {count}")
    names = LABELS[: int(count)]
    return source_of(
        dialogues,
        name=f"iemocap-{count}way",
        task="single-label",
        labels=names,
        label_of=class_label(LABELS),
        speaker_of=str,
        extractors={
            "text": "SBERT paraphrase-distilroberta-base-v1" if dialogues.layout == "samples" else "TextCNN",
            "audio": "openSMILE",
            "vision": "3D-CNN",
        },
        options=options,
        keeps=lambda label: label in names,
        attributes={"gender": {"M": "male", "F": "female"}.get},
    )


def _number(label: Any) -> float:
    try:
        return float(label)
    except (TypeError, ValueError):
        return -1.0


IMPORTER = Importer(
    format="iemocap",
    summary="IEMOCAP: pickles of COGMEN, JOYFUL, DialogueRNN and MMGCN",
    read=read_iemocap,
    options={
        "labels": "number of emotions, 4 or 6; if left out, as many as the file has",
        **DEV_OPTION,
        **PICKLE_OPTIONS,
    },
)
