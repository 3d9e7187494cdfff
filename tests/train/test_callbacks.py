"""Callbacks: which events come, in which order, what an error does, and what a resumed run reports."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from joyful_ray.config import JobConfig
from joyful_ray.errors import CheckpointError, StorageError, TrainingError
from joyful_ray.records import EpochMetrics, RunRecord
from joyful_ray.train import follow, launch
from joyful_ray.train.callbacks import Callback, RunInfo
from joyful_ray.train.launch import train
from joyful_ray.train.run_directory import RunDirectory
from tests.tiny_corpus import small_job


class Recorder(Callback):
    """Notes every event."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []

    def on_train_begin(self, run: RunInfo) -> None:
        self.events.append(("begin", run.is_resumed))

    def on_epoch_end(self, run: RunInfo, metrics: EpochMetrics) -> None:
        self.events.append(("epoch", metrics.epoch))

    def on_checkpoint(self, run: RunInfo, uri: str) -> None:
        self.events.append(("checkpoint", Path(uri).name))

    def on_train_end(self, run: RunInfo, record: RunRecord) -> None:
        self.events.append(("end", record.name))

    def on_exception(self, run: RunInfo, error: BaseException) -> None:
        self.events.append(("exception", type(error).__name__))

    def named(self, name: str) -> list[Any]:
        return [value for event, value in self.events if event == name]


@pytest.fixture
def job(tiny: Callable[..., str], tmp_path: Path) -> JobConfig:
    train_settings = {"epochs": 3, "patience": 3}
    return small_job(name="tiny", corpus=tiny("single-label"), storage=str(tmp_path / "runs"), train=train_settings)


def test_events_come_in_order_and_the_last_checkpoint_is_told(job: JobConfig) -> None:
    recorder = Recorder()
    train(job, callbacks=[recorder])
    assert recorder.events[0] == ("begin", False)
    assert recorder.events[-1] == ("end", "tiny")
    assert recorder.named("epoch") == [0, 1, 2]
    assert recorder.named("checkpoint")[-1] == "00002"


@pytest.mark.ray
@pytest.mark.slow
def test_two_ray_workers_send_the_same_events_once(job: JobConfig) -> None:
    recorder = Recorder()
    on_ray = job.model_copy(update={"cluster": job.cluster.model_copy(update={"workers": 2})})
    train(on_ray, name="ray", callbacks=[recorder])
    assert recorder.named("epoch") == [0, 1, 2]
    assert (recorder.named("begin"), recorder.named("end")) == ([False], ["ray"])


def test_a_callback_that_fails_is_named_and_loses_nothing(job: JobConfig) -> None:
    class Broken(Recorder):
        def on_epoch_end(self, run: RunInfo, metrics: EpochMetrics) -> None:
            super().on_epoch_end(run, metrics)
            raise ValueError("no such tracker")

    broken, healthy = Broken(), Recorder()
    expected = r"callback Broken.on_epoch_end failed: ValueError: no such tracker; the run is complete in "
    with pytest.raises(TrainingError, match=expected):
        train(job, callbacks=[broken, healthy])
    assert broken.named("epoch") == [0]
    assert not broken.named("end")
    assert healthy.named("epoch") == [0, 1, 2]
    assert healthy.named("end") == ["tiny"]
    assert RunDirectory.of(job).read_record() is not None


def test_an_error_before_training_stops_the_command(job: JobConfig) -> None:
    class Refuses(Callback):
        def on_train_begin(self, run: RunInfo) -> None:
            raise ValueError("not today")

    with pytest.raises(ValueError, match="not today"):
        train(job, callbacks=[Refuses()])
    assert not RunDirectory.of(job).metrics()


def test_a_resumed_run_reports_only_its_own_epochs(job: JobConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    from joyful_ray.train import loop

    first = Recorder()
    real = loop._save

    def stops(directory: RunDirectory, trainer: Any, progress: Any, *, keep: int) -> None:
        if progress.next_epoch == 2:
            raise KeyboardInterrupt
        real(directory, trainer, progress, keep=keep)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "_save", stops)
        with pytest.raises(KeyboardInterrupt):
            train(job, callbacks=[first])
    assert first.named("exception") == ["KeyboardInterrupt"]
    assert first.named("epoch") == [0, 1], "epoch 1 wrote its line, but no checkpoint"
    second = Recorder()
    train(job, callbacks=[second])
    assert second.events[0] == ("begin", True)
    assert second.named("epoch") == [1, 2]


def test_a_failed_look_at_the_files_is_made_up_for(job: JobConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder, calls = Recorder(), 0
    real = RunDirectory.metrics

    def sometimes(directory: RunDirectory) -> list[EpochMetrics]:
        nonlocal calls
        if threading.current_thread().name != "follow-run":
            return real(directory)
        calls += 1
        if calls in (1, 2):
            raise StorageError("503") if calls == 1 else CheckpointError("half a line")
        return real(directory)

    monkeypatch.setattr(follow, "POLL_S", 0.05)
    monkeypatch.setattr(RunDirectory, "metrics", sometimes)
    train(job, callbacks=[recorder])
    assert recorder.named("epoch") == [0, 1, 2]
    assert calls > 2


def test_watch_hears_every_epoch(job: JobConfig) -> None:
    seen: list[int] = []
    train(job, watch=lambda metrics: seen.append(metrics.epoch))
    assert seen == [0, 1, 2]


def test_no_callback_reads_no_files(job: JobConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "_Follower", None)
    assert launch.train(job).epochs == 3
