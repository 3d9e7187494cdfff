"""The pickles that emotion recognition projects share: one entry per dialogue, one vector per utterance.

Two layouts. *Samples*: a dict of `train`, `dev`, `test`, each a list of `Sample` objects (vid, speaker, label, text,
audio, visual, sentence, sbert_sentence_embeddings), as COGMEN and JOYFUL write. *Tuple*: (ids, speakers, labels, text,
audio, visual, sentences, train ids, test ids), the first seven dicts by dialogue, as DialogueRNN and MMGCN read. A
tenth entry may follow; if it is a list of ids, the last three are train, dev and test.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from joyful_ray.corpora.importers.pickles import Record, read_pickle
from joyful_ray.errors import CorpusError
from joyful_ray.schema import SPLITS, Modality, Split
from joyful_ray.storage import Location
from joyful_ray.wording import counted

SAMPLE_FIELDS = ("vid", "speaker", "label", "audio", "visual", "sentence")
TUPLE_NAMES = ("ids", "speakers", "labels", "text", "audio", "visual", "sentences")


@dataclass
class Dialogue:
    """A dialogue as it is in the pickle, not yet checked."""

    name: str
    speakers: Any
    labels: Any
    vectors: dict[Modality, Any]
    sentences: Any
    utterance_ids: list[str] | None = None


@dataclass
class Dialogues:
    """The content of a pickle."""

    place: Location
    layout: str
    splits: dict[Split, list[Dialogue]]
    notes: dict[str, Any] = field(default_factory=dict)

    def every(self) -> Iterator[Dialogue]:
        """All dialogues of all splits."""
        for dialogues in self.splits.values():
            yield from dialogues


def find_pickle(source: Location) -> Location:
    """SOURCE itself, or the pickle in it.

    Raises:
        CorpusError: there is none, or more than one.
    """
    if not source.is_dir():
        return source
    names = [name for name in source.list() if name.endswith((".pkl", ".pickle", ".p"))]
    if len(names) != 1:
        raise CorpusError(f"{source.uri} has {counted(len(names), '.pkl file')}; name one as the source")
    return source.join(names[0])


def read_dialogues(place: Location, *, dev_share: float = 0.0) -> Dialogues:
    """Read a file of either layout.

    Args:
        place: the pickle.
        dev_share: share of the train dialogues, from the first one, that become dev in a tuple without dev ids.

    Raises:
        CorpusError: the file has neither layout.
    """
    return dialogues_of(place, read_pickle(place), dev_share=dev_share)


def dialogues_of(place: Location, content: Any, *, dev_share: float = 0.0) -> Dialogues:
    """The dialogues in the content of a pickle; see `read_dialogues`."""
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
    """The ids in order; those of a set are sorted."""
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
