"""Time limits, the rank that failed first, and the cluster that a run joins (`train.launch`, `train.loop`)."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from joyful_ray.corpora.shards import Corpus
from joyful_ray.data.split_rows import SplitRows
from joyful_ray.data.streaming import StreamedSplit
from joyful_ray.errors import CheckpointError, ConfigError, StorageError, TrainingError
from joyful_ray.schema import Manifest
from joyful_ray.storage import open_location
from joyful_ray.train import epoch_checks, loop
from joyful_ray.train.launch import check_gpus, train
from joyful_ray.train.on_ray import connection
from joyful_ray.train.on_ray.connection import HANG_LIMIT, NOTICES, cluster_address, ray_cluster
from joyful_ray.train.on_ray.worker import idle_workers, would_happen_again
from joyful_ray.train.run_directory import RunDirectory
from joyful_ray.train.saving import Saving
from tests.tiny_corpus import small_job

Tiny = Callable[..., str]


class Clock:
    """Replaces `time` in the loop: every epoch takes an hour."""

    epochs = 0

    def time(self) -> float:
        return time.time() + 3600.0 * self.epochs

    def perf_counter(self) -> float:
        return 3600.0 * self.epochs


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    add = RunDirectory.add_metrics

    def and_tick(directory: RunDirectory, metrics: object) -> None:
        add(directory, metrics)  # type: ignore[arg-type]
        found.epochs += 1

    monkeypatch.setattr(RunDirectory, "add_metrics", and_tick)
    monkeypatch.setattr(loop, "time", found)
    monkeypatch.setattr(epoch_checks, "time", found)
    return found


def test_a_run_stops_before_the_epoch_that_would_end_too_late_and_the_same_command_continues(
    tiny: Tiny, tmp_path: Path, clock: Clock
) -> None:
    whole = small_job(corpus=tiny(), storage=str(tmp_path), name="whole", train={"epochs": 5})
    expected = train(whole)
    job = small_job(
        corpus=tiny(), storage=str(tmp_path), name="limited", train={"epochs": 5}, cluster={"max_hours": 3.5}
    )
    clock.epochs = 0
    with pytest.raises(TrainingError, match=r"^stopped after 3 of 5 epochs: .* \(3\.5\); the same command continues"):
        train(job)
    directory = RunDirectory.of(job)
    assert [line.epoch for line in directory.metrics()] == [0, 1, 2]
    assert directory.checkpoint(2).join("progress.json").exists()
    assert directory.read_record() is None
    clock.epochs = 0
    record = train(job)
    assert [line.epoch for line in directory.metrics()] == [0, 1, 2, 3, 4]
    assert record.dev == expected.dev
    assert record.test == expected.test


def test_max_hours_may_differ_when_a_run_continues_but_other_settings_may_not(
    tiny: Tiny, tmp_path: Path, clock: Clock
) -> None:
    settings = {"corpus": tiny(), "storage": str(tmp_path), "name": "run"}
    job = small_job(settings, train={"epochs": 3}, cluster={"max_hours": 1.5})
    with pytest.raises(TrainingError, match="stopped after 1 of 3"):
        train(job)
    with pytest.raises(CheckpointError, match=r"train\.learning_rate"):
        train(small_job(settings, train={"epochs": 3, "learning_rate": 0.5}))
    clock.epochs = 0
    assert train(small_job(settings, train={"epochs": 3})).epochs == 3
    assert job.fingerprint == small_job(settings, train={"epochs": 3}).fingerprint


def test_a_time_limit_that_ends_before_the_first_epoch_says_so(tiny: Tiny, tmp_path: Path) -> None:
    job = small_job(corpus=tiny(), storage=str(tmp_path), cluster={"max_hours": 1e-9})
    with pytest.raises(TrainingError, match="raise it; nothing was trained"):
        train(job)


@pytest.mark.parametrize(
    ("variable", "setting", "expected"),
    [
        (None, None, None),
        ("10.0.0.1:6379", None, "10.0.0.1:6379"),
        ("auto", None, "auto"),
        ("http://127.0.0.1:8265", None, None),
        ("local", None, None),
        ("10.0.0.1:6379", "10.0.0.2:6379", "10.0.0.2:6379"),
    ],
)
def test_a_run_joins_the_cluster_that_it_runs_on(
    variable: str | None, setting: str | None, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if variable is not None:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    assert cluster_address(small_job(cluster={"address": setting})) == expected


@pytest.mark.parametrize(
    ("gpus", "message"),
    [(0.5, "NCCL refuses two workers on one GPU"), (2, "the others idle"), (1.5, "the others idle")],
)
def test_each_worker_has_one_whole_gpu_or_none(gpus: float, message: str, tiny: Tiny, tmp_path: Path) -> None:
    check_gpus(0, "cluster.gpus_per_worker")
    check_gpus(1, "cluster.gpus_per_worker")
    job = small_job(corpus=tiny(), storage=str(tmp_path), cluster={"workers": 2, "gpus_per_worker": gpus})
    with pytest.raises(
        ConfigError, match=rf"cluster\.gpus_per_worker gives {gpus:g} GPUs to each worker, but .*{message}"
    ):
        train(job)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("variable", [None, "RAY_ADDRESS"])
def test_an_address_of_ray_client_is_refused_before_anything_starts(
    variable: str | None, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = "ray://head:10001" if variable is None else None
    job = small_job(corpus=tiny(), storage=str(tmp_path), cluster={"workers": 1, "address": address})
    if variable is not None:
        monkeypatch.setenv(variable, "ray://head:10001")
    with pytest.raises(ConfigError, match=rf"^{variable or 'cluster.address'} is ray://head:10001, .*joyful submit"):
        train(job)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "printed", "kind", "message"),
    [
        (ValueError("AF_UNIX path length cannot exceed 107 bytes: /tmp/long"), "", ConfigError, "set RAY_TMPDIR to a"),
        (FileNotFoundError(2, "No such file or directory", "/none"), "", ConfigError, "joyful doctor checks it"),
        (Exception("The current node timed out"), "", TrainingError, "joyful doctor checks it"),
    ],
)
def test_why_ray_does_not_start_here(
    error: Exception, printed: str, kind: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(**settings: Any) -> None:
        raise error

    monkeypatch.setattr("ray.init", fails)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with pytest.raises(kind, match=f"^Ray does not start on this machine: .*{message}"), ray_cluster(small_job()):
        pass


def test_a_refused_token_is_said_in_one_line_without_what_ray_prints(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuses(**settings: Any) -> None:
        os.write(2, b"gcs_client.cc:210: Unauthenticated: RPC error: InvalidAuthToken\n" * 20)
        raise ConnectionError("Failed to connect to Ray cluster")

    monkeypatch.setattr("ray.init", refuses)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    job = small_job(cluster={"address": "auto"})
    with (
        pytest.raises(ConfigError, match=r"^cannot join the Ray cluster at auto: it refuses the token; set RAY_AUTH_"),
        ray_cluster(job),
    ):
        pass
    assert "gcs_client" not in capfd.readouterr().err
    os.write(2, b"seen\n")
    assert capfd.readouterr().err == "seen\n"


def test_a_cluster_that_does_not_answer_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        with (
            pytest.raises(ConfigError, match=rf"cannot join the Ray cluster at {address}: .*refused"),
            ray_cluster(small_job(cluster={"address": address})),
        ):
            pass


def test_ray_that_does_not_start_ends_the_command_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def times_out(**settings: Any) -> None:
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr("ray.init", times_out)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with (
        pytest.raises(TrainingError, match="Ray does not start on this machine: The current node timed out"),
        ray_cluster(small_job()),
    ):
        pass


def test_all_ranks_stop_together(tiny: Tiny) -> None:
    """The first rank's clock decides: a rank whose clock disagrees stops or continues with the first."""
    asked: list[float] = []

    class Others:
        is_first = False
        device = torch.device("cpu")

        def all_reduce(self, value: torch.Tensor) -> torch.Tensor:
            asked.append(float(value))
            return value + 1.0  # what the first rank says

    class RunSpec:
        job = small_job(cluster={"max_hours": 1000.0})
        train = job.train
        started = time.time()

    with pytest.raises(TrainingError, match="stopped after"):
        epoch_checks.check_time(
            RunSpec(),  # type: ignore[arg-type]
            Others(),  # type: ignore[arg-type]
            loop.Progress(next_epoch=2),
            Saving(RunDirectory.of(RunSpec.job), RunSpec.train, is_first=False),
            longest_s=0.0,
        )
    assert asked == [0.0]


