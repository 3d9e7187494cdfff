"""Checkpoints: a run that is ended anywhere continues from the last one, with the same numbers."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from joyful_ray import termination
from joyful_ray.config import JobConfig
from joyful_ray.corpora.shards import open_corpus
from joyful_ray.data.loader import ResidentLoader
from joyful_ray.data.prepare import prepare_here
from joyful_ray.errors import StorageError
from joyful_ray.storage import Location
from joyful_ray.termination import Stopped
from joyful_ray.train import saving as saving_module
from joyful_ray.train import trainer as training
from joyful_ray.train.checkpoint import latest_checkpoint
from joyful_ray.train.launch import train
from joyful_ray.train.loop import run
from joyful_ray.train.loop_spec import RunSpec
from joyful_ray.train.on_ray.trainer import saved_place
from joyful_ray.train.process_group import ProcessGroup
from joyful_ray.train.run_directory import RunDirectory
from joyful_ray.train.saving import Saving
from joyful_ray.train.schedule import PartialEpoch, Progress
from joyful_ray.train.step import NO_WISHES, Wishes
from tests.tiny_corpus import small_job
from tests.train.test_loop import Crash, Tiny, assert_same_run, job

STEPS = 4
"""Steps of an epoch of the tiny corpus."""
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "weight averaging": {"train": {"ema_decay": 0.9}},
    "two phases": {"train": {"stages": "two-phase", "fusion_epochs": 1}},
    "batch normalisation": {"model": {"encoder": {"normalisation": "batch"}}},
    "another adam, plateau": {"train": {"optimizer": "adam", "schedule": "plateau"}},
}


def ending_after(steps: int, monkeypatch: pytest.MonkeyPatch, *, error: BaseException | None = None) -> None:
    """The process ends in the step after so many ones."""
    whole, calls = training.train_step, []

    def step(*args: Any, **settings: Any) -> Any:
        calls.append(None)
        if len(calls) == steps + 1:
            raise error or Crash
        return whole(*args, **settings)

    monkeypatch.setattr(training, "train_step", step)


def places(directory: RunDirectory) -> list[str]:
    return sorted(name for name in directory.checkpoints.list() if name[0].isdigit())


def resumed(whole: JobConfig, storage: Path, steps: int, **train_settings: Any) -> tuple[RunDirectory, JobConfig]:
    """The run, ended in the step after so many ones, and not yet continued."""
    part = whole.model_copy(update={"storage": str(storage), "train": whole.train.model_copy(update=train_settings)})
    with pytest.MonkeyPatch.context() as patch:
        ending_after(steps, patch)
        with pytest.raises(Crash):
            train(part)
    return RunDirectory.of(part), part


@pytest.fixture(scope="module")
def wholes(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], JobConfig]:
    """Uninterrupted runs without checkpoints in mid-epoch, by variant."""
    made: dict[str, JobConfig] = {}

    def whole(name: str) -> JobConfig:
        if name not in made:
            made[name] = job(tiny(), tmp_path_factory.mktemp("whole"), VARIANTS[name], name="run")
            train(made[name])
        return made[name]

    return whole


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 7, 10])
@pytest.mark.parametrize("name", VARIANTS)
def test_a_run_continues_in_mid_epoch_with_the_same_numbers(
    wholes: Callable[[str], JobConfig], tmp_path: Path, name: str, steps: int
) -> None:
    directory, part = resumed(wholes(name), tmp_path, steps, checkpoint_every_steps=1)
    newest = places(directory)[-1]
    expected = f"{steps // STEPS:05d}-{steps % STEPS:06d}"
    # The step before the crash may still have been on its way to the disk.
    assert newest in (expected, f"{steps // STEPS:05d}-{steps % STEPS - 1:06d}", f"{steps // STEPS - 1:05d}")
    train(part)
    assert_same_run(directory, RunDirectory.of(wholes(name)))
    record = directory.read_record()
    assert record is not None
    assert (record.resumes, record.repeated_steps <= 1) == (1, True)
    assert not [name for name in places(directory) if "-" in name], "only whole epochs are left"


@pytest.mark.parametrize(
    ("every", "steps", "expected"), [(2, 3, "00000-000002"), (3, 7, "00001-000003"), (3, 3, "00000-000003")]
)
def test_a_checkpoint_comes_after_so_many_steps_counted_from_the_last(
    wholes: Callable[[str], JobConfig], tmp_path: Path, every: int, steps: int, expected: str
) -> None:
    # The end of an epoch is a checkpoint too: with every 3, they come after steps 3, 4 (the epoch), 7 and 8.
    directory, _ = resumed(wholes("plain"), tmp_path, steps, checkpoint_every_steps=every)
    assert [name for name in places(directory) if "-" in name] == [expected]


def test_a_checkpoint_comes_after_so_many_minutes(wholes: Callable[[str], JobConfig], tmp_path: Path) -> None:
    directory, part = resumed(wholes("plain"), tmp_path, 3, checkpoint_every_minutes=1e-9)
    assert "-" in places(directory)[-1]
    train(part)
    assert_same_run(directory, RunDirectory.of(wholes("plain")))


def test_without_the_settings_an_epoch_is_repeated(wholes: Callable[[str], JobConfig], tmp_path: Path) -> None:
    directory, part = resumed(wholes("plain"), tmp_path, 7)
    assert places(directory) == ["00000"]
    directory.note_steps(7)
    train(part)
    record = directory.read_record()
    assert record is not None
    assert (record.resumes, record.repeated_steps) == (1, 3)
    assert_same_run(directory, RunDirectory.of(wholes("plain")))


def test_how_often_a_run_is_saved_is_no_other_run(wholes: Callable[[str], JobConfig], tmp_path: Path) -> None:
    directory, part = resumed(wholes("plain"), tmp_path, 3, checkpoint_every_steps=1)
    other = part.model_copy(update={"train": part.train.model_copy(update={"checkpoint_every_steps": 2})})
    assert other.fingerprint == part.fingerprint
    train(other)
    assert_same_run(directory, RunDirectory.of(wholes("plain")))


def test_sigterm_saves_in_mid_epoch_and_the_run_continues(
    wholes: Callable[[str], JobConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = wholes("plain")
    part = whole.model_copy(update={"storage": str(tmp_path)})
    step, calls = training.train_step, []

    def terminated(*args: Any, **settings: Any) -> Any:
        calls.append(None)
        if len(calls) == 6:
            signal.raise_signal(signal.SIGTERM)
        return step(*args, **settings)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(termination, "_received", threading.Event())
    monkeypatch.setattr(termination, "_last_words", [])
    monkeypatch.setattr(training, "train_step", terminated)
    try:
        termination.stop_on_sigterm()
        # The step in which the signal comes has asked before it; the one after it saves.
        with pytest.raises(Stopped, match=r"epoch 2, step 3 of 4"):
            train(part)
        assert termination.exit_status() == 143
        assert "stopped at epoch 2, step 3 of 4, and saved" in termination.last_line("nothing")
    finally:
        signal.signal(signal.SIGTERM, before)
    monkeypatch.setattr(training, "train_step", step)
    train(part)
    assert_same_run(RunDirectory.of(part), RunDirectory.of(whole))
    record = RunDirectory.of(part).read_record()
    assert record is not None
    assert record.repeated_steps == 0


def test_sigterm_in_the_last_epoch_stops_before_test_is_read(
    wholes: Callable[[str], JobConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = wholes("plain")
    part = whole.model_copy(update={"storage": str(tmp_path)})
    with monkeypatch.context() as patch:
        patch.setattr(Saving, "shall_stop", property(lambda saving: saving._last_steps == 3 * STEPS))
        with pytest.raises(Stopped, match="the end of epoch 3"):
            train(part)
    directory = RunDirectory.of(part)
    assert directory.read_record() is None
    train(part)
    assert_same_run(directory, RunDirectory.of(whole))


def test_a_second_sigterm_does_not_wait() -> None:
    before = signal.getsignal(signal.SIGTERM)

    def twice() -> None:
        with termination.stopping_softly() as came:
            signal.raise_signal(signal.SIGTERM)
            assert came()
            signal.raise_signal(signal.SIGTERM)

    try:
        termination.stop_on_sigterm()
        with pytest.raises(KeyboardInterrupt):
            twice()
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    return RunDirectory.of(small_job(storage=str(tmp_path)), "run")


def test_a_request_of_another_process_stops_a_run(directory: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving_module, "BEAT_S", 0.01)
    saving = Saving(directory, small_job().train, is_first=True, looks_for_request=True)
    assert saving.wishes(0) == NO_WISHES
    directory.request_stop()
    deadline = time.monotonic() + 10
    while not saving.shall_stop:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert saving.wishes(0) == Wishes(saves=True, stops=True)
    saving.close()


def test_a_notice_is_asked_for_now_and_then_and_answered_once(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving_module, "ASK_S", 0.05)
    saving = Saving(directory, small_job().train, is_first=True, ask=lambda: True)
    assert not saving.wishes(0).asks
    time.sleep(0.06)
    assert [saving.wishes(step).asks for step in (1, 2)] == [True, False]
    assert [saving.is_noticed() for _ in range(2)] == [True, False]
    saving.close()
    other = Saving(directory, small_job().train, is_first=False, ask=lambda: True)
    assert other.wishes(5) == NO_WISHES, "the first rank decides"
    assert other.is_noticed()


def test_a_checkpoint_that_cannot_be_written_fails_the_run(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr(saving_module, "write_checkpoint", full)
    saving = Saving(directory, small_job().train, is_first=True)
    saving.write({}, Progress(partial=PartialEpoch(2)), step=2)
    with pytest.raises(StorageError, match="the disk is full"):
        saving.wait()
    saving.close()


def test_training_goes_on_while_a_checkpoint_is_written(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end = threading.Event()
    monkeypatch.setattr(saving_module, "write_checkpoint", lambda *args: may_end.wait(20))
    saving = Saving(directory, small_job().train, is_first=True)
    began = time.monotonic()
    saving.write({}, Progress(partial=PartialEpoch(2)), step=2)
    assert time.monotonic() - began < 0.5
    may_end.set()
    saving.wait()
    saving.close()


def test_the_next_epoch_begins_while_a_checkpoint_is_written(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, write, steps, in_second_epoch = training.train_step, saving_module.write_checkpoint, [], threading.Event()

    def counted(*args: Any, **settings: Any) -> Any:
        steps.append(None)
        if len(steps) > STEPS:
            in_second_epoch.set()
        return step(*args, **settings)

    def waiting(*args: Any) -> None:
        assert in_second_epoch.wait(60)
        write(*args)

    monkeypatch.setattr(training, "train_step", counted)
    monkeypatch.setattr(saving_module, "write_checkpoint", waiting)
    train(job(tiny(), tmp_path))


def test_a_run_whose_last_checkpoint_is_not_written_fails_and_continues(
    wholes: Callable[[str], JobConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = wholes("plain")
    part = whole.model_copy(update={"storage": str(tmp_path)})
    write = saving_module.write_checkpoint

    def full(place: Location, *args: Any) -> None:
        if place.name == "00002":
            raise StorageError("the disk is full")
        write(place, *args)

    with monkeypatch.context() as patch:
        patch.setattr(saving_module, "write_checkpoint", full)
        with pytest.raises(StorageError, match="the disk is full"):
            train(part)
    assert RunDirectory.of(part).read_record() is None
    train(part)
    assert_same_run(RunDirectory.of(part), RunDirectory.of(whole))


def test_a_trial_reports_an_epoch_once_its_checkpoint_is_written(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = saving_module.write_checkpoint

    def slow(*args: Any) -> None:
        time.sleep(0.2)
        write(*args)

    monkeypatch.setattr(saving_module, "write_checkpoint", slow)
    resolved = job(tiny(), tmp_path)
    directory, seen = RunDirectory.of(resolved, "trial"), list[str | None]()
    corpus_info, stores = prepare_here(open_corpus(str(resolved.corpus)), resolved)
    sources = {split: partial(ResidentLoader.of, resolved, store) for split, store in stores.items()}

    def report(numbers: Mapping[str, float]) -> None:
        newest = latest_checkpoint(directory.checkpoints)
        seen.append(newest and newest.name)

    spec = RunSpec(resolved, corpus_info, sources, directory, 0, time.time(), is_trial=True)
    run(spec, ProcessGroup(report=report))
    assert seen == ["00000", "00001", "00002"]


def test_how_far_a_run_is_is_noted(directory: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving_module, "BEAT_S", 0.01)
    saving = Saving(directory, small_job().train, is_first=True)
    saving.wishes(17)
    deadline = time.monotonic() + 10
    while directory.noted_steps() != 17:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    saving.close()
    directory.checkpoints.join("position.json").write_text("{")
    assert saving_module.steps_repeated(directory, Progress(), steps_per_epoch=4) == 0
    directory.checkpoints.join("position.json").write_text(json.dumps({"steps": 9}))
    assert saving_module.steps_repeated(directory, Progress(next_epoch=1), steps_per_epoch=4) == 5


def test_workers_are_asked_to_save_and_waited_for(directory: RunDirectory) -> None:
    def answer() -> None:
        while not directory.stop_is_requested():
            time.sleep(0.01)
        directory.write_stopped("epoch 3, step 1 of 4")

    worker = threading.Thread(target=answer)
    marker = directory.location.join("started")
    assert saved_place(directory, marker) is None, "workers that have not started cannot answer"
    marker.write_text("")
    worker.start()
    assert saved_place(directory, marker) == "epoch 3, step 1 of 4"
    worker.join()
    assert not directory.stop_is_requested()
    assert directory.read_stopped() is None
