"""Turns the dialogues of a pickle into drafts of conversations.

These projects write a vector of zeros if nothing could be measured, so it is read as not present. Option
`zeros=present` keeps it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from joyful_ray.corpora.importers.base import ImportSource
from joyful_ray.corpora.importers.dialogues import Dialogue, Dialogues
from joyful_ray.corpora.importers.vectors import CONTRACT_OPTIONS
from joyful_ray.corpora.validation import Draft, Problem
from joyful_ray.errors import ConfigError, CorpusError
from joyful_ray.schema import MODALITIES, FeatureContract, Label, Modality, Split, Task

PICKLE_OPTIONS = {
    "zeros": "how to read a vector of zeros: absent (the default) or present",
    **{
        f"{modality}_{part}": f"{part} of the {modality} vectors, for the manifest"
        for modality in MODALITIES
        for part in CONTRACT_OPTIONS
    },
}
DEV_OPTION = {"dev_share": "share of the train dialogues, from the first one, that become dev; 0 for none"}


def source_of(
    dialogues: Dialogues,
    *,
    name: str,
    task: Task,
    labels: list[str],
    label_of: Callable[[Any], Label],
    speaker_of: Callable[[Any], str],
    extractors: Mapping[Modality, str],
    options: Mapping[str, str],
    keeps: Callable[[Label], bool] = lambda label: True,
    attributes: Mapping[str, Callable[[str], str | None]] = MappingProxyType({}),
) -> ImportSource:
    """Describe these dialogues for the corpus writer.

    Args:
        dialogues: the content of the pickle.
        name: name of the corpus.
        task: its task.
        labels: its labels.
        label_of: converts a label of the pickle; raises ValueError if it is wrong.
        speaker_of: converts a speaker of the pickle.
        extractors: extractor of each modality, unless an option names another.
        options: the given options.
        keeps: whether utterances with a label are kept.
        attributes: by name, functions that tell an attribute of a speaker from the name; None is unknown.
    """
    zeros = options.get("zeros", "absent")
    if zeros not in ("absent", "present"):
        raise ConfigError(f"option zeros is absent or present, not {zeros}")
    widths = _widths(dialogues)
    notes: dict[str, Any] = {"layout": dialogues.layout, **dialogues.notes}

    def drafts() -> Iterator[tuple[Split, Draft]]:
        for split, entries in dialogues.splits.items():
            for dialogue in entries:
                draft = _draft(dialogue, dialogues.place.uri, list(widths), label_of, speaker_of)
                if not draft.problems:
                    for attribute, value_of in attributes.items():
                        draft.speaker_attributes[attribute] = [value_of(speaker) for speaker in draft.speakers]
                    _leave_out(draft, keeps, notes)
                    if zeros == "absent":
                        _hide_zeros(draft, notes)
                if draft.problems or draft.utterance_ids:
                    yield split, draft

    utterances = sum(len(dialogue.labels) for dialogue in dialogues.every())
    return ImportSource(
        name,
        task,
        labels,
        _contracts(widths, extractors, options),
        drafts(),
        has_texts=True,
        speaker_attributes=list(attributes),
        utterances=utterances,
        notes=notes,
    )


def _contracts(
    widths: Mapping[Modality, int], extractors: Mapping[Modality, str], options: Mapping[str, str]
) -> dict[Modality, FeatureContract]:
    return {
        modality: FeatureContract(
            extractor=options.get(f"{modality}_extractor", extractors[modality]),
            version=options.get(f"{modality}_version", "unknown"),
            licence=options.get(f"{modality}_licence", "unknown"),
            width=width,
        )
        for modality, width in widths.items()
    }


def _widths(dialogues: Dialogues) -> dict[Modality, int]:
    """The width that most dialogues have, so that a single different one is reported as the fault."""
    seen: dict[Modality, Counter[int]] = {}
    for dialogue in dialogues.every():
        for modality, vectors in dialogue.vectors.items():
            if vectors is not None and len(vectors):
                seen.setdefault(modality, Counter())[np.size(vectors[0])] += 1
    if not seen:
        raise CorpusError(f"{dialogues.place.uri} has no vectors")
    return {modality: counts.most_common(1)[0][0] for modality, counts in seen.items()}


def _draft(
    dialogue: Dialogue,
    file: str,
    modalities: Sequence[Modality],
    label_of: Callable[[Any], Label],
    speaker_of: Callable[[Any], str],
) -> Draft:
    count = len(dialogue.labels)
    draft = Draft(
        conversation_id=dialogue.name,
        utterance_ids=dialogue.utterance_ids or [f"{dialogue.name}_{index}" for index in range(count)],
        file=file,
    )
    try:
        draft.speakers = [speaker_of(speaker) for speaker in dialogue.speakers]
        draft.labels = [label_of(label) for label in dialogue.labels]
        draft.texts = [str(sentence) for sentence in dialogue.sentences]
        for modality in modalities:
            draft.vectors[modality] = np.array(
                [np.asarray(row, dtype=np.float32) for row in dialogue.vectors[modality]]
            )
    except (ValueError, TypeError) as error:
        draft.problems.append(Problem(str(error), file, None, dialogue.name))
    return draft


def _leave_out(draft: Draft, keeps: Callable[[Label], bool], notes: dict[str, Any]) -> None:
    kept = [index for index, label in enumerate(draft.labels) if keeps(label)]
    if len(kept) == len(draft.labels):
        return
    notes["left_out_utterances"] = notes.get("left_out_utterances", 0) + len(draft.labels) - len(kept)
    for name in ("utterance_ids", "speakers", "labels", "texts"):
        values = getattr(draft, name)
        setattr(draft, name, [values[index] for index in kept])
    draft.speaker_attributes = {
        name: [values[index] for index in kept] for name, values in draft.speaker_attributes.items()
    }
    draft.vectors = {modality: vectors[kept] for modality, vectors in draft.vectors.items()}


def _hide_zeros(draft: Draft, notes: dict[str, Any]) -> None:
    for modality, vectors in draft.vectors.items():
        is_zero_n = (np.asarray(vectors) == 0).reshape(len(vectors), -1).all(axis=1)
        if is_zero_n.any():
            mask = np.zeros(vectors.shape, dtype=bool)
            mask[is_zero_n] = True
            draft.vectors[modality] = np.ma.MaskedArray(vectors, mask=mask)
            name = f"{modality}_vectors_of_zeros"
            notes[name] = notes.get(name, 0) + int(is_zero_n.sum())


def class_label(names: Sequence[str]) -> Callable[[Any], Label]:
    """A function that turns class numbers into names."""

    def read(value: Any) -> Label:
        if np.ndim(value) != 0 or float(value) != int(value) or not 0 <= int(value) < len(names):
            raise ValueError(f"label {value!r} is not a number from 0 to {len(names) - 1}")
        return names[int(value)]

    return read


def share_option(options: Mapping[str, str], default: float) -> float:
    """The option `dev_share`.

    Raises:
        ConfigError: it is not a number from 0 to below 1.
    """
    given = options.get("dev_share")
    try:
        share = default if given is None else float(given)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise ConfigError(f"option dev_share must be a number from 0 to below 1, not {given}")
    return share
