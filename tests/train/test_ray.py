"""Whole runs on local Ray. Each takes tens of seconds, so each test checks several things."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from joyful_ray.certify.nodes import train_workers
from joyful_ray.config import JobConfig
from joyful_ray.corpora.shards import open_corpus
from joyful_ray.data.ingest import ResidentSplit, ingest
from joyful_ray.data.loader import ResidentLoader
from joyful_ray.data.prepare import prepare_here
from joyful_ray.errors import ConfigError, TrainingError
from joyful_ray.records import EpochMetrics
from joyful_ray.train.failed_step import FILE, read_failed_step
from joyful_ray.train.launch import train
from joyful_ray.train.replay import replay
from joyful_ray.train.run_directory import RunDirectory
from tests.tiny_corpus import small_job, write_tiny

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("local_ray")]
TRAIN, DEV, TEST = 21, 2, 5
"""`dev` is cut from 23 conversations in shards of 5, so most shards have none; 21 is not divisible by 2, 4 or 6."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_tiny(tmp_path_factory.mktemp("corpora") / "tiny", counts={"train": TRAIN + DEV, "test": TEST})


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def job_of(corpus: str, storage: Path, workers: int, **settings: Any) -> JobConfig:
    given = {"corpus": corpus, "storage": str(storage), "train": {"learning_rate": 0.01}}
    return small_job(given, {"cluster": {"workers": workers}}, settings)


def lines_of(job: JobConfig) -> list[EpochMetrics]:
    return RunDirectory.of(job).metrics()


def attempts(job: JobConfig) -> int:
    """How often a first rank started: each start opens a new event file."""
    return sum("tfevents" in name for name in RunDirectory.of(job).location.join("tensorboard").list())


def assert_same_answer(one: JobConfig, other: JobConfig) -> None:
    """Losses and scores of every epoch, and of the record, agree to one part in ten thousand."""
    assert [line.epoch for line in lines_of(one)] == [line.epoch for line in lines_of(other)]
    for mine, theirs in zip(lines_of(one), lines_of(other), strict=True):
        assert mine.losses == pytest.approx(theirs.losses, rel=1e-4)
        assert mine.dev.values == pytest.approx(theirs.dev.values, rel=1e-4)
        assert mine.dev.loss == pytest.approx(theirs.dev.loss, rel=1e-4)
        assert mine.conversations == theirs.conversations == TRAIN
        assert mine.dev.utterances == theirs.dev.utterances
    records = [RunDirectory.of(job).read_record() for job in (one, other)]
    assert records[0] is not None
    assert records[1] is not None
    assert records[0].selected_epoch == records[1].selected_epoch
    assert records[0].test is not None
    assert records[1].test is not None
    assert records[0].test.values == pytest.approx(records[1].test.values, rel=1e-4)
    assert records[0].corpus == records[1].corpus


@pytest.fixture(scope="module")
def without_ray(corpus: str, storage: Path) -> JobConfig:
    job = job_of(corpus, storage, 0, name="without-ray", train={"epochs": 6})
    train(job)
    return job


def test_one_worker_gives_the_losses_and_scores_of_a_run_without_ray(
    corpus: str, storage: Path, without_ray: JobConfig
) -> None:
    job = job_of(corpus, storage, 1, name="one", train={"epochs": 6})
    seen: list[int] = []
    record = train(job, watch=lambda metrics: seen.append(metrics.epoch))
    assert_same_answer(job, without_ray)
    assert record.workers == 1
    assert seen == list(range(6))
    assert attempts(job) == 1


def test_two_workers_of_which_one_is_killed_give_the_same_losses_and_scores(
    corpus: str, storage: Path, without_ray: JobConfig
) -> None:
    job = job_of(corpus, storage, 2, name="killed", train={"epochs": 6})
    killed: list[int] = []

    def kill(metrics: EpochMetrics) -> None:
        if not killed:
            killed.append(train_workers()[-1])
            os.kill(killed[-1], signal.SIGKILL)

    record = train(job, watch=kill)
    assert record.workers == 2
    assert killed
    assert attempts(job) == 2, "it was killed too late"
    assert_same_answer(job, without_ray)
    logs = [place.name.partition("-")[2] for place in Path(RunDirectory.of(job).logs.uri).iterdir()]
    assert {"command.log", "rank-000.log", "rank-001.log"} <= set(logs)
    assert any("controller" in name for name in logs)
    for line in RunDirectory.of(job).metrics():
        assert [each.rank for each in line.ranks] == [0, 1]


