"""A job with several seeds: the runs of each, what continues, and the mean and deviation of their scores."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import typer

from joyful_ray.cli import main
from joyful_ray.commands.options import join_seeds, parse_seeds
from joyful_ray.config import JobConfig
from joyful_ray.errors import CheckpointError, ConfigError, TrainingError
from joyful_ray.records import SeedsRecord, read_as
from joyful_ray.records.seeds import spreads
from joyful_ray.termination import Stopped
from joyful_ray.train import loop, run_process
from joyful_ray.train import many as module
from joyful_ray.train.launch import train
from joyful_ray.train.run_directory import RunDirectory
from joyful_ray.train.seeds import train_seeds
from tests.tiny_corpus import small_job


@pytest.fixture
def job(tiny: Callable[..., str], tmp_path: Path) -> JobConfig:
    return small_job(name="tiny", corpus=tiny("single-label"), storage=str(tmp_path / "runs"), train={"epochs": 2})


def modified(job: JobConfig, seed: int) -> float:
    return Path(RunDirectory.of(job, f"tiny-seed-{seed}").location.join("record.json").local_path()).stat().st_mtime


def test_each_seed_gives_the_run_that_it_gives_alone_and_the_record_their_mean(job: JobConfig) -> None:
    record = train_seeds(job, [3, 5])
    alone = [train(job.model_copy(update={"seed": seed}), name=f"alone-{seed}") for seed in (3, 5)]
    for run, expected in zip(record.seeds, alone, strict=True):
        assert run.seed == expected.config["seed"]
        assert run.selected_epoch == expected.selected_epoch
        assert expected.test is not None
        assert {name: run.test[name] for name in expected.test.values} == expected.test.values
        assert run.test["f1/joy"] == expected.test.per_label["joy"]["f1"]
    for name, found in record.test.items():
        values = [run.test[name] for run in record.seeds]
        assert (found.mean, found.deviation) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
        assert found.count == 2
    path = Path(job.storage) / "tiny-seeds.json"
    assert read_as(SeedsRecord, path.read_text(), place=str(path)) == record


def test_the_same_call_continues_and_adds_seeds(job: JobConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def stops(job: JobConfig, **kwargs: Any) -> Any:
        if job.seed == 1:
            raise KeyboardInterrupt
        return train(job, **kwargs)

    monkeypatch.setattr(module, "train", stops)
    with pytest.raises(KeyboardInterrupt):
        train_seeds(job, [0, 1])
    first = modified(job, 0)
    monkeypatch.setattr(module, "train", train)
    lines: list[str] = []
    ended: list[int] = []
    record = train_seeds(job, [0, 1, 2], stage=lines.append, ended=ended.append)
    assert lines == [
        "seed 0: finished before",
        "2 runs to train, 1 at a time",
        "seed 1: finished",
        "seed 2: finished",
    ]
    assert ended == [0, 1, 2]
    assert modified(job, 0) == first
    assert [run.seed for run in record.seeds] == [0, 1, 2]


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_cores", lambda: 4)


def damage_checkpoint(job: JobConfig, seed: int) -> None:
    """Leave a run whose only checkpoint cannot be read."""
    each = job.model_copy(update={"seed": seed})
    directory = RunDirectory.of(each, f"{job.name}-seed-{seed}")

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_select_and_score", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(each, name=directory.location.name)
    directory.checkpoint(1).join("progress.json").write_text("{")


def test_runs_side_by_side_give_the_same_scores_and_those_that_fail_end_no_other(
    job: JobConfig, four_cores: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_by_one = train_seeds(job, [0, 1], name="turn")
    damage_checkpoint(job, 2)
    start = run_process._RunProcess.__init__

    def kill_the_third(self: Any, job: JobConfig, *args: Any) -> None:
        start(self, job, *args)
        if job.seed == 3:
            os.kill(self._process.pid, signal.SIGKILL)

    monkeypatch.setattr(run_process._RunProcess, "__init__", kill_the_third)
    epochs: list[tuple[int, int]] = []
    together = train_seeds(
        job, [0, 2, 3, 1], parallel=2, watch=lambda seed, metrics: epochs.append((seed, metrics.epoch))
    )
    assert [run.test for run in together.seeds] == [run.test for run in one_by_one.seeds]
    assert together.test == one_by_one.test
    assert sorted(epochs) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert list(together.failures) == [2, 3]
    assert "progress.json is damaged" in together.failures[2]
    assert together.failures[3] == (
        "the process of run tiny-seed-3 ended without a result (exit code -9); the same command continues"
    )


def test_an_interrupt_stops_every_process(job: JobConfig, four_cores: None, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    start = run_process._RunProcess.__init__

    def note(self: Any, *args: Any) -> None:
        start(self, *args)
        started.append(self)

    def interrupt(seed: int, metrics: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run_process._RunProcess, "__init__", note)
    endless = job.model_copy(update={"train": job.train.model_copy(update={"epochs": 10**6, "patience": 10**6})})
    with pytest.raises(KeyboardInterrupt):
        train_seeds(endless, [0, 1], parallel=2, watch=interrupt)
    assert len(started) == 2
    assert not any(process._process.is_alive() for process in started)


@pytest.mark.parametrize(
    ("cores", "cpus_per_worker", "parallel", "expected"),
    [(4, 1.0, None, 3), (4, 2.0, None, 2), (1, 1.0, None, 1), (4, 1.0, 2, 2), (2, 1.0, 3, 2), (1, 8.0, 3, 1)],
)
def test_as_many_runs_at_a_time_as_there_are_cores(
    job: JobConfig,
    monkeypatch: pytest.MonkeyPatch,
    cores: int,
    cpus_per_worker: float,
    parallel: int | None,
    expected: int,
) -> None:
    monkeypatch.setattr(module, "_cores", lambda: cores)
    cluster = job.cluster.model_copy(update={"cpus_per_worker": cpus_per_worker})
    with module._room_for(job.model_copy(update={"cluster": cluster}), 3, parallel) as (at_a_time, address):
        assert (at_a_time, address) == (expected, None)


@pytest.mark.ray
@pytest.mark.slow
def test_runs_on_ray_share_one_cluster(job: JobConfig, local_ray: None) -> None:
    without_ray = train_seeds(job, [0, 1], name="without-ray")
    on_ray = job.model_copy(update={"cluster": job.cluster.model_copy(update={"workers": 1})})
    lines: list[str] = []
    record = train_seeds(on_ray, [0, 1], parallel=2, stage=lines.append)
    assert lines[0] == "2 runs to train, 2 at a time"
    assert record.failures == {}
    for mine, expected in zip(record.seeds, without_ray.seeds, strict=True):
        assert mine.selected_epoch == expected.selected_epoch
        assert mine.test == pytest.approx(expected.test, rel=1e-4)


def test_a_seed_that_fails_does_not_stop_the_others(job: JobConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(job: JobConfig, **kwargs: Any) -> Any:
        if job.seed == 0:
            raise TrainingError("the loss is not finite")
        return train(job, **kwargs)

    monkeypatch.setattr(module, "train", fails)
    record = train_seeds(job, [0, 1])
    assert record.failures == {0: "the loss is not finite"}
    assert [run.seed for run in record.seeds] == [1]
    assert record.test["accuracy"].deviation is None
    with pytest.raises(TrainingError, match="no seed finished; seed 0: the loss is not finite"):
        train_seeds(job, [0])


def test_other_settings_under_the_same_name_are_refused_before_any_seed_is_trained(job: JobConfig) -> None:
    train_seeds(job, [1])
    other = job.model_copy(update={"train": job.train.model_copy(update={"learning_rate": 0.5})})
    with pytest.raises(CheckpointError, match=r"tiny-seed-1 was started with other settings \(train.learning_rate"):
        train_seeds(other, [0, 1])
    assert not RunDirectory.of(job, "tiny-seed-0").location.exists()


def test_max_hours_counts_for_all_seeds_together(job: JobConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 10.0, 3700.0])
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(times)))
    limits = []

    def noted(job: JobConfig, **kwargs: Any) -> Any:
        limits.append(job.cluster.max_hours)
        return train(job.model_copy(update={"cluster": job.cluster.model_copy(update={"max_hours": None})}), **kwargs)

    monkeypatch.setattr(module, "train", noted)
    limited = job.model_copy(update={"cluster": job.cluster.model_copy(update={"max_hours": 1.0})})
    record = train_seeds(limited, [0, 1])
    assert limits == [pytest.approx(1.0 - 10 / 3600)]
    assert record.failures == {1: "not trained, because cluster.max_hours is over; the same command continues"}


@pytest.mark.parametrize("seeds", [[], [1, 1]])
def test_no_seed_and_a_repeated_seed_are_refused(job: JobConfig, seeds: list[int]) -> None:
    with pytest.raises(ConfigError, match="each seed once"):
        train_seeds(job, seeds)


def test_only_scores_that_all_seeds_have_are_averaged() -> None:
    assert list(spreads([{"a": 1.0, "b": 2.0}, {"a": 2.0}])) == ["a"]
    assert spreads([]) == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", [0]), ("0,1,2", [0, 1, 2]), ("0 1 2", [0, 1, 2]), ("0-3", [0, 1, 2, 3]), ("7,1-2", [7, 1, 2])],
)
def test_seeds_are_numbers_or_ranges(text: str, expected: list[int]) -> None:
    assert parse_seeds(text) == expected


@pytest.mark.parametrize("text", ["", "a", "1.5", "-1", "1,1", "0-99999"])
def test_other_words_are_refused_as_seeds(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="--seeds"):
        parse_seeds(text)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("train job.yaml --seeds 0 1 2 --name x", "train job.yaml --seeds 0,1,2 --name x"),
        ("train --seeds 0 1 job.yaml", "train --seeds 0,1 job.yaml"),
        ("submit train job.yaml --seeds 0-4 7", "submit train job.yaml --seeds 0-4,7"),
        ("train job.yaml --seeds", "train job.yaml --seeds"),
        ("train job.yaml", "train job.yaml"),
    ],
)
def test_several_words_after_the_option_become_one(given: str, expected: str) -> None:
    assert join_seeds(given.split()) == expected.split()


def test_the_command_prints_mean_and_deviation(
    job: JobConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(job.model_dump_json())
    assert main(["train", str(file), "--seeds", "0", "1", "--parallel", "1", "--json"]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [run["seed"] for run in record["seeds"]] == [0, 1]
    assert main(["train", "--seeds", "0-1", str(file)]) == 0
    printed = capsys.readouterr().out
    assert "seed 1: finished before" in printed
    assert "Mean ± standard deviation over 2 seeds" in printed
    mean = record["test"]["weighted_f1"]
    assert f"{mean['mean']:.4f} ± {mean['deviation']:.4f}" in printed


def test_a_seed_that_fails_ends_the_command_with_status_1_and_its_name(
    job: JobConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(job: JobConfig, **kwargs: Any) -> Any:
        if job.seed == 1:
            raise TrainingError("the loss is not finite")
        return train(job, **kwargs)

    monkeypatch.setattr(module, "train", fails)
    file = tmp_path / "job.yaml"
    file.write_text(job.model_dump_json())
    assert main(["train", str(file), "--seeds", "0-1", "--parallel", "1"]) == 1
    captured = capsys.readouterr()
    assert "Mean ± standard deviation over 1 seed\n" in captured.out
    assert captured.err == "joyful: 1 of 2 seeds did not finish; seed 1: the loss is not finite\n"


def test_parallel_without_seeds_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("name: job\n")
    assert main(["train", str(file), "--parallel", "2"]) == 2
    assert "--parallel needs --seeds" in capsys.readouterr().err


def test_a_run_that_is_stopped_from_outside_ends_its_process_without_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that started it has asked for that, and closes the stream."""
    sent: list[object] = []

    class Sender:
        send = staticmethod(sent.append)

    def stopped(*args: object, **settings: object) -> None:
        raise Stopped("epoch 1, step 2 of 4")

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr(run_process, "train", stopped)
    monkeypatch.setattr(run_process, "_end_with_parent", lambda: None)
    try:
        run_process._train(small_job(), "run", None, True, Sender())  # type: ignore[arg-type]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert sent == []
