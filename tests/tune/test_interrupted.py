"""A search whose driver is killed goes on: the same trials, none lost, no epoch made twice but the one in flight."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from joyful_ray.config import to_yaml
from joyful_ray.records import EpochMetrics
from joyful_ray.tune.ledger import Ledger
from joyful_ray.tune.search_directory import SearchDirectory
from joyful_ray.tune.search_state import SearchState
from joyful_ray.tune.space import Space
from tests.tiny_corpus import write_tiny
from tests.tune.searches import search_job, study_of

pytestmark = [pytest.mark.ray, pytest.mark.slow]
TRIALS, EPOCHS = 3, 4
START_LIMIT_S, END_LIMIT_S = 240, 400


def seconds_of(home: Path) -> dict[tuple[str, int], float]:
    """How long each epoch took, to the last digit: an epoch that is made again takes another time."""
    found = {}
    for place in home.glob("trials/*/metrics.jsonl"):
        for line in place.read_text().splitlines():
            metrics = EpochMetrics.model_validate_json(line)
            found[place.parent.name, metrics.epoch] = metrics.seconds
    return found


def epochs_in(ledger: Ledger) -> int:
    return sum(event.kind == "epoch" for event in ledger.events())


def test_a_killed_driver_loses_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    corpus = write_tiny(tmp_path / "tiny")
    job = search_job(corpus, tmp_path, epochs=EPOCHS, max_trials=TRIALS, max_concurrent=2)
    (tmp_path / "job.yaml").write_text(to_yaml(job))
    command = [sys.executable, "-m", "joyful_ray", "search", str(tmp_path / "job.yaml"), "--name", "killed"]
    home = SearchDirectory.of(job, "killed")
    wanted = random.Random(os.getpid()).randint(1, 8)

    with open(tmp_path / "first.log", "w") as log:
        driver = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + START_LIMIT_S
        while epochs_in(home.ledger) < wanted and time.monotonic() < deadline and driver.poll() is None:
            time.sleep(0.2)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    killed = study_of(job, "killed")
    assert driver.returncode == -signal.SIGKILL, (tmp_path / "first.log").read_text()
    assert sum(len(trial.epochs) for trial in killed.own) >= 1, (tmp_path / "first.log").read_text()
    time.sleep(3.0)  # Ray's processes see that their driver is gone
    before = seconds_of(Path(home.location.path))
    subprocess.run(["rm", "-rf", str(tmp_path / "killed" / ".ray")], check=True)  # Ray's own state is only a cache

    done = subprocess.run(command, capture_output=True, text=True, timeout=END_LIMIT_S, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    state = SearchState.of(home.ledger.events())
    space = Space.of(job)
    expected = {f"{place:04d}": space.draw(place) for place in range(TRIALS)}
    assert {trial.name: trial.settings for trial in state.own} == expected, f"killed after {wanted} epochs"
    assert all(trial.outcome in ("finished", "stopped") for trial in state.own)
    after = seconds_of(Path(home.location.path))
    ended = {trial.name for trial in killed.own if trial.outcome}
    assert all(state.trials[name].starts == killed.trials[name].starts for name in ended), "an ended trial ran again"
    again = [key for key, seconds in before.items() if after.get(key) != seconds]
    in_flight = [trial.name for trial in killed.own if trial.outcome is None]
    assert len(again) <= len(in_flight), f"made again: {again}"
    assert all(key[0] in in_flight for key in again)
    for trial in state.own:
        assert [line.epoch for line in trial.epochs] == list(range(len(trial.epochs)))
        assert all(line.seconds == after[trial.name, line.epoch] for line in trial.epochs), "the ledger tells of it"
    assert "best" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert "ray" not in done.stderr.lower(), "Ray's own words stay out"
