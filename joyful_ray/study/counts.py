"""Counts of right and wrong predictions by conversation, of a trained variant on the split that a study compares."""

from __future__ import annotations

import pyarrow as pa

from joyful_ray.corpora.shards import Corpus
from joyful_ray.data.loader import ResidentLoader
from joyful_ray.data.prepare import prepare_here
from joyful_ray.data.store import SplitStore
from joyful_ray.schema import Split
from joyful_ray.train.bundle import Bundle, read_bundle
from joyful_ray.train.run_directory import RunDirectory
from joyful_ray.tune.dev_counts import DevCounts, counts_by_conversation, read_counts, write_counts


def counts_of(directory: RunDirectory, corpus: Corpus, split: Split, removed: str | None = None) -> DevCounts:
    """The counts of a finished run, from its folder if an earlier call wrote them.

    Args:
        directory: the run.
        corpus: the corpus that it was trained on.
        split: test is read only here.
        removed: modality that the model gets none of.

    Raises:
        CheckpointError: the file of an earlier call is damaged.
    """
    place = directory.location.join(f"{split}-counts{f'-without-{removed}' if removed else ''}.json")
    if place.exists():
        return read_counts(place)
    bundle = read_bundle(directory.bundle.uri)
    loader = ResidentLoader.of(bundle.job, _store(bundle, corpus, split, removed))
    found = counts_by_conversation(bundle, loader)
    write_counts(place, found)
    return found


def _store(bundle: Bundle, corpus: Corpus, split: Split, removed: str | None) -> SplitStore:
    if split not in corpus.splits():  # a dev split that was cut from train
        return prepare_here(corpus, bundle.job, ("train", "dev"))[1]["dev"]
    tables = [bundle.encoding.table(_without(rows, removed)) for rows in corpus.tables(split)]
    return SplitStore(tables, bundle.encoding)


def _without(rows: pa.Table, removed: str | None) -> pa.Table:
    """The rows without a modality; text goes with the words of the utterances."""
    names = {removed, f"{removed}_present", *(["texts"] if removed == "text" else [])}
    return rows.select([name for name in rows.column_names if name not in names])
