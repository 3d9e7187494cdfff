"""How a run reads its corpus is decided by size, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from joyful_ray.corpora.shards import Corpus, open_corpus
from joyful_ray.data import ways
from joyful_ray.data.loader import ResidentLoader
from joyful_ray.data.streaming import StreamingLoader
from joyful_ray.data.ways import INGEST, decided, resident_bytes
from joyful_ray.errors import CheckpointError
from joyful_ray.storage import open_location
from joyful_ray.train import launch
from joyful_ray.train.launch import train
from joyful_ray.train.loop_spec import RunSpec
from joyful_ray.train.run_directory import RunDirectory
from tests.tiny_corpus import COUNTS, WIDTHS, small_job, tiny_conversations, write_tiny


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return open_corpus(write_tiny(tmp_path / "corpus"))


def test_the_size_is_that_of_the_vectors_that_are_read(corpus: Corpus) -> None:
    utterances = sum(len(item) for split in COUNTS for item in tiny_conversations(split, COUNTS[split]))
    assert resident_bytes(corpus, small_job()) == 4 * utterances * sum(WIDTHS.values())
    assert resident_bytes(corpus, small_job(data={"modalities": ["text"]})) == 4 * utterances * WIDTHS["text"]


def test_a_run_stays_with_what_it_began_with(corpus: Corpus, tmp_path: Path) -> None:
    """Whatever memory there is when it continues."""
    size = resident_bytes(corpus, small_job())
    for memory, expected in ((size * 4, "resident"), (size * 3, "streaming")):
        home = open_location(str(tmp_path / expected))
        for now in (memory, 0, size * 100):
            assert decided(small_job(), corpus, home, lambda now=now: now).data.ingest == expected  # type: ignore[misc]
    named = small_job(data={"ingest": "streaming"})
    assert decided(named, corpus, open_location(str(tmp_path / "resident")), lambda: size * 100) is named
    home.join(INGEST).write_text("{")
    with pytest.raises(CheckpointError, match=r"ingest\.json is damaged; set data\.ingest to what the run began with"):
        decided(small_job(), corpus, home, lambda: size)


def test_both_splits_together_are_in_memory(corpus: Corpus, tmp_path: Path) -> None:
    home = open_location(str(tmp_path / "refit"))
    both = small_job(train={"refit": True})
    assert decided(both, corpus, home, lambda: 0) is both
    assert not home.join(INGEST).exists()


@pytest.mark.parametrize(("share", "expected"), [(100.0, ResidentLoader), (1.0, StreamingLoader)])
def test_without_ray_a_large_corpus_streams(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float, expected: type
) -> None:
    monkeypatch.setattr(ways, "memory_bytes", lambda: (None, int(share * resident_bytes(corpus, small_job()))))
    used, run = [], launch.run

    def noted(spec: RunSpec, process_group: object) -> object:
        used.append(type(spec.sources["train"]()))
        return run(spec, process_group)  # type: ignore[arg-type]

    monkeypatch.setattr(launch, "run", noted)
    job = small_job({"corpus": corpus.location.uri, "storage": str(tmp_path)}, train={"epochs": 1})
    record = train(job)
    assert used == [expected]
    assert record.fingerprint == job.fingerprint, "the settings stay those that were given"
    assert RunDirectory.of(job).checkpoints.join(INGEST).exists()
