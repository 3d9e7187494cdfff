"""Compares all shards of a corpus with its manifest."""

from __future__ import annotations

from collections.abc import Callable

from joyful_ray.corpora.parallel import side_by_side
from joyful_ray.corpora.shards import Corpus
from joyful_ray.errors import CorpusError
from joyful_ray.schema import ShardEntry

Watch = Callable[[int, int], None]


def damaged_shards(corpus: Corpus, *, watch: Watch = lambda done, total: None) -> list[str]:
    """Read all shards and compare them with the manifest.

    Args:
        corpus: the opened corpus.
        watch: called with the number of shards read so far, and with that of all.

    Returns:
        A line for each shard that differs: file, what was expected, what was found.
    """

    def problem(shard: ShardEntry) -> str | None:
        try:
            corpus.read_checked(shard)
        except CorpusError as error:
            return str(error)
        return None

    shards = [shard for entry in corpus.manifest.splits.values() for shard in entry.shards]
    lines = []
    for done, line in enumerate(side_by_side(problem, shards), start=1):
        watch(done, len(shards))
        if line is not None:
            lines.append(line)
    return lines