def test_an_outage_of_storage_is_tried_again_and_other_errors_of_a_run_are_not() -> None:
    assert not would_happen_again(StorageError("cannot write"))
    assert not would_happen_again(RuntimeError("connection closed by peer"))
    assert would_happen_again(TrainingError("not finite"))
    assert would_happen_again(ConfigError("no such setting"))


def test_the_limit_of_a_hang_is_that_of_the_job_and_no_longer_than_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 8.0})
    monkeypatch.delenv(HANG_LIMIT, raising=False)
    for seconds in (15.0, 30.0):
        with ray_cluster(small_job(cluster={"workers": 1, "collective_timeout_s": seconds})):
            assert os.environ[HANG_LIMIT] == str(seconds)
        assert HANG_LIMIT not in os.environ
    monkeypatch.setenv(HANG_LIMIT, "7")
    with ray_cluster(small_job(cluster={"workers": 1, "collective_timeout_s": 30.0})):
        assert os.environ[HANG_LIMIT] == "7"
    assert os.environ[HANG_LIMIT] == "7"


def test_only_a_cluster_is_asked_whether_a_machine_is_about_to_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.shutdown", lambda: None)
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 8.0})
    monkeypatch.setattr(connection, "_init", lambda address, **settings: None)
    monkeypatch.delenv(NOTICES, raising=False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for address, expected in ((None, "0"), ("10.0.0.1:6379", None)):
        with ray_cluster(small_job(cluster={"workers": 1, "address": address})):
            assert os.environ.get(NOTICES) == expected
        assert NOTICES not in os.environ


@pytest.mark.parametrize(
    ("workers", "expected"),
    [(32, []), (40, ["8 of 40 workers are idle, because streaming ingest divides a split into"])],
)
def test_workers_beyond_the_parts_of_a_streamed_split_are_idle(workers: int, expected: list[str]) -> None:
    job = small_job(
        objective={"negatives": "conversation"}, train={"batch_conversations": 200}, cluster={"workers": workers}
    )
    corpus = Corpus(Manifest(name="any", task="regression", modalities={}, splits={}), open_location("corpora/any"))
    streamed = {"train": StreamedSplit(SplitRows("train", corpus, (), ()))}
    found = idle_workers(job, SimpleNamespace(conversations=1000), streamed)  # type: ignore[arg-type]
    assert len(found) == len(expected)
    assert all(line.startswith(start) for line, start in zip(found, expected, strict=True))
