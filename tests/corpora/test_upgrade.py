"""Corpora of format version 1, as an earlier version of this code wrote them, and checks of all shards."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from joyful_ray.cli import main
from joyful_ray.corpora.card import inspect_corpus
from joyful_ray.corpora.shards import open_corpus
from joyful_ray.corpora.upgrade import upgrade_corpus
from joyful_ray.corpora.verify import damaged_shards
from joyful_ray.data.prepare import prepare_here
from joyful_ray.errors import CorpusError, StorageError
from joyful_ray.storage import Location
from tests.corpora.examples import assert_same, conversation, with_gaps, write
from tests.tiny_corpus import small_job

WRITTEN = Path(__file__).parent / "version-1"
CONVERSATIONS = {"train": [conversation("a", 4), with_gaps(), conversation("b", 1)], "test": [conversation("t", 2)]}


@pytest.fixture
def earlier(tmp_path: Path) -> str:
    return str(shutil.copytree(WRITTEN, tmp_path / "earlier"))


@pytest.fixture
def now(tmp_path: Path) -> str:
    write(str(tmp_path / "now"), {**CONVERSATIONS, "dev": []}, shard_conversations=2)
    return str(tmp_path / "now")


def test_an_earlier_corpus_is_read_as_it_is(earlier: str, now: str) -> None:
    corpus = open_corpus(earlier)
    assert corpus.manifest.format_version == 1
    assert corpus.statistics("train") is None
    for found, expected in zip(corpus.conversations("train"), CONVERSATIONS["train"], strict=True):
        assert_same(found, expected)
    assert corpus.conversation_ids("train") == [["a", "gaps"], ["b"]]
    card, expected_card = inspect_corpus(corpus), inspect_corpus(open_corpus(now))
    changed = {"uri", "hash"}
    assert card.model_dump(exclude=changed) == expected_card.model_dump(exclude=changed)


def test_an_upgraded_corpus_knows_what_one_written_now_knows(earlier: str, now: str) -> None:
    before = open_corpus(earlier)
    shards = {path: path.read_bytes() for path in Path(earlier).rglob("part-*")}
    seen: list[tuple[int, int]] = []
    manifest, had = upgrade_corpus(earlier, watch=lambda done, total: seen.append((done, total)))
    assert (had, manifest.format_version) == (1, 2)
    assert seen == [(1, 3), (2, 3), (3, 3)]
    upgraded, expected = open_corpus(earlier), open_corpus(now)
    assert upgraded.manifest == manifest
    assert upgraded.hash == before.hash
    assert {path: path.read_bytes() for path in shards} == shards, "its shards stay as they are"
    for split in ("train", "test"):
        mine, theirs = upgraded.statistics(split), expected.statistics(split)
        assert mine is not None
        assert theirs is not None
        for name in ("conversations", "utterances", "labels", "unlabeled", "present", "lengths", "speakers"):
            assert getattr(mine, name) == getattr(theirs, name)
        for modality, features in theirs.features.items():
            np.testing.assert_array_equal(mine.features[modality].mean_W, features.mean_W)
            np.testing.assert_array_equal(mine.features[modality].squares_W, features.squares_W)
        assert upgraded.conversation_ids(split) == expected.conversation_ids(split)
        sizes = [Path(earlier, shard.name).stat().st_size for shard in upgraded.shards(split)]
        assert [shard.bytes for shard in upgraded.shards(split)] == sizes
    assert upgrade_corpus(earlier) == (manifest, 2)


def test_both_formats_prepare_the_same(earlier: str) -> None:
    job = small_job(data={"dev_fraction": 0.4})
    before = prepare_here(open_corpus(earlier), job)[0]
    upgrade_corpus(earlier)
    after = prepare_here(open_corpus(earlier), job)[0]
    assert after.label_counts == before.label_counts
    assert (after.conversations, after.speakers, after.dev_cut) == (
        before.conversations,
        before.speakers,
        before.dev_cut,
    )
    for name, scaling in before.encoding.scaling.items():
        np.testing.assert_array_equal(after.encoding.scaling[name].mean_W, scaling.mean_W)


def test_a_damaged_corpus_is_not_upgraded(earlier: str) -> None:
    shard = Path(earlier, "test/part-00000.parquet")
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(CorpusError, match=r"test/part-00000\.parquet: expected sha256"):
        upgrade_corpus(earlier)
    assert open_corpus(earlier).manifest.format_version == 1


def test_an_interrupted_upgrade_leaves_the_earlier_corpus(earlier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bytes, left = Location.write_bytes, 0

    def fails(location: Location, data: bytes) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise StorageError("the disk is full")
        write_bytes(location, data)

    monkeypatch.setattr(Location, "write_bytes", fails)
    for writes in range(7):
        left = writes
        with pytest.raises(StorageError):
            upgrade_corpus(earlier)
        assert open_corpus(earlier).manifest.format_version == 1
    left = 7
    assert upgrade_corpus(earlier)[0].format_version == 2


def test_every_damaged_shard_is_named(now: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert damaged_shards(open_corpus(now)) == []
    assert main(["inspect", now, "--verify"]) == 0
    for name in ("train/part-00000.parquet", "test/part-00000.parquet"):
        shard = Path(now, name)
        shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    seen: list[tuple[int, int]] = []
    lines = damaged_shards(open_corpus(now), watch=lambda done, total: seen.append((done, total)))
    assert ["train/part-00000.parquet: expected sha256" in lines[0], "test/part-" in lines[1], len(lines)] == [1, 1, 2]
    assert seen == [(1, 3), (2, 3), (3, 3)]
    capsys.readouterr()
    assert main(["inspect", now, "--verify"]) == 2
    printed = capsys.readouterr()
    assert "2 shards differ from the manifest: " in printed.err
    assert "test/part-00000.parquet" in printed.out


def test_the_command_upgrades_and_says_so(earlier: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["corpus", "upgrade", earlier]) == 0
    assert "it has format version 2; it had 1" in capsys.readouterr().out
    assert main(["corpus", "upgrade", earlier]) == 0
    assert "it has format version 2 already" in capsys.readouterr().out
    assert "shards" not in json.loads(Path(earlier, "manifest.json").read_text())["splits"]["train"]
