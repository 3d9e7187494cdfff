"""Checks conversations before they enter a corpus, and names every fault with file, row and reason.

Shapes: n = utterances of one conversation, W = width of one modality's vectors.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from joyful_ray.errors import CorpusError
from joyful_ray.schema import ATTRIBUTE_NAME, Conversation, Label, Modality, Task
from joyful_ray.wording import counted

FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class Problem:
    """A fault in a source file, with the place where a person finds it."""

    reason: str
    file: str = ""
    row: int | None = None
    conversation_id: str = ""

    def __str__(self) -> str:
        place = self.file + (f", line {self.row}" if self.row is not None else "")
        whose = f"conversation {self.conversation_id}" if self.conversation_id else ""
        return ": ".join(part for part in (place, whose, self.reason) if part)


@dataclass(slots=True)
class Draft:
    """A conversation as an importer has read it, before it is checked.

    Attributes:
        vectors: per modality (n, W); masked cells are not present, and a masked row is a vector that is not present.
            NaN and infinity that are not masked are refused.
        file, rows: place of each utterance in the source; rows are counted from 1, as lines in an editor.
        problems: faults that the importer has found.
    """

    conversation_id: str
    utterance_ids: list[str] = field(default_factory=list)
    speakers: list[str] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    vectors: dict[Modality, NDArray | np.ma.MaskedArray] = field(default_factory=dict)
    texts: list[str] | None = None
    speaker_attributes: dict[str, list[str | None]] = field(default_factory=dict)
    file: str = ""
    rows: list[int] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def conversation(self) -> Conversation:
        """The conversation for the corpus; only for a draft without problems."""
        features: dict[Modality, NDArray[np.float32]] = {}
        present: dict[Modality, NDArray[np.bool_]] = {}
        for modality, vectors in self.vectors.items():
            mask: NDArray[np.bool_] = np.asarray(np.ma.getmaskarray(vectors))
            values = np.where(mask, np.nan, np.ma.getdata(vectors)).astype(np.float32)
            features[modality] = values
            present[modality] = np.asarray(~mask.all(axis=1))
        return Conversation(
            self.conversation_id,
            self.utterance_ids,
            self.speakers,
            self.labels,
            features,
            present,
            self.texts,
            self.speaker_attributes,
        )


def draft_of(conversation: Conversation) -> Draft:
    """A draft of a conversation; NaN is a cell that is not present."""
    vectors: dict[Modality, NDArray | np.ma.MaskedArray] = {}
    problems = []
    for modality, values in conversation.features.items():
        values = np.asarray(values)
        vectors[modality] = np.ma.MaskedArray(values, mask=np.isnan(values))
        present = np.asarray(conversation.present.get(modality))
        if values.ndim == 2 and not np.array_equal(present, ~np.isnan(values).all(axis=1)):
            reason = f"{modality}_present disagrees with the {modality} vectors; a vector is absent if it is all NaN"
            problems.append(Problem(reason, conversation_id=conversation.conversation_id))
    return Draft(
        conversation_id=conversation.conversation_id,
        utterance_ids=list(conversation.utterance_ids),
        speakers=list(conversation.speakers),
        labels=list(conversation.labels),
        vectors=vectors,
        texts=None if conversation.texts is None else list(conversation.texts),
        speaker_attributes={name: list(values) for name, values in conversation.speaker_attributes.items()},
        problems=problems,
    )


@dataclass(frozen=True, slots=True)
class Rules:
    """What every conversation of a corpus must satisfy.

    Raises:
        CorpusError: a speaker attribute has no name of lowercase letters, digits and _.
    """

    task: Task
    labels: tuple[str, ...]
    widths: dict[Modality, int]
    has_texts: bool = False
    speaker_attributes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.speaker_attributes:
            if not re.fullmatch(ATTRIBUTE_NAME, name):
                raise CorpusError(f"speaker attribute {name!r} is not a name of lowercase letters, digits and _")


def problems_of(draft: Draft, rules: Rules) -> list[Problem]:
    """All faults of a draft; none if it may enter the corpus."""
    found = list(draft.problems)

    def report(reason: str, utterance: int | None = None) -> None:
        row = draft.rows[utterance] if utterance is not None and utterance < len(draft.rows) else None
        if row is None and draft.rows:
            row = draft.rows[0]
        if utterance is not None and utterance < len(draft.utterance_ids):
            reason = f"utterance {draft.utterance_ids[utterance]}: {reason}"
        found.append(Problem(reason, draft.file, row, draft.conversation_id))

    if found:
        return found
    if not draft.conversation_id:
        report("the conversation has no id")
    count = len(draft.utterance_ids)
    if count == 0:
        report("the conversation has no utterances")
    for name, values in (("speaker", draft.speakers), ("label", draft.labels), ("text", draft.texts)):
        if values is not None and len(values) != count:
            report(f"{counted(count, 'utterance id')} but {counted(len(values), name)}")
    if rules.has_texts and draft.texts is None:
        report("it has no texts, but other conversations have")
    for utterance_id, times in Counter(draft.utterance_ids).items():
        if times > 1:
            report(f"this id appears {times} times", _last_index(draft.utterance_ids, utterance_id))
    for index, speaker in enumerate(draft.speakers):
        if not speaker.strip():
            report("the speaker is empty", index)
    for index, label in enumerate(draft.labels):
        reason = _label_problem(label, rules)
        if reason:
            report(reason, index)
    for name in rules.speaker_attributes:
        for fault, where in _attribute_problems(draft.speaker_attributes.get(name), name, count):
            report(fault, where)
    for name in draft.speaker_attributes:
        if name not in rules.speaker_attributes:
            report(f"it has the speaker attribute {name}, but the corpus has not")
    for modality, width in rules.widths.items():
        for fault, where in _vector_problems(draft.vectors.get(modality), modality, count, width):
            report(fault, where)
    for modality in draft.vectors:
        if modality not in rules.widths:
            report(f"it has {modality} vectors, but the corpus has none")
    return found


def _last_index(values: Sequence[str], value: str) -> int:
    return len(values) - 1 - list(reversed(values)).index(value)


def _attribute_problems(values: object, name: str, count: int) -> list[tuple[str, int | None]]:
    if values is None:
        return [(f"it has no speaker attribute {name}, but the corpus has", None)]
    if not isinstance(values, list):
        return [(f"the speaker attribute {name} is not a list", None)]
    if len(values) != count:
        return [(f"{counted(count, 'utterance id')} but {counted(len(values), 'value')} of {name}", None)]
    return [
        (f"{name} {value!r:.40} is not a string or null", index)
        for index, value in enumerate(values)
        if value is not None and not (isinstance(value, str) and value.strip())
    ]


def _label_problem(label: Label, rules: Rules) -> str | None:
    if label is None:
        return None
    if rules.task == "regression":
        is_number = isinstance(label, int | float) and not isinstance(label, bool)
        fits = is_number and abs(label) <= FLOAT32_MAX  # type: ignore[arg-type]
        return None if fits else f"label {label!r:.40} is not a finite number"
    if rules.task == "single-label" and not isinstance(label, str):
        return f"label {label!r} is not one name"
    if rules.task == "multi-label" and not isinstance(label, list):
        return f"label {label!r} is not a list of names"
    names = label if isinstance(label, list) else [label]
    for name in names:
        if name not in rules.labels:
            return f"unknown label {name!r}; the labels are {', '.join(rules.labels)}"
    if len(set(map(str, names))) != len(names):
        return f"label {label!r} has a name twice"
    return None


def _vector_problems(
    vectors: NDArray | np.ma.MaskedArray | None, modality: Modality, count: int, width: int
) -> list[tuple[str, int | None]]:
    if vectors is None:
        return [(f"it has no {modality} vectors, but the corpus has", None)]
    if vectors.ndim != 2 or vectors.shape[0] != count:
        return [(f"{counted(count, 'utterance')} but {modality} vectors of shape {vectors.shape}", None)]
    if vectors.shape[1] != width:
        return [(f"{modality} vectors have width {vectors.shape[1]}, expected {width}", None)]
    with np.errstate(over="ignore"):
        is_bad = ~np.isfinite(np.ma.getdata(vectors).astype(np.float32)) & ~np.ma.getmaskarray(vectors)
    found: list[tuple[str, int | None]] = []
    for index in np.flatnonzero(is_bad.any(axis=1)):
        cell = int(np.flatnonzero(is_bad[index])[0])
        value = np.ma.getdata(vectors)[index, cell]
        reason = f"{modality} value {cell} is {value}" + (", too large for float32" if np.isfinite(value) else "")
        found.append((reason, int(index)))
    return found
