"""Counts of right and wrong predictions by conversation, of a trained variant on the split that a study compares."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from joyful_ray.corpora.shards import Corpus
from joyful_ray.data.loader import ResidentLoader
from joyful_ray.data.prepare import prepare_here
from joyful_ray.data.store import SplitStore
from joyful_ray.errors import CheckpointError
from joyful_ray.schema import UNKNOWN_VALUE, Split, attribute_column
from joyful_ray.storage import Location
from joyful_ray.train.bundle import Bundle, read_bundle
from joyful_ray.train.run_directory import RunDirectory
from joyful_ray.tune.dev_counts import DevCounts, Group, content_of, counts_by_group, counts_from

SPEAKER = "speaker"
MAX_GROUPS, MIN_UTTERANCES, MIN_CONVERSATIONS = 12, 20, 5
"""The largest groups of each kind are compared; of smaller ones, samples of the bootstrap would often have nothing."""


def counts_of(
    directory: RunDirectory, corpus: Corpus, split: Split, removed: str | None = None, groups: Sequence[str] = ()
) -> dict[Group, DevCounts]:
    """The counts of a finished run, from its folder if an earlier call wrote them.

    Args:
        directory: the run.
        corpus: the corpus that it was trained on.
        split: test is read only here, once for all groups.
        removed: modality that the model gets none of.
        groups: `speaker`, and attributes of the speakers; for the split of a corpus, not for a dev that was cut.

    Returns:
        The counts of `EVERYTHING`, and of the `MAX_GROUPS` largest groups of each kind that have at least
        `MIN_UTTERANCES` utterances in `MIN_CONVERSATIONS`.

    Raises:
        CheckpointError: the file of an earlier call is damaged.
    """
    of = "".join(f"-by-{name}" for name in sorted(groups))
    place = directory.location.join(f"{split}-counts{f'-without-{removed}' if removed else ''}{of}.json")
    if place.exists():
        return _read(place)
    bundle = read_bundle(directory.bundle.uri)
    loader = ResidentLoader.of(bundle.job, _store(bundle, corpus, split, removed))
    thresholds = bundle.card.thresholds or None
    found = counts_by_group(bundle, loader, _groups_of(corpus, split, groups), thresholds=thresholds)
    place.write_text(json.dumps([{"group": group, **content_of(counts)} for group, counts in found.items()]))
    return found


def readings(directory: RunDirectory, split: Split) -> int:
    """How often a run was scored on a split: each time left a file of counts."""
    return sum(name.startswith(f"{split}-counts") for name in directory.location.list())


def _read(place: Location) -> dict[Group, DevCounts]:
    try:
        return {(one["group"][0], one["group"][1]): counts_from(one) for one in json.loads(place.read_text())}
    except (ValueError, KeyError, TypeError, IndexError):
        raise CheckpointError(f"{place.uri} is damaged; remove it and run the same command again") from None


def _groups_of(
    corpus: Corpus, split: Split, kinds: Sequence[str]
) -> Callable[[str], Mapping[Group, NDArray[np.bool_]]]:
    """A function that gives the groups of a conversation."""
    masks: dict[str, dict[Group, NDArray[np.bool_]]] = defaultdict(dict)
    utterances, conversations = Counter[Group](), Counter[Group]()
    for table in corpus.tables(split) if kinds and split in corpus.splits() else ():
        ids = table["conversation_id"].to_pylist()
        for kind in kinds:
            column = "speakers" if kind == SPEAKER else attribute_column(kind)
            for conversation, values in zip(ids, table[column].to_pylist(), strict=True):
                values_n = np.array([value or UNKNOWN_VALUE for value in values], dtype=object)
                for value in dict.fromkeys(values_n.tolist()):
                    masks[conversation][kind, value] = values_n == value
                    utterances[kind, value] += int((values_n == value).sum())
                    conversations[kind, value] += 1
    compared: set[Group] = set()
    for kind in kinds:
        large = [group for group, count in utterances.most_common() if group[0] == kind and count >= MIN_UTTERANCES]
        compared.update([group for group in large if conversations[group] >= MIN_CONVERSATIONS][:MAX_GROUPS])
    return lambda conversation: {group: mask for group, mask in masks[conversation].items() if group in compared}


def _store(bundle: Bundle, corpus: Corpus, split: Split, removed: str | None) -> SplitStore:
    if split == "dev" and ("dev" not in corpus.splits() or bundle.job.data.folds is not None):  # cut from train
        return prepare_here(corpus, bundle.job, ("train", "dev"))[1]["dev"]
    tables = [bundle.encoding.table(_without(rows, removed)) for rows in corpus.tables(split)]
    return SplitStore(tables, bundle.encoding)


def _without(rows: pa.Table, removed: str | None) -> pa.Table:
    """The rows without a modality; text goes with the words of the utterances."""
    names = {removed, f"{removed}_present", *(["texts"] if removed == "text" else [])}
    return rows.select([name for name in rows.column_names if name not in names])
