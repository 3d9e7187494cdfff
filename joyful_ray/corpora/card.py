"""The corpus card: what you should know about a corpus before you train on it, with warnings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import combinations, count
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from joyful_ray.corpora.shards import Corpus
from joyful_ray.corpora.statistics import Statistics, counts_in_order, statistics_of
from joyful_ray.schema import LABEL_BIN, SPLITS, FeatureContract, Modality, Split, Task
from joyful_ray.wording import counted

Watch = Callable[[int, int], None]
RARE_SHARE = 0.01
MOST_COMPARED = 1_000_000
"""Utterances of a corpus whose ids are compared between splits; those of a larger one are not."""


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


def inspect_corpus(corpus: Corpus, *, watch: Watch | None = None) -> CorpusCard:
    """Describe a corpus from what it knows of itself; one of format version 1 is read.

    Args:
        corpus: the opened corpus.
        watch: called with the number of shards read so far, and with that of all.
    """
    total = sum(len(entry.shards) for entry in corpus.manifest.splits.values())
    done = count(1)

    def read_one() -> None:
        if watch is not None:
            watch(next(done), total)

    known = {split: _statistics(corpus, split, read_one) for split in SPLITS if split in corpus.manifest.splits}
    return CorpusCard(
        name=corpus.manifest.name,
        uri=corpus.location.uri,
        hash=corpus.hash,
        task=corpus.manifest.task,
        labels=corpus.manifest.labels,
        has_texts=corpus.manifest.has_texts,
        speaker_attributes=corpus.manifest.speaker_attributes,
        modalities={name: corpus.manifest.modalities[name] for name in corpus.manifest.widths},
        splits={split: _split_card(corpus, split, found) for split, found in known.items()},
        notes=corpus.manifest.notes,
        warnings=list(_warnings(corpus, known)),
    )


def _statistics(corpus: Corpus, split: Split, read_one: Callable[[], None]) -> Statistics:
    known = corpus.statistics(split)
    if known is not None:
        return known
    found = Statistics()
    for table in corpus.tables(split):
        found += statistics_of(table, corpus.manifest)
        read_one()
    return found


def _split_card(corpus: Corpus, split: Split, found: Statistics) -> SplitCard:
    return SplitCard(
        conversations=found.conversations,
        utterances=found.utterances,
        labels=counts_in_order(corpus.manifest.labels, found.labels),
        unlabeled=found.unlabeled,
        label_values=_spread_of_labels(found),
        present={name: found.present.get(name, 0) for name in corpus.manifest.widths},
        absent_cells={name: found.absent_cells(name) for name in corpus.manifest.widths},
        utterances_per_conversation=_spread({float(length): times for length, times in found.lengths.items()}),
        most_speakers=found.speakers,
        shards=len(corpus.shards(split)),
    )


def _warnings(corpus: Corpus, known: dict[Split, Statistics]) -> Iterator[str]:
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
    yield from _constant_features(corpus, known)
    yield from _overlaps(corpus)
    quarantined = corpus.manifest.notes.get("quarantined_conversations")
    if quarantined:
        yield f"{counted(quarantined, 'bad conversation')} left out by the import; see quarantine.jsonl"


def _constant_features(corpus: Corpus, known: dict[Split, Statistics]) -> Iterator[str]:
    train = known.get("train")
    for name in corpus.manifest.widths:
        if train is None or not train.present.get(name):
            continue
        constant = np.flatnonzero(~(train.features[name].least_W < train.features[name].most_W))
        if len(constant):
            shown = ", ".join(map(str, constant[:8])) + (", …" if len(constant) > 8 else "")
            yield f"{len(constant)} of {corpus.manifest.widths[name]} {name} features are constant in train: {shown}"


def _overlaps(corpus: Corpus) -> Iterator[str]:
    if sum(entry.utterances for entry in corpus.manifest.splits.values()) > MOST_COMPARED:
        yield f"utterance ids were not compared between splits, because there are more than {MOST_COMPARED:,}"
        return
    ids = {split: _utterance_ids(corpus, split) for split in corpus.splits()}
    for first, second in combinations(ids, 2):
        shared = ids[first] & ids[second]
        if shared:
            yield f"{counted(len(shared), 'utterance id')} of {first} also in {second}, such as {min(shared)}"


def _utterance_ids(corpus: Corpus, split: Split) -> set[str]:
    tables = (corpus.read_columns(shard, ["utterance_ids"]) for shard in corpus.shards(split))
    return {name for table in tables for name in pc.list_flatten(table["utterance_ids"]).to_pylist()}


def _spread_of_labels(found: Statistics) -> Spread | None:
    """Spread of labels that are numbers; median and percentile to the nearest `LABEL_BIN`."""
    values = found.label_values
    if values is None or not values.count_W[0]:
        return None
    binned = _spread({number * LABEL_BIN: count for number, count in found.label_histogram.items()})
    assert binned is not None
    exact = {"least": values.least_W[0], "mean": values.mean_W[0], "most": values.most_W[0]}
    return binned.model_copy(update={name: float(value) for name, value in exact.items()})


def _spread(counts: Mapping[float, int]) -> Spread | None:
    """Spread of values that come so many times."""
    if not counts:
        return None
    values = np.array(sorted(counts), np.float64)
    times = np.array([counts[value] for value in sorted(counts)])
    median, percentile_95 = (_percentile(values, times, share) for share in (0.5, 0.95))
    return Spread(
        least=float(values[0]),
        median=median,
        mean=float((values * times).sum() / times.sum()),
        percentile_95=percentile_95,
        most=float(values[-1]),
    )


def _percentile(values: NDArray[np.float64], times: NDArray[np.int64], share: float) -> float:
    """The percentile of sorted values that come so many times, interpolated as numpy does."""
    place = share * (int(times.sum()) - 1)
    ends = np.cumsum(times)
    low, high = (values[int(np.searchsorted(ends, step, side="right"))] for step in (np.floor(place), np.ceil(place)))
    return float(low + (high - low) * (place - np.floor(place)))


def _spread_text(spread: Spread | None) -> str:
    return "" if spread is None else f"{spread.least:g} to {spread.most:g}, mean {spread.mean:.3g}"


def _count_text(count: int, card: SplitCard) -> str:
    share = f" ({count / card.utterances:.1%})" if card.utterances else ""
    return f"{count:,}{share}"
