"""What a step costs each rank, and which rank is slow."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from joyful_ray.console.progress import TrainingDisplay
from joyful_ray.records import EpochMetrics, RankTimes
from joyful_ray.train import loop
from joyful_ray.train.launch import train
from joyful_ray.train.process_group import ProcessGroup
from joyful_ray.train.rank_times import Stopwatch, gather_times, slow_ranks
from tests.narrow_screen import lines_of, narrow_screen
from tests.ranks import on_ranks
from tests.tiny_corpus import small_job, tiny_conversation, write_tiny


def times(*seconds: float, utterances: tuple[int, ...] = (), waiting: tuple[float, ...] = ()) -> list[RankTimes]:
    return [
        RankTimes(
            rank=rank,
            host=f"machine-{rank}",
            forward_seconds=each,
            waiting_seconds=waiting[rank] if waiting else 0.0,
            utterances=utterances[rank] if utterances else 100,
        )
        for rank, each in enumerate(seconds)
    ]


def test_a_rank_that_computes_longer_than_the_others_is_named_with_its_machine() -> None:
    found = slow_ranks(times(0.1, 0.1, 0.19, 0.11), steps=100)
    assert found == {
        2: "rank 2 on machine-2 computes 0.19 s a step, 1.9 times as long as the others, which wait for it"
    }


def test_a_rank_that_waits_for_data_is_named_too() -> None:
    (line,) = slow_ranks(times(0.1, 0.1, waiting=(0.0, 0.4)), steps=100).values()
    assert line.startswith("rank 1 on machine-1 waits for data 0.5 s a step, 5.0 times")


@pytest.mark.parametrize(
    "ranks",
    [
        times(0.1, 0.149, 0.1),  # less than 1.5 times
        times(0.1, 0.2, utterances=(100, 200)),  # it has twice the work
        times(0.1, 0.2, utterances=(0, 100)),  # nobody to compare with
        times(0.1),
        [],
        times(0.0001, 0.0009),  # noise: less than a second in 100 steps
    ],
    ids=["less", "more work", "idle others", "alone", "none", "noise"],
)
def test_nothing_is_said_without_reason(ranks: list[RankTimes]) -> None:
    assert slow_ranks(ranks, steps=100) == {}


def test_a_stopwatch_adds_up_its_blocks_and_nothing_between_them() -> None:
    watch = Stopwatch(torch.device("cpu"))
    for _ in range(2):
        with watch.measuring():
            time.sleep(0.02)
        time.sleep(0.2)
    assert 0.04 <= watch.seconds() < 0.2


def _gathered(group: ProcessGroup) -> list[RankTimes]:
    return gather_times(group, forward_s=float(group.rank), waited_s=1.0, utterances=group.rank, steps=2)


@pytest.mark.slow
def test_every_rank_has_the_times_of_all(tmp_path: Path) -> None:
    for found in on_ranks(_gathered, 2, tmp_path):
        times_of = [(each.rank, each.forward_seconds, each.waiting_seconds) for each in found]
        assert times_of == [(0, 0.0, 0.5), (1, 0.5, 0.5)]
        assert all(each.host for each in found)


def test_a_slow_rank_is_said_once_and_the_record_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "slow_ranks", lambda ranks, *, steps: {ranks[0].rank: f"slow in {steps} steps"})
    job = small_job({"corpus": write_tiny(tmp_path / "corpus"), "storage": str(tmp_path)})
    seen: list[EpochMetrics] = []
    record = train(job, watch=seen.append)
    assert [each.warnings for each in seen] == [["slow in 4 steps"], [], []]
    assert "slow in 4 steps" in record.warnings
    screen = narrow_screen()
    with TrainingDisplay(screen, epochs=3) as display:
        display.epoch(seen[0])
    assert lines_of(screen)[-1] == "warning: slow in 4 steps"


def test_the_times_of_a_run_are_those_of_its_steps(tmp_path: Path) -> None:
    job = small_job({"corpus": write_tiny(tmp_path / "corpus"), "storage": str(tmp_path)})
    seen: list[EpochMetrics] = []
    record = train(job, watch=seen.append)
    for line in seen:
        (mine,) = line.ranks
        assert 0 < 4 * (mine.forward_seconds + mine.waiting_seconds) < line.train_seconds
        assert mine.utterances == sum(tiny_conversation(f"train-{k:03d}").features["text"].shape[0] for k in range(23))
    assert not [warning for warning in record.warnings if "rank" in warning]
