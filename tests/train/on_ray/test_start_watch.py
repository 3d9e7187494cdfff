"""A run says what it waits for, and gives up after a limit."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from joyful_ray.errors import TrainingError
from joyful_ray.settings import ClusterConfig
from joyful_ray.storage import Location, open_location
from joyful_ray.train.on_ray import start_watch
from joyful_ray.train.on_ray.start_watch import demand, watching_start


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("FIRST_LINE_S", 0.2), ("NEXT_LINES_S", 0.3), ("POLL_S", 0.02)):
        monkeypatch.setattr(start_watch, name, seconds)
    monkeypatch.setattr(start_watch, "supply", lambda: "the cluster has 2 CPU")


@pytest.fixture
def marker(tmp_path: Path) -> Location:
    return open_location(str(tmp_path)).join(".ray", "started")


def wait(cluster: ClusterConfig, marker: Location, *, seconds: float, started: float | None = None) -> list[str]:
    """Wait for workers that do not start; the lines that were said."""
    lines: list[str] = []
    with watching_start(cluster, marker, say=lines.append, started=started or time.time()):
        time.sleep(seconds)
    return lines


def test_the_first_line_comes_soon_and_others_at_a_distance(marker: Location) -> None:
    lines = wait(ClusterConfig(workers=3, gpus_per_worker=1), marker, seconds=0.95)
    assert len(lines) == 3
    assert lines[0].endswith("s for 3 workers with 1 CPU and 1 GPU each; the cluster has 2 CPU")


def test_a_local_start_is_given_more_time(marker: Location) -> None:
    lines: list[str] = []
    with watching_start(ClusterConfig(), marker, say=lines.append, started=time.time(), is_local=True):
        time.sleep(0.25)
        assert lines == []
        time.sleep(0.25)
    assert len(lines) == 1


def test_workers_that_start_end_the_watch_and_nothing_is_said(marker: Location) -> None:
    lines: list[str] = []
    with watching_start(ClusterConfig(start_timeout_s=0.3), marker, say=lines.append, started=time.time()):
        marker.write_text("")
        time.sleep(0.6)
    assert lines == []
    assert not marker.exists()


@pytest.mark.parametrize(
    ("limits", "started", "message"),
    [
        (
            {"start_timeout_s": 0.3},
            0.0,
            r"did not start within cluster\.start_timeout_s, 0\.3 s; the cluster has 2 CPU",
        ),
        ({"max_hours": 1.0}, 3600.0, r"did not start within cluster\.max_hours, 1; the cluster has 2 CPU"),
    ],
)
def test_the_wait_ends_with_its_limit(limits: dict[str, float], started: float, message: str, marker: Location) -> None:
    began = time.monotonic()
    with pytest.raises(TrainingError, match=rf"2 workers with 1 CPU each {message}"):
        wait(ClusterConfig(workers=2, **limits), marker, seconds=30, started=time.time() - started)
    assert time.monotonic() - began < 10


def test_an_error_of_the_run_passes_through(marker: Location) -> None:
    def fail() -> None:
        with watching_start(ClusterConfig(), marker, say=lambda line: None, started=time.time()):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()


def test_the_demand_names_cores_and_gpus() -> None:
    assert demand(ClusterConfig(workers=1, cpus_per_worker=4)) == "1 worker with 4 CPU each"
