"""The pickles that emotion-in-conversation projects pass around: one entry a dialogue, one vector an utterance.

Two layouts. *Samples*: a dict of `train`, `dev`, `test`, each a list of `Sample` objects (vid, speaker, label, text,
audio, visual, sentence, sbert_sentence_embeddings), as COGMEN and JOYFUL write. *Tuple*: (ids, speakers, labels, text,
audio, visual, sentences, train ids, test ids), the first seven dicts by dialogue, as DialogueRNN and MMGCN read. A tenth
entry may follow; where it is a list of ids, the last three are train, dev and test.

A vector of nothing but zeros is what these projects write where there was nothing to measure: it is not present (option
`zeros=present` keeps it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from joyful_ray.corpora.checks import Draft, Problem
from joyful_ray.corpora.importers.pickles import Record, read_pickle
from joyful_ray.corpora.importers.source import Source
from joyful_ray.corpora.importers.vectors import CONTRACT_OPTIONS
from joyful_ray.errors import ConfigError, CorpusError
from joyful_ray.schema import MODALITIES, SPLITS, FeatureContract, Label, Modality, Split, Task
from joyful_ray.storage import Location

SAMPLE_FIELDS = ("vid", "speaker", "label", "audio", "visual", "sentence")
TUPLE_NAMES = ("ids", "speakers", "labels", "text", "audio", "visual", "sentences")
PICKLE_OPTIONS = {
    "zeros": "what a vector of zeros means: absent (not present, the default) or present",
    **{
        f"{modality}_{part}": f"{part} of the {modality} vectors, for the manifest"
        for modality in MODALITIES
        for part in CONTRACT_OPTIONS
    },
}
DEV_OPTION = {"dev_share": "share of the train dialogues, from the first one, that becomes dev (0 for none)"}


@dataclass
class Dialogue:
    """One dialogue as the pickle has it; nothing is checked yet."""

    name: str
    speakers: Any
    labels: Any
    vectors: dict[Modality, Any]
    sentences: Any
    utterance_ids: list[str] | None = None


@dataclass
class Dialogues:
    """What one pickle holds."""

    place: Location
    layout: str
    splits: dict[Split, list[Dialogue]]
    notes: dict[str, Any] = field(default_factory=dict)

    def every(self) -> Iterator[Dialogue]:
        """All dialogues of all splits."""
        for dialogues in self.splits.values():
            yield from dialogues


def find_pickle(source: Location) -> Location:
    """SOURCE itself, or the one pickle in it.

    Raises:
        CorpusError: there is none, or more than one.
    """
    if not source.is_dir():
        return source
    names = [name for name in source.list() if name.endswith((".pkl", ".pickle", ".p"))]
    if len(names) != 1:
        raise CorpusError(f"{source.uri} holds {len(names) or 'none'} .pkl files; name one of them as the source")
    return source.join(names[0])


def read_dialogues(place: Location, *, dev_share: float = 0.0) -> Dialogues:
    """The dialogues of a file of either layout.

    Args:
        dev_share: tuples without dev ids: this share of the train dialogues, from the first one, is dev.

    Raises:
        CorpusError: the file is neither.
    """
    return dialogues_of(place, read_pickle(place), dev_share=dev_share)


def dialogues_of(place: Location, content: Any, *, dev_share: float = 0.0) -> Dialogues:
    """The same from what was read of the file."""
    if isinstance(content, dict) and "train" in content:
        return _from_samples(place, content)
    if isinstance(content, tuple | list) and len(content) in (9, 10):
        return _from_tuple(place, list(content), dev_share)
    found = (
        f"a dict of {', '.join(map(str, list(content)[:4]))}" if isinstance(content, dict) else type(content).__name__
    )
    raise CorpusError(
        f"{place.uri}: expected a dict of train, dev and test samples or a tuple of 9 or 10, found {found}"
    )


def _from_samples(place: Location, content: Mapping[str, Any]) -> Dialogues:
    found = Dialogues(place, "samples", {})
    for split in SPLITS:
        samples = content.get(split, content.get("valid") if split == "dev" else None)
        if samples is None:
            continue
        found.splits[split] = []
        for sample in samples:
            missing = [name for name in SAMPLE_FIELDS if not hasattr(sample, name)]
            if not isinstance(sample, Record) or missing:
                raise CorpusError(f"{place.uri}: a sample of {split} has no {', '.join(missing) or 'attributes'}")
            attributes = vars(sample)
            text = attributes.get("sbert_sentence_embeddings", attributes.get("text"))
            found.splits[split].append(
                Dialogue(
                    name=str(attributes["vid"]),
                    speakers=attributes["speaker"],
                    labels=attributes["label"],
                    vectors={"text": text, "audio": attributes["audio"], "vision": attributes["visual"]},
                    sentences=attributes["sentence"],
                )
            )
    return found


def _from_tuple(place: Location, content: list[Any], dev_share: float) -> Dialogues:
    by_dialogue = dict(zip(TUPLE_NAMES, content[:7], strict=True))
    for name, part in by_dialogue.items():
        if not isinstance(part, dict):
            raise CorpusError(f"{place.uri}: expected a dict of {name} by dialogue, found {type(part).__name__}")
    has_dev = len(content) == 10 and _are_ids(content[9], by_dialogue["ids"])
    train, test = _ordered(content[7]), _ordered(content[9] if has_dev else content[8])
    dev = _ordered(content[8]) if has_dev else train[: int(len(train) * dev_share)]
    notes: dict[str, Any] = {}
    if not has_dev and dev:
        train = train[len(dev) :]
        notes["dev"] = f"the first {len(dev)} of {len(train) + len(dev)} train dialogues"
    found = Dialogues(place, "tuple", {}, notes)
    parts: dict[Split, list[Any]] = {"train": train, "dev": dev, "test": test}
    for split, names in parts.items():
        if names:
            found.splits[split] = [_of_tuple(place, name, by_dialogue) for name in names]
    return found


def _are_ids(candidate: Any, known: Mapping[Any, Any]) -> bool:
    if isinstance(candidate, dict | str) or not hasattr(candidate, "__iter__"):
        return False
    names = _ordered(candidate)
    return bool(names) and all(name in known for name in names)


def _ordered(names: Any) -> list[Any]:
    """The ids in their order; a set has none, so its ids are sorted."""
    plain = [name.item() if isinstance(name, np.generic) else name for name in names]
    return (
        sorted(plain, key=lambda name: (isinstance(name, str), name)) if isinstance(names, set | frozenset) else plain
    )


def _of_tuple(place: Location, name: Any, by_dialogue: Mapping[str, Mapping[Any, Any]]) -> Dialogue:
    for part, entries in by_dialogue.items():
        if name not in entries:
            raise CorpusError(f"{place.uri}: dialogue {name} has no {part}")
    ids = by_dialogue["ids"][name]
    has_ids = isinstance(ids, list) and all(isinstance(item, str) for item in ids)
    return Dialogue(
        name=str(name),
        speakers=by_dialogue["speakers"][name],
        labels=by_dialogue["labels"][name],
        vectors={
            "text": by_dialogue["text"][name],
            "audio": by_dialogue["audio"][name],
            "vision": by_dialogue["visual"][name],
        },
        sentences=by_dialogue["sentences"][name],
        utterance_ids=list(ids) if has_ids else None,
    )


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
) -> Source:
    """A Source of these dialogues.

    Args:
        label_of: the pickle's label -> ours; ValueError says what is wrong with it.
        keeps: which utterances stay, by label.
    """
    zeros = options.get("zeros", "absent")
    if zeros not in ("absent", "present"):
        raise ConfigError(f"option zeros is absent or present, not {zeros}")
    widths = _widths(dialogues)
    notes: dict[str, Any] = {"layout": dialogues.layout, **dialogues.notes}
    contracts = {
        modality: FeatureContract(
            extractor=options.get(f"{modality}_extractor", extractors[modality]),
            version=options.get(f"{modality}_version", "unknown"),
            licence=options.get(f"{modality}_licence", "unknown"),
            width=width,
        )
        for modality, width in widths.items()
    }

    def drafts() -> Iterator[tuple[Split, Draft]]:
        for split, entries in dialogues.splits.items():
            for dialogue in entries:
                draft = _draft(dialogue, dialogues.place.uri, list(widths), label_of, speaker_of)
                if not draft.problems:
                    _leave_out(draft, keeps, notes)
                    if zeros == "absent":
                        _hide_zeros(draft, notes)
                if draft.problems or draft.utterance_ids:
                    yield split, draft

    return Source(name, task, labels, contracts, drafts(), has_texts=True, notes=notes)


def _widths(dialogues: Dialogues) -> dict[Modality, int]:
    widths: dict[Modality, int] = {}
    for dialogue in dialogues.every():
        for modality, vectors in dialogue.vectors.items():
            if modality not in widths and vectors is not None and len(vectors):
                widths[modality] = len(np.atleast_1d(vectors[0]))
        if len(widths) == len(MODALITIES):
            break
    if not widths:
        raise CorpusError(f"{dialogues.place.uri}: no vectors in it")
    return widths


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
    """A reader of class numbers: the position in `names`."""

    def read(value: Any) -> Label:
        if np.ndim(value) != 0 or float(value) != int(value) or not 0 <= int(value) < len(names):
            raise ValueError(f"label {value!r} is none of 0 to {len(names) - 1}")
        return names[int(value)]

    return read


def share_option(options: Mapping[str, str], default: float) -> float:
    """The option `dev_share`.

    Raises:
        ConfigError: it is no number from 0 to below 1.
    """
    given = options.get("dev_share")
    try:
        share = default if given is None else float(given)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise ConfigError(f"option dev_share is a number from 0 to below 1, not {given}")
    return share
