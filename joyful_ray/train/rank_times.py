"""What a step costs each rank by itself, so that a slow machine is seen although all ranks wait for it."""

from __future__ import annotations

import socket
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import torch

from joyful_ray.records import RankTimes
from joyful_ray.train.process_group import ProcessGroup

SLOW = 1.5
"""A rank is slow if its steps take so many times as long as those of the others."""
LEAST_S = 1.0
"""Seconds that a slow rank must have lost over the epoch; less is noise."""


class Stopwatch:
    """Adds up how long blocks take on a device, which may work on after the block has ended.

    Args:
        device: where the work of the blocks is done.
    """

    def __init__(self, device: torch.device) -> None:
        self._is_cuda, self._seconds = device.type == "cuda", 0.0
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Measure the block."""
        if self._is_cuda:
            first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            first.record()
            yield
            last.record()
            self._events.append((first, last))
            return
        began = time.perf_counter()
        yield
        self._seconds += time.perf_counter() - began

    def seconds(self) -> float:
        """The time of all blocks; their work must have ended."""
        return self._seconds + sum(first.elapsed_time(last) for first, last in self._events) / 1000


def gather_times(
    process_group: ProcessGroup, *, forward_s: float, waited_s: float, utterances: int, steps: int
) -> list[RankTimes]:
    """The times of all ranks, on every rank.

    Args:
        process_group: the ranks.
        forward_s, waited_s: seconds of this rank's forward passes, and of waiting for data.
        utterances: that this rank has trained on.
        steps: number of steps that these are the sums of.
    """
    mine = RankTimes(
        rank=process_group.rank,
        host=socket.gethostname(),
        forward_seconds=forward_s / max(steps, 1),
        waiting_seconds=waited_s / max(steps, 1),
        utterances=utterances,
    )
    return cast("list[RankTimes]", process_group.all_gather(mine))


def slow_ranks(times: Sequence[RankTimes], *, steps: int) -> dict[int, str]:
    """A line about each rank that is slower than the others, and not because it has more utterances.

    Backward passes are not compared, because in them a rank waits for the others.

    Args:
        times: of all ranks.
        steps: number of steps that they are the means of.
    """
    found = {}
    for mine in times:
        others = [each for each in times if each.rank != mine.rank and each.utterances]
        if not others or not mine.utterances:
            continue
        usual = statistics.median(_step_s(each) for each in others)
        usual_each = statistics.median(_step_s(each) / each.utterances for each in others)
        ratio = _step_s(mine) / max(usual, 1e-9)
        is_slow = ratio >= SLOW and _step_s(mine) / mine.utterances >= SLOW * usual_each
        if is_slow and (_step_s(mine) - usual) * steps >= LEAST_S:
            waits = mine.waiting_seconds > mine.forward_seconds
            why = "waits for data" if waits else "computes"
            found[mine.rank] = (
                f"rank {mine.rank} on {mine.host} {why} {_step_s(mine):.3g} s a step, {ratio:.1f} times as long as the "
                "others, which wait for it"
            )
    return found


def _step_s(times: RankTimes) -> float:
    return times.forward_seconds + times.waiting_seconds
