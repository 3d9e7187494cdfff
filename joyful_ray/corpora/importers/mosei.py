"""CMU-MOSEI from the pickles of COGMEN and JOYFUL (samples), or of MMSA.

SOURCE is the pickle, or a folder with one; joyful_ray/corpora/README.md describes both layouts. In samples a label is a
row of zeros and ones (multi-label, six emotions), a class number (two or seven classes of sentiment; option
`labels=a,b` names others), or a number (regression).
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
    """Read MOSEI's videos, in the order of the file.

    Raises:
        ConfigError: the names of the classes are unknown.
        CorpusError: the file has none of the known layouts.
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
        raise CorpusError(f"{dialogues.place.uri} has no labels")
    named = options["labels"].split(",") if "labels" in options else None
    sizes = {np.size(label) for label in labels}
    if max(sizes) > 1:
        return "multi-label", named or EMOTIONS
    values = np.array([float(np.asarray(label).reshape(-1)[0]) for label in labels])
    if options.get("task") == "regression" or (values != np.round(values)).any() or values.min() < 0:
        return "regression", []
    classes = int(values.max()) + 1
    if named is None and classes not in SENTIMENTS:
        raise ConfigError(
            f"{dialogues.place.uri} has {classes} classes without names; give them with --option labels=a,b,…"
        )
    return "single-label", named or SENTIMENTS[classes]


IMPORTER = Importer(
    format="mosei",
    summary="CMU-MOSEI: pickles of COGMEN, JOYFUL and MMSA",
    read=read_mosei,
    options={"labels": "label names in the order of their ids, separated by commas", **MMSA_OPTIONS, **PICKLE_OPTIONS},
)
