"""New corpora from the conversations of one: a sample, other splits, shards of another size.

Rows are copied as they are, one shard in memory at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from joyful_ray.corpora.parallel import side_by_side
from joyful_ray.corpora.shards import Corpus, open_corpus
from joyful_ray.corpora.writer import SHARD_BYTES, CorpusWriter
from joyful_ray.errors import ConfigError, CorpusError
from joyful_ray.schema import SPLITS, Manifest, Split
from joyful_ray.storage import open_location
from joyful_ray.wording import counted

Watch = Callable[[int, int], None]
_SAMPLE, _SPLIT = 1, 2


def reshard_corpus(
    uri: str, out: str, *, shard_bytes: int = SHARD_BYTES, overwrite: bool = False, watch: Watch | None = None
) -> Manifest:
    """Write the same conversations, in the same order, into shards of another size.

    Args:
        uri: the corpus.
        out: where the new one goes; a path or s3:// URI.
        shard_bytes: most bytes of a shard in memory; the file is smaller.
        overwrite: replace a corpus that is at `out`.
        watch: called with the number of conversations written so far, and with that of all.

    Raises:
        CorpusError: the corpus cannot be read, or `out` is not free.
    """
    corpus = open_corpus(uri)
    kept: dict[str, Split] = {name: split for split in SPLITS for ids in corpus.conversation_ids(split) for name in ids}
    return _rewrite(corpus, out, kept, shard_bytes=shard_bytes, overwrite=overwrite, watch=watch)


def sample_corpus(
    uri: str, out: str, *, conversations: int, seed: int = 0, overwrite: bool = False, watch: Watch | None = None
) -> Manifest:
    """Write some conversations, drawn at random from every split in proportion, at least one of each.

    Args:
        uri, out, overwrite, watch: as in `reshard_corpus`.
        conversations: how many.
        seed: decides which.

    Raises:
        ConfigError: there are fewer conversations, or more splits than wanted.
        CorpusError: the corpus cannot be read, or `out` is not free.
    """
    corpus = open_corpus(uri)
    sizes = {split: corpus.manifest.splits[split].conversations for split in corpus.splits()}
    total = sum(sizes.values())
    if not len(sizes) <= conversations <= total:
        raise ConfigError(
            f"--conversations is {conversations}; {uri} has {counted(total, 'conversation')} in "
            f"{counted(len(sizes), 'split')}, of which each keeps at least one"
        )
    kept: dict[str, Split] = {}
    for split, count in _in_proportion(sizes, conversations).items():
        names = [name for ids in corpus.conversation_ids(split) for name in ids]
        order = np.random.default_rng([seed, _SAMPLE, SPLITS.index(split)]).permutation(len(names))
        kept |= {names[int(place)]: split for place in order[:count]}
    notes = {"sample_of": {"name": corpus.manifest.name, "hash": corpus.hash, "seed": seed}}
    return _rewrite(corpus, out, kept, notes=notes, overwrite=overwrite, watch=watch)


def split_corpus(
    uri: str,
    out: str,
    *,
    dev: float,
    test: float,
    seed: int = 0,
    by_speaker: bool = False,
    overwrite: bool = False,
    watch: Watch | None = None,
) -> Manifest:
    """Divide all conversations anew into train, dev and test.

    Args:
        uri, out, overwrite, watch: as in `reshard_corpus`.
        dev, test: shares of the conversations; 0 makes no such split.
        seed: decides which.
        by_speaker: no speaker is in two splits; conversations that share one stay together, so that shares are met
            less exactly.

    Raises:
        ConfigError: the shares leave nothing to train on, or speakers hold all conversations together.
        CorpusError: the corpus cannot be read, or `out` is not free.
    """
    if min(dev, test) < 0 or dev + test >= 1:
        raise ConfigError(f"--dev {dev:g} and --test {test:g} must be at least 0, and leave a share for train")
    corpus = open_corpus(uri)
    names = [name for split in corpus.splits() for ids in corpus.conversation_ids(split) for name in ids]
    groups = _of_speakers(corpus) if by_speaker else [[name] for name in names]
    wanted: dict[Split, int] = {"test": round(test * len(names)), "dev": round(dev * len(names))}
    kept: dict[str, Split] = {}
    order = list(np.random.default_rng([seed, _SPLIT]).permutation(len(groups)))
    for split, count in wanted.items():
        taken = 0
        while taken < count and len(order) > 1:
            group = groups[int(order.pop())]
            kept |= dict.fromkeys(group, split)
            taken += len(group)
        if count and not taken:
            raise ConfigError(
                f"{uri}: {counted(len(groups), 'group')} of speakers cannot fill {split}; nothing is written"
            )
    kept |= {name: "train" for name in names if name not in kept}
    notes = {"split_of": {"name": corpus.manifest.name, "hash": corpus.hash, "seed": seed, "by_speaker": by_speaker}}
    return _rewrite(corpus, out, kept, notes=notes, overwrite=overwrite, watch=watch)


def _in_proportion(sizes: Mapping[Split, int], wanted: int) -> dict[Split, int]:
    """How many of each split, in proportion to its size, at least one of each, by largest remainders."""
    total = sum(sizes.values())
    shares = {split: wanted * size / total for split, size in sizes.items()}
    counts = {split: max(math.floor(share), 1) for split, share in shares.items()}
    while sum(counts.values()) != wanted:
        step = 1 if sum(counts.values()) < wanted else -1
        free = [split for split in counts if 1 <= counts[split] + step <= sizes[split]]
        chosen = max(free, key=lambda split: step * (shares[split] - counts[split]))
        counts[chosen] += step
    return counts


def _of_speakers(corpus: Corpus) -> list[list[str]]:
    """Conversations in groups that share no speaker with each other."""
    leader: dict[str, str] = {}

    def lead(name: str) -> str:
        while leader.setdefault(name, name) != name:
            leader[name] = leader[leader[name]]
            name = leader[name]
        return name

    members: dict[str, str] = {}
    shards = [shard for split in corpus.splits() for shard in corpus.shards(split)]
    columns = ["conversation_id", "speakers"]
    for rows in side_by_side(lambda shard: corpus.read_columns(shard, columns), shards):
        for name, speakers in zip(*(rows[column].to_pylist() for column in columns), strict=True):
            for other in speakers[1:]:
                leader[lead(other)] = lead(speakers[0])
            members[name] = speakers[0]
    groups: dict[str, list[str]] = {}
    for name, speaker in members.items():
        groups.setdefault(lead(speaker), []).append(name)
    return list(groups.values())


def _rewrite(
    corpus: Corpus,
    out: str,
    kept: Mapping[str, Split],
    *,
    notes: Mapping[str, object] | None = None,
    shard_bytes: int = SHARD_BYTES,
    overwrite: bool,
    watch: Watch | None,
) -> Manifest:
    """Write the conversations that are kept, each into its split."""
    manifest = corpus.manifest
    if corpus.location.uri == open_location(out).uri:
        raise CorpusError(f"{out} is the corpus itself; choose another --out")
    with CorpusWriter(
        out,
        name=manifest.name,
        task=manifest.task,
        labels=manifest.labels,
        modalities=manifest.modalities,
        has_texts=manifest.has_texts,
        speaker_attributes=manifest.speaker_attributes,
        notes={**manifest.notes, **(notes or {})},
        overwrite=overwrite,
        shard_bytes=shard_bytes,
    ) as writer:
        done = 0
        for rows in _shards(corpus):
            splits = pa.array([kept.get(name) for name in rows["conversation_id"].to_pylist()], pa.string())
            for split in SPLITS:
                mine = rows.filter(pc.equal(splits, split))
                if mine.num_rows:
                    writer.write_rows(split, mine)
                    done += mine.num_rows
                    if watch is not None:
                        watch(done, len(kept))
    assert writer.manifest is not None
    return writer.manifest


def _shards(corpus: Corpus) -> Iterable[pa.Table]:
    for split in corpus.splits():
        yield from corpus.tables(split)
