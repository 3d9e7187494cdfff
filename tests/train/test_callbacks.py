"""Callbacks: which events come, in which order, what an error does, and what a resumed run reports."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from joyful_ray.cli import main
from joyful_ray.config import JobConfig, to_yaml
from joyful_ray.errors import CheckpointError, ConfigError, StorageError, TrainingError
from joyful_ray.records import EpochMetrics, RunRecord
from joyful_ray.train import follow, launch
from joyful_ray.train.callbacks import Callback, RunInfo, load_callback
from joyful_ray.train.checkpoint import complete_checkpoints
from joyful_ray.train.launch import train
from joyful_ray.train.run_directory import RunDirectory
from joyful_ray.train.saving import Saving
from joyful_ray.train.seeds import train_seeds
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


def test_events_come_in_order_and_the_last_checkpoint_is_reported(job: JobConfig) -> None:
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


class Refuses(Callback):
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def on_train_begin(self, run: RunInfo) -> None:
        raise self.error


def test_an_error_before_training_stops_the_command_and_names_the_callback(job: JobConfig) -> None:
    before, after = Recorder(), Recorder()
    with pytest.raises(
        TrainingError, match=r"^callback Refuses.on_train_begin failed: ValueError: not today$"
    ) as found:
        train(job, callbacks=[before, Refuses(ValueError("not today")), after])
    assert isinstance(found.value.__cause__, ValueError)
    assert not RunDirectory.of(job).metrics()
    assert before.events == [("begin", False), ("exception", "ValueError")], "it can close what it opened"
    assert not after.events


def test_a_callback_of_another_class_is_refused(job: JobConfig) -> None:
    with pytest.raises(ConfigError, match=r"callback <built-in function len> is not an instance of joyful_ray.Callb"):
        train(job, callbacks=[len])  # type: ignore[list-item]
    assert not RunDirectory.of(job).metrics()


@pytest.mark.parametrize("error", [ConfigError("no such experiment"), KeyboardInterrupt()])
def test_errors_of_the_user_and_ctrl_c_pass_through_the_first_event(job: JobConfig, error: BaseException) -> None:
    with pytest.raises(type(error)):
        train(job, callbacks=[Refuses(error)])


def test_a_callback_that_exits_does_not_end_the_run_silently(job: JobConfig) -> None:
    class Exits(Callback):
        def on_epoch_end(self, run: RunInfo, metrics: EpochMetrics) -> None:
            raise SystemExit("enough")

    with pytest.raises(TrainingError, match=r"callback Exits.on_epoch_end failed: SystemExit: enough; the run is comp"):
        train(job, callbacks=[Exits()])


def test_a_damaged_checkpoint_is_named_by_the_run_as_without_callbacks(job: JobConfig) -> None:
    train(job)
    directory = RunDirectory.of(job)
    directory.location.join("record.json").remove()
    for place in list(complete_checkpoints(directory.checkpoints)):
        place.join("progress.json").write_text("")
    recorder = Recorder()
    with pytest.raises(CheckpointError, match="no earlier checkpoint is left"):
        train(job, callbacks=[recorder])
    assert recorder.named("exception") == ["CheckpointError"]


def test_epochs_that_cannot_be_read_at_the_end_are_not_dropped_silently(
    job: JobConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = RunDirectory.metrics

    def fails(directory: RunDirectory) -> list[EpochMetrics]:
        if threading.current_thread().name == "follow-run":
            raise StorageError("503 from the bucket")
        return real(directory)

    monkeypatch.setattr(follow, "POLL_S", 0.05)
    monkeypatch.setattr(RunDirectory, "metrics", fails)
    with pytest.raises(
        TrainingError, match="callbacks may have missed the last epochs: 503 from the bucket; the run is"
    ):
        train(job, callbacks=[Recorder()])
    assert RunDirectory.of(job).read_record() is not None


# Named by import path


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module in the working directory; its name is new to each test, since Python imports a module once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))  # the working directory is added to it
    name = f"tracker_{abs(hash(str(tmp_path)))}"
    Path(f"{name}.py").write_text(
        "import joyful_ray\n"
        "class Notes(joyful_ray.Callback):\n"
        "    def on_epoch_end(self, run, metrics):\n"
        "        open('notes.txt', 'a').write(f'{run.name} {metrics.epoch + 1}\\n')\n"
        "class NeedsMore(joyful_ray.Callback):\n"
        "    def __init__(self, address): pass\n"
        "class Other: pass\n"
    )
    return name


def test_a_callback_is_named_on_the_command_line(job: JobConfig, module: str, tmp_path: Path) -> None:
    Path("job.yaml").write_text(to_yaml(job))
    assert main(["train", "job.yaml", "--callback", f"{module}:Notes", "--seeds", "0", "1"]) == 0
    expected = [f"tiny-seed-{seed} {epoch}" for seed in (0, 1) for epoch in (1, 2, 3)]
    assert (tmp_path / "notes.txt").read_text().splitlines() == expected


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("Notes", r"--callback 'Notes' is not of the form my_package.module:Class"),
        ("no_such_module:Notes", "cannot import no_such_module"),
        ("{module}:Note", r"has no Note; did you mean Notes\?"),
        ("{module}:NeedsMore", r"needs arguments \(.*address.*\); derive a class that needs none"),
        ("{module}:Other", r"Other does not derive from joyful_ray.Callback"),
    ],
)
def test_a_callback_that_cannot_be_used_is_refused(module: str, path: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_callback(path.format(module=module))


def test_several_runs_at_a_time_cannot_have_callbacks(job: JobConfig) -> None:
    with pytest.raises(ConfigError, match="callbacks need one run at a time"):
        train_seeds(job, [0, 1], parallel=2, callbacks=[Recorder()])


def test_a_resumed_run_reports_only_its_own_epochs(job: JobConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Recorder()
    real = Saving.write

    def stops(saving: Saving, snapshot: Any, progress: Any, *, step: int) -> None:
        if progress.next_epoch == 2:
            raise KeyboardInterrupt
        real(saving, snapshot, progress, step=step)

    with monkeypatch.context() as patched:
        patched.setattr(Saving, "write", stops)
        with pytest.raises(KeyboardInterrupt):
            train(job, callbacks=[first])
    assert first.named("exception") == ["KeyboardInterrupt"]
    assert first.named("epoch") == [0, 1], "epoch 1 wrote its line, but no checkpoint"
    second = Recorder()
    train(job, callbacks=[second])
    assert second.events[0] == ("begin", True)
    assert second.named("epoch") == [1, 2]


def test_a_failed_poll_is_made_up_for_by_the_next(job: JobConfig, monkeypatch: pytest.MonkeyPatch) -> None:
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
