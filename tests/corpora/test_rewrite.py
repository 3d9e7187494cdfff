"""Corpora made from others: what is kept, where it goes, and that rows stay as they are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joyful_ray.cli import main
from joyful_ray.corpora.rewrite import _in_proportion, reshard_corpus, sample_corpus, split_corpus
from joyful_ray.corpora.shards import open_corpus
from joyful_ray.errors import ConfigError, CorpusError
from joyful_ray.schema import SPLITS, Conversation, Split
from tests.batches import quick
from tests.corpora.examples import assert_same, conversation, with_gaps, write


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    """Twenty conversations of train in shards of six, and some of the others; each has speakers of its own."""

    def own(name: str, length: int) -> Conversation:
        return conversation(name, length, speakers=[f"{name} {place % 2}" for place in range(length)])

    splits = {
        "train": [with_gaps(), *(own(f"t{place}", 1 + place % 5) for place in range(19))],
        "dev": [own(f"d{place}", 3) for place in range(4)],
        "test": [own(f"e{place}", 2) for place in range(6)],
    }
    write(str(tmp_path / "corpus"), splits, shard_conversations=6, notes={"from": "here"})
    return str(tmp_path / "corpus")


def by_split(uri: str) -> dict[str, list[str]]:
    opened = open_corpus(uri)
    return {split: [item.conversation_id for item in opened.conversations(split)] for split in opened.splits()}


def everything(uri: str) -> dict[str, Conversation]:
    opened = open_corpus(uri)
    return {item.conversation_id: item for split in SPLITS for item in opened.conversations(split)}


@pytest.mark.parametrize("shard_bytes", [400, 2_000, 10**6])
def test_other_shards_have_the_same_conversations(corpus: str, tmp_path: Path, shard_bytes: int) -> None:
    out, seen = str(tmp_path / "out"), list[tuple[int, int]]()
    manifest = reshard_corpus(corpus, out, shard_bytes=shard_bytes, watch=lambda *counts: seen.append(counts))
    assert by_split(out) == by_split(corpus)
    for name, item in everything(corpus).items():
        assert_same(everything(out)[name], item)
    assert seen[-1] == (30, 30)
    old, new = open_corpus(corpus), open_corpus(out)
    shards = {400: 12, 2_000: 3, 10**6: 1}[shard_bytes]
    assert abs(len(new.shards("train")) - shards) <= shards // 3, "about as large as asked for"
    for split in ("train", "dev", "test"):
        mine, theirs = new.statistics(split), old.statistics(split)
        assert mine is not None
        assert theirs is not None
        assert (mine.labels, mine.lengths, mine.present) == (theirs.labels, theirs.lengths, theirs.present)
    assert manifest.notes == {"from": "here"}


def test_a_sample_takes_of_every_split_in_proportion(corpus: str, tmp_path: Path) -> None:
    found = []
    for seed in (0, 0, 1):
        out = str(tmp_path / str(len(found)))
        sample_corpus(corpus, out, conversations=15, seed=seed)
        found.append(by_split(out))
        assert {split: len(names) for split, names in found[-1].items()} == {"train": 10, "dev": 2, "test": 3}
        for split, names in found[-1].items():
            assert names == [name for name in by_split(corpus)[split] if name in names], "in their order"
    assert found[0] == found[1] != found[2]
    notes = open_corpus(str(tmp_path / "0")).manifest.notes
    assert notes["sample_of"] == {"name": "small", "hash": open_corpus(corpus).hash, "seed": 0}
    for wrong in (2, 31):
        with pytest.raises(ConfigError, match=f"--conversations is {wrong}; .* 30 conversations in 3 splits"):
            sample_corpus(corpus, str(tmp_path / "no"), conversations=wrong)


@quick
@given(st.lists(st.integers(1, 60), min_size=1, max_size=3), st.data())
def test_shares_add_up_and_none_is_empty(sizes: list[int], data: st.DataObject) -> None:
    named: dict[Split, int] = dict(zip(SPLITS, sizes, strict=False))
    wanted = data.draw(st.integers(len(sizes), sum(sizes)))
    found = _in_proportion(named, wanted)
    assert sum(found.values()) == wanted
    for split, size in named.items():
        assert 1 <= found[split] <= size
        share = wanted * size / sum(sizes)
        assert abs(found[split] - share) <= len(sizes) or found[split] == 1


def test_conversations_are_divided_anew(corpus: str, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    split_corpus(corpus, out, dev=0.2, test=0.3, seed=4)
    found = by_split(out)
    assert {split: len(names) for split, names in found.items()} == {"train": 15, "dev": 6, "test": 9}
    assert sorted(name for names in found.values() for name in names) == sorted(everything(corpus))
    split_corpus(corpus, str(tmp_path / "other"), dev=0.2, test=0.3, seed=5)
    assert by_split(str(tmp_path / "other")) != found
    split_corpus(corpus, str(tmp_path / "train-only"), dev=0.0, test=0.0)
    assert list(by_split(str(tmp_path / "train-only"))) == ["train"]
    for shares in ({"dev": 0.5, "test": 0.5}, {"dev": -0.1, "test": 0.2}):
        with pytest.raises(ConfigError, match="leave a share for train"):
            split_corpus(corpus, str(tmp_path / "no"), **shares)


def test_no_speaker_is_in_two_splits(tmp_path: Path) -> None:
    """Each speaker has two conversations, and every third conversation links two speakers."""
    pairs = [[f"s{n // 2}", f"s{n // 2 + (n % 6 == 5)}"] for n in range(40)]
    many = [conversation(f"c{n}", 2, speakers=pair) for n, pair in enumerate(pairs)]
    write(str(tmp_path / "corpus"), {"train": many[:30], "test": many[30:]}, shard_conversations=7)
    split_corpus(str(tmp_path / "corpus"), str(tmp_path / "out"), dev=0.2, test=0.2, seed=1, by_speaker=True)
    speakers: dict[str, set[str]] = {}
    opened = open_corpus(str(tmp_path / "out"))
    for split in opened.splits():
        for item in opened.conversations(split):
            for name in item.speakers:
                speakers.setdefault(name, set()).add(split)
    assert all(len(splits) == 1 for splits in speakers.values())
    counts = Counter({split: len(names) for split, names in by_split(str(tmp_path / "out")).items()})
    assert counts["dev"] in range(8, 14)
    assert counts["test"] in range(8, 14)
    together = [conversation(f"c{n}", 2, speakers=["agent", f"caller {n}"]) for n in range(9)]
    write(str(tmp_path / "calls"), {"train": together})
    with pytest.raises(ConfigError, match="1 group of speakers cannot fill test; nothing is written"):
        split_corpus(str(tmp_path / "calls"), str(tmp_path / "no"), dev=0.2, test=0.2, by_speaker=True)
    assert not (tmp_path / "no").exists()


def test_a_corpus_is_not_written_over_itself(corpus: str) -> None:
    with pytest.raises(CorpusError, match="is the corpus itself"):
        reshard_corpus(corpus, corpus + "/", overwrite=True)
    assert len(everything(corpus)) == 30


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["sample", "--conversations", "6"], {"train": 4, "dev": 1, "test": 1}),
        (["split", "--dev", "0.5", "--test", "0"], {"train": 15, "dev": 15}),
        (["reshard", "--shard-mib", "0.01"], {"train": 20, "dev": 4, "test": 6}),
    ],
)
def test_the_commands_write_what_they_say(corpus: str, tmp_path: Path, words: list[str], expected: Any) -> None:
    out = str(tmp_path / "out")
    assert main(["corpus", words[0], corpus, "--out", out, *words[1:]]) == 0
    assert {split: len(names) for split, names in by_split(out).items()} == expected
    assert main(["corpus", words[0], corpus, "--out", out, *words[1:]]) == 2
    assert main(["corpus", words[0], corpus, "--out", out, *words[1:], "--overwrite"]) == 0