def test_a_loss_that_is_not_finite_ends_the_run_at_once_with_its_reason(corpus: str, storage: Path) -> None:
    job = job_of(
        corpus,
        storage,
        2,
        name="not-finite",
        train={"learning_rate": 1e30, "gradient_clip": None, "warmup_epochs": 0.0},
    )
    with pytest.raises(
        TrainingError, match=r"^epoch 1, step 2: the loss of .* is not finite \(in a batch of "
    ) as raised:
        train(job)
    assert attempts(job) == 1, "it was tried again"
    file = RunDirectory.of(job).location.join(FILE)
    assert f"joyful debug {file.uri} makes the step again" in str(raised.value)
    step = read_failed_step(file)
    report = replay(step, source=file.uri)
    assert len(step.batches) == 2, "one of each rank"
    assert len(report.conversations) == job.train.batch_conversations
    assert f"the loss of {', '.join(report.not_finite)} is" in str(raised.value)
    assert RunDirectory.of(job).read_record() is None


def test_streaming_gives_the_same_losses_and_scores_on_two_workers_as_without_ray(corpus: str, storage: Path) -> None:
    data = {"ingest": "streaming", "streaming_buffer_conversations": 8}
    settings = {"data": data, "train": {"epochs": 2, "batch_conversations": 4}}
    here = job_of(corpus, storage, 0, name="streamed-here", **settings)
    there = job_of(corpus, storage, 2, name="streamed", **settings)
    expected, found = train(here), train(there)
    for mine, other in zip(lines_of(there), lines_of(here), strict=True):
        assert mine.conversations == other.conversations == TRAIN
        assert mine.seen == other.seen
        assert mine.losses == pytest.approx(other.losses, rel=1e-4)
        assert mine.dev.loss == pytest.approx(other.dev.loss, rel=1e-4)
    assert found.test is not None
    assert expected.test is not None
    assert found.test.loss == pytest.approx(expected.test.loss, rel=1e-4)


def test_more_workers_than_the_cluster_has_are_refused_before_anything_starts(corpus: str, storage: Path) -> None:
    job = job_of(corpus, storage, 64, name="too-many")
    with pytest.raises(ConfigError, match=r"cluster\.workers .* 64 .* has \d+"):
        train(job)


# Ingest without a run


def test_ray_data_prepares_the_same_as_one_process(corpus: str, storage: Path) -> None:
    job = job_of(corpus, storage, 0)
    corpus_info, ingested = ingest(open_corpus(corpus), job)
    expected, stores = prepare_here(open_corpus(corpus), job)
    assert corpus_info.label_counts == expected.label_counts
    assert corpus_info.dev_cut == expected.dev_cut
    assert (corpus_info.conversations, corpus_info.utterances, corpus_info.speakers) == (
        expected.conversations,
        expected.utterances,
        expected.speakers,
    )
    for name, scaling in expected.encoding.scaling.items():
        assert corpus_info.encoding.scaling[name].mean_W.tolist() == pytest.approx(scaling.mean_W.tolist(), rel=1e-6)
    for split, store in stores.items():
        stored = ingested[split]
        assert isinstance(stored, ResidentSplit)
        source = stored.source(job, corpus_info.encoding)
        assert isinstance(source, ResidentLoader)
        found = source.store
        assert found.conversation_ids == store.conversation_ids
        assert found.lengths.tolist() == store.lengths.tolist()
        mine, theirs = (either.batch(range(len(store))) for either in (found, store))
        assert mine.labels.tolist() == theirs.labels.tolist()
        for name in corpus_info.encoding.widths:
            difference = (mine.features[name] - theirs.features[name]).nan_to_num().abs().max()
            assert float(difference) < 1e-5


def test_a_resident_split_is_read_in_place(corpus: str, storage: Path) -> None:
    job = job_of(corpus, storage, 0)
    corpus_info, ingested = ingest(open_corpus(corpus), job)
    source = ingested["train"].source(job, corpus_info.encoding)
    assert isinstance(source, ResidentLoader)
    for block in source.store._blocks:
        for matrix in block.features.values():
            assert not matrix.flags.owndata
            assert not matrix.flags.writeable
