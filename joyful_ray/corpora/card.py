"""The corpus card: what you should know about a corpus before you train on it, with warnings.

Shapes: n = utterances of one split, W = width of one modality's vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from joyful_ray.corpora.shards import Corpus
from joyful_ray.schema import SPLITS, FeatureContract, Modality, Split, Task
from joyful_ray.wording import counted

Watch = Callable[[int, int], None]
RARE_SHARE = 0.01


class _Card(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Spread(_Card):
    """Summary of a distribution."""

    least: float
    median: float
    mean: float
    percentile_95: float
    most: float


class SplitCard(_Card):
    """Summary of one split. `absent_cells` counts single values that are missing in vectors that are present."""

    conversations: int
    utterances: int
    labels: dict[str, int]
    unlabeled: int
    label_values: Spread | None
    present: dict[Modality, int]
    absent_cells: dict[Modality, int]
    utterances_per_conversation: Spread | None
    most_speakers: int
    shards: int


class CorpusCard(_Card):
    """What `joyful inspect` shows. `warnings` are sentences."""

    name: str
    uri: str
    hash: str
    task: Task
    labels: list[str]
    has_texts: bool
    speaker_attributes: list[str]
    modalities: dict[Modality, FeatureContract]
    splits: dict[Split, SplitCard]
    notes: dict[str, Any]
    warnings: list[str]

    def as_rows(self) -> list[list[str]]:
        """A table of strings, the header first: one column per split."""
        names = list(self.splits)
        cards = list(self.splits.values())
        rows = [
            ["", *names],
            ["conversations", *(f"{card.conversations:,}" for card in cards)],
            ["utterances", *(f"{card.utterances:,}" for card in cards)],
            ["utterances per conversation", *(_spread_text(card.utterances_per_conversation) for card in cards)],
            ["speakers at most", *(str(card.most_speakers) for card in cards)],
        ]
        rows += [
            [f"label {name}", *(_count_text(card.labels.get(name, 0), card) for card in cards)] for name in self.labels
        ]
        if self.task == "regression":
            rows.append(["label", *(_spread_text(card.label_values) for card in cards)])
        rows.append(["unlabeled", *(f"{card.unlabeled:,}" for card in cards)])
        for name, contract in self.modalities.items():
            rows.append(
                [f"{name} ({contract.width}) present", *(_count_text(card.present[name], card) for card in cards)]
            )
            rows.append([f"{name} absent cells", *(f"{card.absent_cells[name]:,}" for card in cards)])
        return rows


@dataclass
class _Reading:
    """What a pass over a split collects."""

    lengths: list[NDArray] = field(default_factory=list)
    label_values: list[NDArray] = field(default_factory=list)
    most_speakers: int = 0
    ids: set[str] = field(default_factory=set)
    absent_cells: dict[Modality, int] = field(default_factory=dict)
    least_W: dict[Modality, NDArray] = field(default_factory=dict)
    most_W: dict[Modality, NDArray] = field(default_factory=dict)


def inspect_corpus(corpus: Corpus, *, watch: Watch | None = None) -> CorpusCard:
    """Read every shard once and describe the corpus.

    Args:
        corpus: the opened corpus.
        watch: called with the number of shards read so far, and with that of all.
    """
    total = sum(len(entry.shards) for entry in corpus.manifest.splits.values())
    done = count(1)

    def read_one() -> None:
        if watch is not None:
            watch(next(done), total)

    split_rows = {split: _read_split(corpus, split, read_one) for split in SPLITS if split in corpus.manifest.splits}
    return CorpusCard(
        name=corpus.manifest.name,
        uri=corpus.location.uri,
        hash=corpus.hash,
        task=corpus.manifest.task,
        labels=corpus.manifest.labels,
        has_texts=corpus.manifest.has_texts,
        speaker_attributes=corpus.manifest.speaker_attributes,
        modalities={name: corpus.manifest.modalities[name] for name in corpus.manifest.widths},
        splits={split: _split_card(corpus, split, reading) for split, reading in split_rows.items()},
        notes=corpus.manifest.notes,
        warnings=list(_warnings(corpus, split_rows)),
    )


def _read_split(corpus: Corpus, split: Split, read_one: Callable[[], None]) -> _Reading:
    reading = _Reading(absent_cells=dict.fromkeys(corpus.manifest.widths, 0))
    for table in corpus.tables(split):
        reading.lengths.append(pc.list_value_length(table.column("utterance_ids")).to_numpy())
        reading.ids.update(pc.list_flatten(table.column("utterance_ids")).to_pylist())
        speakers = table.column("speakers").to_pylist()
        reading.most_speakers = max([reading.most_speakers, *(len(set(names)) for names in speakers)])
        if corpus.manifest.task == "regression":
            reading.label_values.append(pc.drop_null(pc.list_flatten(table.column("labels"))).to_numpy())
        for name, width in corpus.manifest.widths.items():
            _read_vectors(reading, table, name, width)
        read_one()
    return reading


def _read_vectors(reading: _Reading, table: pa.Table, name: Modality, width: int) -> None:
    flat = pc.fill_null(pc.list_flatten(table.column(name)), float("nan")).to_numpy()
    values_nW = flat.reshape(-1, width)
    present_n = pc.list_flatten(table.column(f"{name}_present")).to_numpy(zero_copy_only=False).astype(bool)
    values_nW = values_nW[present_n]
    reading.absent_cells[name] += int(np.isnan(values_nW).sum())
    if not len(values_nW):
        return
    least_W = np.fmin.reduce(values_nW, axis=0)
    most_W = np.fmax.reduce(values_nW, axis=0)
    if name in reading.least_W:
        least_W = np.fmin(least_W, reading.least_W[name])
        most_W = np.fmax(most_W, reading.most_W[name])
    reading.least_W[name], reading.most_W[name] = least_W, most_W


def _split_card(corpus: Corpus, split: Split, reading: _Reading) -> SplitCard:
    entry = corpus.manifest.splits[split]
    return SplitCard(
        conversations=entry.conversations,
        utterances=entry.utterances,
        labels=entry.labels,
        unlabeled=entry.unlabeled,
        label_values=_spread(reading.label_values),
        present={name: entry.present.get(name, 0) for name in corpus.manifest.widths},
        absent_cells=reading.absent_cells,
        utterances_per_conversation=_spread(reading.lengths),
        most_speakers=reading.most_speakers,
        shards=len(entry.shards),
    )


def _warnings(corpus: Corpus, split_rows: dict[Split, _Reading]) -> Iterator[str]:
    splits = corpus.manifest.splits
    for split, consequence in (
        ("train", "nothing can be trained on it"),
        ("dev", "training uses some conversations of train instead"),
        ("test", "a run on it has no test score"),
    ):
        if split not in splits or not splits[split].conversations:
            yield f"no {split} split: {consequence}"
    for split, entry in splits.items():
        labeled = entry.utterances - entry.unlabeled
        for label in corpus.manifest.labels:
            count = entry.labels.get(label, 0)
            if entry.utterances and count == 0:
                yield f"label {label} is absent in {split}"
            elif count < RARE_SHARE * labeled:
                yield f"label {label} is rare in {split}: {count} of {labeled} labeled utterances"
        if entry.utterances and labeled == 0:
            yield f"no utterance of {split} has a label"
        for name in corpus.manifest.widths:
            if entry.utterances and entry.present.get(name, 0) == 0:
                yield f"no utterance of {split} has {name}"
    yield from _constant_features(corpus, split_rows)
    yield from _overlaps(split_rows)
    quarantined = corpus.manifest.notes.get("quarantined_conversations")
    if quarantined:
        yield f"{counted(quarantined, 'bad conversation')} left out by the import; see quarantine.jsonl"


def _constant_features(corpus: Corpus, split_rows: dict[Split, _Reading]) -> Iterator[str]:
    train = split_rows.get("train")
    for name in corpus.manifest.widths:
        if train is None or name not in train.least_W:
            continue
        constant = np.flatnonzero(~(train.least_W[name] < train.most_W[name]))
        if len(constant):
            shown = ", ".join(map(str, constant[:8])) + (", …" if len(constant) > 8 else "")
            yield f"{len(constant)} of {corpus.manifest.widths[name]} {name} features are constant in train: {shown}"


def _overlaps(split_rows: dict[Split, _Reading]) -> Iterator[str]:
    names = list(split_rows)
    for index, first in enumerate(names):
        for second in names[index + 1 :]:
            shared = split_rows[first].ids & split_rows[second].ids
            if shared:
                yield f"{counted(len(shared), 'utterance id')} of {first} also in {second}, such as {min(shared)}"


def _spread(parts: list[NDArray]) -> Spread | None:
    values = np.concatenate(parts) if parts else np.zeros(0)
    if not len(values):
        return None
    return Spread(
        least=float(values.min()),
        median=float(np.median(values)),
        mean=float(values.mean()),
        percentile_95=float(np.percentile(values, 95)),
        most=float(values.max()),
    )


def _spread_text(spread: Spread | None) -> str:
    return "" if spread is None else f"{spread.least:g} to {spread.most:g}, mean {spread.mean:.3g}"


def _count_text(count: int, card: SplitCard) -> str:
    share = f" ({count / card.utterances:.1%})" if card.utterances else ""
    return f"{count:,}{share}"
