"""The files beside the shards: what a corpus knows of itself, how large its manifest is, and what damage says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from joyful_ray.corpora.shards import open_corpus
from joyful_ray.corpora.side_files import KINDS, write_side_files
from joyful_ray.corpora.statistics import Statistics, conversation_list
from joyful_ray.errors import CorpusError
from joyful_ray.schema import TASKS, ShardEntry, SplitEntry, Task
from joyful_ray.storage import open_location
from tests.corpora.examples import conversation, write
from tests.tiny_corpus import COUNTS, WIDTHS, tiny_conversations, write_tiny


@pytest.mark.parametrize("task", TASKS)
def test_a_corpus_knows_what_its_rows_say(tmp_path: Path, task: Task) -> None:
    corpus = open_corpus(write_tiny(tmp_path / "corpus", task=task, shard_conversations=5))
    for split in COUNTS:
        found = corpus.statistics(split)
        expected = Statistics.of(corpus.read_table(split), task=task, widths=WIDTHS)
        assert found is not None
        for name in ("conversations", "utterances", "unlabeled", "label_histogram", "present", "lengths", "speakers"):
            assert getattr(found, name) == getattr(expected, name), name
        assert found.speaker_names == expected.speaker_names
        assert {label: count for label, count in found.labels.items() if count} == expected.labels
        pairs = [(found.features[name], expected.features[name]) for name in WIDTHS]
        if task == "regression":
            assert found.label_values is not None
            assert expected.label_values is not None
            pairs.append((found.label_values, expected.label_values))
        for mine, theirs in pairs:
            for field in ("count_W", "mean_W", "squares_W", "least_W", "most_W"):
                np.testing.assert_allclose(getattr(mine, field), getattr(theirs, field), rtol=1e-12)
        names = [item.conversation_id for item in tiny_conversations(split, COUNTS[split])]
        by_shard = corpus.conversation_ids(split)
        assert [name for ids in by_shard for name in ids] == names
        assert [len(ids) for ids in by_shard] == [shard.rows for shard in corpus.shards(split)]


def test_the_manifest_does_not_grow_with_the_shards(tmp_path: Path) -> None:
    sizes = []
    for count in (2, 40):
        many = [conversation(f"c{index:02}", 2) for index in range(count)]
        write(str(tmp_path / str(count)), {"train": many}, shard_conversations=1)
        sizes.append((tmp_path / str(count) / "manifest.json").stat().st_size)
    assert sizes[1] < sizes[0] + 20, "only digits"
    assert len(open_corpus(str(tmp_path / "40")).shards("train")) == 40


def test_a_corpus_of_very_many_shards_is_listed(tmp_path: Path) -> None:
    place = open_location(str(tmp_path))
    shards = [
        ShardEntry(name=f"train/part-{n:05d}.parquet", rows=1, utterances=2, sha256="0" * 64) for n in range(100_000)
    ]
    rows = open_corpus(write_tiny(tmp_path / "tiny")).read_table("train")
    files = write_side_files(
        place, "train", shards=shards, conversations=[conversation_list(rows)], statistics=Statistics()
    )
    from joyful_ray.corpora.side_files import read_shard_list

    entry = SplitEntry(conversations=100_000, utterances=200_000, side_files=files)
    assert read_shard_list(place, entry) == shards
    assert (tmp_path / "train/shards.parquet").stat().st_size < 2e6


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_or_missing_side_file_is_named(tmp_path: Path, kind: str) -> None:
    folder = write_tiny(tmp_path / "corpus")
    file = Path(folder, f"train/{kind}.parquet")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)

    def use() -> None:
        corpus = open_corpus(folder)
        corpus.statistics("train")
        corpus.conversation_ids("train")

    with pytest.raises(CorpusError, match=rf"train/{kind}\.parquet: expected sha256 .* import the corpus again"):
        use()
    file.unlink()
    with pytest.raises(CorpusError, match=rf"train/{kind}\.parquet: expected a file of the manifest, found no such"):
        use()
