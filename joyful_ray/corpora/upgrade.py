"""Brings a corpus to the current format, in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pyarrow as pa

from joyful_ray.corpora.checks import decoded
from joyful_ray.corpora.manifest import split_entry, write_manifest
from joyful_ray.corpora.parallel import side_by_side
from joyful_ray.corpora.shards import Corpus, open_corpus
from joyful_ray.corpora.side_files import write_side_files
from joyful_ray.corpora.statistics import Statistics, conversation_list, statistics_of
from joyful_ray.schema import FORMAT_VERSION, Manifest, ShardEntry

Watch = Callable[[int, int], None]


class _Surveyed(NamedTuple):
    entry: ShardEntry
    conversations: pa.Table
    statistics: Statistics


def upgrade_corpus(uri: str, *, watch: Watch = lambda done, total: None) -> tuple[Manifest, int]:
    """Add what the current format knows of a corpus. Its shards stay as they are, and so does its hash.

    The manifest is replaced last, so that a corpus whose upgrade is interrupted is one of the earlier format.

    Args:
        uri: the corpus.
        watch: called with the number of shards read so far, and with that of all.

    Returns:
        The manifest, and the format version that the corpus had.

    Raises:
        CorpusError: a shard differs from the manifest; nothing was changed.
    """
    corpus = open_corpus(uri)
    earlier = corpus.manifest.format_version
    if earlier == FORMAT_VERSION:
        return corpus.manifest, earlier
    manifest = corpus.manifest.model_copy(update={"format_version": FORMAT_VERSION})
    total, done, splits = _count(corpus), 0, {}
    for split, entry in manifest.splits.items():
        shards, conversations, statistics = list[ShardEntry](), list[pa.Table](), Statistics()
        for found in side_by_side(lambda shard: _survey(corpus, shard), entry.shards):
            shards.append(found.entry)
            conversations.append(found.conversations)
            statistics += found.statistics
            watch(done := done + 1, total)
        files = (
            write_side_files(corpus.location, split, shards=shards, conversations=conversations, statistics=statistics)
            if shards
            else {}
        )
        splits[split] = split_entry(statistics, shards, files, manifest)
    upgraded = manifest.model_copy(update={"splits": splits})
    write_manifest(corpus.location, upgraded)
    return upgraded, earlier


def _count(corpus: Corpus) -> int:
    return sum(len(entry.shards) for entry in corpus.manifest.splits.values())


def _survey(corpus: Corpus, shard: ShardEntry) -> _Surveyed:
    place = corpus.location.join(shard.name)
    data = place.read_bytes()
    rows = decoded(place, data, shard, corpus.manifest)
    entry = shard.model_copy(update={"bytes": len(data)})
    return _Surveyed(entry, conversation_list(rows), statistics_of(rows, corpus.manifest))
