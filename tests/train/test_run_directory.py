from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from joyful_ray.config import JobConfig, merge
from joyful_ray.errors import CheckpointError, ConfigError
from joyful_ray.records import EpochMetrics, RunRecord, Scores
from joyful_ray.train.run_directory import METRICS, RunDirectory
from tests.tiny_corpus import small_job

SCORES = Scores(task="regression", utterances=3, loss=0.5, values={"mae": 0.5})


@pytest.fixture
def storage(tmp_path: Path) -> str:
    return str(tmp_path / "runs")


def job(storage: str, **settings: object) -> JobConfig:
    return small_job(merge({"storage": storage, "name": "first", "corpus": "somewhere"}, settings))


def epoch(number: int) -> EpochMetrics:
    return EpochMetrics(
        epoch=number,
        losses={"total": 1.0},
        conversations=5,
        dev=SCORES,
        seconds=1.0,
        train_seconds=0.5,
        waiting_share=0.1,
        utterances_per_second=9.0,
        learning_rate=0.1,
        gradient_norm=1.0,
        is_best=True,
    )


def record(resolved: JobConfig) -> RunRecord:
    return RunRecord(
        name="first",
        outcome="finished",
        fingerprint=resolved.fingerprint,
        corpus={},
        config=resolved.model_dump(mode="json"),
        versions={},
        parameters=1,
        workers=0,
        epochs=1,
        selected_epoch=0,
        test_reads=1,
        dev=SCORES,
        test=None,
        seconds={},
        peak_memory_bytes=1,
    )


def test_a_new_run_writes_its_config_and_an_unfinished_one_continues(storage: str) -> None:
    directory = RunDirectory.of(job(storage))
    assert directory.begin(job(storage), corpus_hash="abc") is False
    assert directory.begin(job(storage), corpus_hash="abc") is True


def test_a_finished_run_is_refused(storage: str) -> None:
    directory = RunDirectory.of(job(storage))
    directory.begin(job(storage), corpus_hash="abc")
    directory.write_record(record(job(storage)))
    assert directory.read_record() == record(job(storage))
    with pytest.raises(CheckpointError, match=r"run first in .* is finished; give this one another --name"):
        directory.begin(job(storage), corpus_hash="abc")


def test_a_different_run_is_refused_with_the_settings_that_differ(storage: str) -> None:
    directory = RunDirectory.of(job(storage))
    directory.begin(job(storage), corpus_hash="abc")
    other = job(storage, train={"learning_rate": 0.5}, seed=3)
    with pytest.raises(CheckpointError) as caught:
        directory.begin(other, corpus_hash="abc")
    assert "train.learning_rate: 0.002 -> 0.5" in str(caught.value)
    assert "seed: 0 -> 3" in str(caught.value)


@pytest.mark.parametrize(
    "change", [{"cluster": {"workers": 2, "max_failures": 5}}, {"corpus": "elsewhere"}, {"name": "second"}]
)
def test_settings_that_do_not_change_the_result_may_differ(storage: str, change: dict[str, object]) -> None:
    directory = RunDirectory.of(job(storage))
    directory.begin(job(storage), corpus_hash="abc")
    assert directory.begin(job(storage, **change), corpus_hash="abc") is True


def test_another_corpus_is_refused(storage: str) -> None:
    directory = RunDirectory.of(job(storage))
    directory.begin(job(storage), corpus_hash="abc")
    with pytest.raises(CheckpointError, match="another corpus"):
        directory.begin(job(storage), corpus_hash="def")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "-x", "a b", "a\n"])
def test_an_invalid_name_is_refused(storage: str, name: str) -> None:
    with pytest.raises(ConfigError, match="is not a valid name of a run"):
        RunDirectory.of(job(storage), name)


@pytest.mark.parametrize("text", ["a: [1", "", "- 1", "unheard_of: 1", "seed: 2020-13-45"])
def test_a_damaged_config_is_refused(storage: str, text: str) -> None:
    directory = RunDirectory.of(job(storage))
    directory.location.join("config.yaml").write_text(text)
    with pytest.raises(CheckpointError, match="damaged"):
        directory.begin(job(storage), corpus_hash="abc")


def test_metrics_are_read_as_they_were_written(storage: str) -> None:
    directory = RunDirectory.of(job(storage))
    assert directory.metrics() == []
    for number in range(3):
        directory.add_metrics(epoch(number))
    assert directory.metrics() == [epoch(0), epoch(1), epoch(2)]


def test_an_incomplete_last_line_is_skipped_and_written_again(storage: str) -> None:
    directory = RunDirectory.of(job(storage))
    directory.add_metrics(epoch(0))
    directory.location.join(METRICS).append_text(epoch(1).model_dump_json()[:40])
    assert directory.metrics() == [epoch(0)]
    directory.drop_metrics_from(1)
    directory.add_metrics(epoch(1))
    assert directory.metrics() == [epoch(0), epoch(1)]


def test_a_damaged_line_or_record_is_named(storage: str) -> None:
    directory = RunDirectory.of(job(storage))
    directory.add_metrics(epoch(0))
    directory.location.join(METRICS).append_text('{"epoch": "first"}\n')
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl:2 is damaged, or was written by another version \("):
        directory.metrics()
    directory.location.join("record.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"record\.json is damaged"):
        directory.read_record()


def test_metrics_of_epochs_that_run_again_are_dropped(storage: str) -> None:
    directory = RunDirectory.of(job(storage))
    for number in range(4):
        directory.add_metrics(epoch(number))
    directory.drop_metrics_from(2)
    assert [resolved.epoch for resolved in directory.metrics()] == [0, 1]


def test_a_failure_is_kept_until_the_run_continues(storage: str) -> None:
    directory = RunDirectory.of(job(storage))
    directory.begin(job(storage), corpus_hash="abc")
    assert directory.read_failure() is None
    directory.write_failure("epoch 1, step 2: …")
    assert directory.read_failure() == "epoch 1, step 2: …"
    directory.begin(job(storage), corpus_hash="abc")
    assert directory.read_failure() is None


def test_a_given_name_takes_precedence_over_the_jobs(storage: str) -> None:
    assert RunDirectory.of(job(storage), "other").location.name == "other"
    assert RunDirectory.of(job(storage)).checkpoint(7).name == "00007"


def test_a_run_directory_can_be_pickled(storage: str) -> None:
    directory = RunDirectory.of(job(storage))
    assert pickle.loads(pickle.dumps(directory)) == directory
