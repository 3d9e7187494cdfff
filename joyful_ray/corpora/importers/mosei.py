"""CMU-MOSEI from COGMEN- or JOYFUL-style samples (emotions or sentiment classes) or from MMSA's pickle (sentiment).

Samples: see dialogues.py; a label is a row of zeros and ones (multi-label, six emotions), a class number (sentiment of
two or seven classes; other names through option `labels=a,b`), or a number (regression). MMSA: see mmsa.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from joyful_ray.corpora.importers.base import Importer, ImportSource
from joyful_ray.corpora.importers.dialogue_drafts import PICKLE_OPTIONS, class_label, source_of
from joyful_ray.corpora.importers.dialogues import Dialogues, dialogues_of, find_pickle
from joyful_ray.corpora.importers.mmsa import MMSA_OPTIONS, is_mmsa, read_mmsa
from joyful_ray.corpora.importers.pickles import read_pickle
from joyful_ray.errors import ConfigError, CorpusError
from joyful_ray.schema import Label, Task
from joyful_ray.storage import Location

EMOTIONS = ["happiness", "sadness", "anger", "surprise", "disgust", "fear"]
SENTIMENTS = {2: ["negative", "positive"], 7: ["-3", "-2", "-1", "0", "1", "2", "3"]}


def read_mosei(source: Location, options: Mapping[str, str]) -> ImportSource:
    """MOSEI's videos, in the order of the file.

    Raises:
        ConfigError: classes without names.
        CorpusError: the file is none of the known layouts.
    """
    place = find_pickle(source)
    content = read_pickle(place)
    if is_mmsa(content):
        return read_mmsa("mosei", place, content, options)
    dialogues = dialogues_of(place, content)
    task, names = _task_and_names(dialogues, options)

    def several(value: Any) -> Label:
        row = np.asarray(value, dtype=float).reshape(-1)
        if len(row) != len(names) or not np.isin(row, (0, 1)).all():
            raise ValueError(f"label {value!r} is not a row of {len(names)} zeros and ones")
        return [name for name, is_on in zip(names, row, strict=True) if is_on]

    label_of = {"multi-label": several, "single-label": class_label(names), "regression": _number}[task]
    return source_of(
        dialogues,
        name="mosei",
        task=task,
        labels=names,
        label_of=label_of,
        speaker_of=str,
        extractors={"text": "SBERT paraphrase-distilroberta-base-v1", "audio": "LibROSA", "vision": "TBJE"},
        options=options,
    )


def _number(value: Any) -> Label:
    return float(np.asarray(value, dtype=float).reshape(-1)[0])


def _task_and_names(dialogues: Dialogues, options: Mapping[str, str]) -> tuple[Task, list[str]]:
    labels = [label for dialogue in dialogues.every() for label in dialogue.labels]
    if not labels:
        raise CorpusError(f"{dialogues.place.uri}: no labels in it")
    named = options["labels"].split(",") if "labels" in options else None
    sizes = {np.size(label) for label in labels}
    if max(sizes) > 1:
        return "multi-label", named or EMOTIONS
    values = np.array([float(np.asarray(label).reshape(-1)[0]) for label in labels])
    if options.get("task") == "regression" or (values != np.round(values)).any() or values.min() < 0:
        return "regression", []
    classes = int(values.max()) + 1
    if named is None and classes not in SENTIMENTS:
        raise ConfigError(f"{dialogues.place.uri}: {classes} classes without names; name them with option labels=a,b,…")
    return "single-label", named or SENTIMENTS[classes]


IMPORTER = Importer(
    format="mosei",
    summary="CMU-MOSEI pickles of COGMEN/JOYFUL (samples) and of MMSA",
    read=read_mosei,
    options={"labels": "label names in the order of their ids, with commas", **MMSA_OPTIONS, **PICKLE_OPTIONS},
)
