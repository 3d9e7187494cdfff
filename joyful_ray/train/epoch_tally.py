"""Adds up what the steps of an epoch give, and continues from what an earlier command had added."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from joyful_ray.data.loader import Work
from joyful_ray.records import RankTimes
from joyful_ray.train.process_group import ProcessGroup
from joyful_ray.train.rank_times import gather_times
from joyful_ray.train.schedule import PartialEpoch
from joyful_ray.train.step import StepResult

SEEN_MODULUS = 2**48
"""The sum of keys is taken modulo this number: sums over thousands of ranks fit 64 bits, and JSON keeps it exact."""


class EpochTally:
    """The sums of one epoch on one rank.

    Args:
        names: the terms of the objective.
        process_group: the ranks that train together.
        before: what the epoch had come to when the run was saved.

    Attributes:
        waited, diagnostics: of this rank; see `PartialEpoch`.
    """

    def __init__(self, names: Sequence[str], process_group: ProcessGroup, before: PartialEpoch) -> None:
        self.waited = 0.0
        self._conversations, self._utterances, self._seen = 0, 0, 0
        self.diagnostics = dict(before.diagnostics)
        self._names, self._process_group, self._before = list(names), process_group, before
        self._began, self._norms = time.perf_counter(), 0.0
        self._steps, self._forward_s = 0, 0.0
        self._totals = torch.zeros(2, len(names), dtype=torch.float64, device=process_group.device)

    def add(self, work: Work, result: StepResult) -> None:
        """Add a step, and what this rank has trained on in it."""
        for _, batch in work:
            self._conversations += len(batch.conversation_ids)
            self._utterances += batch.utterances
            keys = [] if batch.keys_C is None else batch.keys_C.tolist()
            self._seen = (self._seen + sum(keys)) % SEEN_MODULUS
        self._totals[0] += torch.stack([result.sums[name].double() for name in self._names])
        self._totals[1] += torch.stack([result.counts[name].double() for name in self._names])
        self._norms += result.gradient_norm
        self._steps += 1
        self._forward_s += result.forward_s

    def ranks(self) -> list[RankTimes]:
        """The times of every rank; every rank must call it."""
        return gather_times(
            self._process_group,
            forward_s=self._forward_s,
            waited_s=self.waited,
            utterances=self._utterances,
            steps=self._steps,
        )

    def so_far(self, *, step: int) -> PartialEpoch:
        """What the epoch has come to, over all ranks; every rank must call it.

        Args:
            step: number of steps of the epoch that have been trained.
        """
        group, before = self._process_group, self._before
        sums = group.all_reduce(self._totals[0].clone()).tolist()
        mine = torch.tensor([self._conversations, self._seen], device=self._totals.device)
        conversations, seen = group.all_reduce(mine).tolist()
        named = dict(zip(self._names, sums, strict=True))
        counts = dict(zip(self._names, self._totals[1].tolist(), strict=True))
        return PartialEpoch(
            step=step,
            sums={name: before.sums.get(name, 0.0) + value for name, value in named.items()},
            counts={name: before.counts.get(name, 0.0) + value for name, value in counts.items()},
            conversations=before.conversations + conversations,
            seen=(before.seen + seen) % SEEN_MODULUS,
            seconds=before.seconds + time.perf_counter() - self._began,
            waited=before.waited + self.waited,
            gradient_norm=before.gradient_norm + self._norms,
            diagnostics=self.diagnostics,
        )
