"""How a step is divided among workers, and which of them have nothing to do."""

from __future__ import annotations

import math
from dataclasses import dataclass

from joyful_ray.config import JobConfig
from joyful_ray.data.scope import beyond_conversations
from joyful_ray.wording import counted

MOST_IDLE = 0.1
"""Workers may be idle for this fraction of a step before a run says so."""
ENOUGH_CONVERSATIONS = 2
"""Conversations of a worker with which it is idle for about a tenth of a step; with one it is a sixth to a half
(`tests/bench/steps.py`)."""


@dataclass(frozen=True)
class StepLayout:
    """A step of a run.

    Attributes:
        workers: those that train.
        conversations: of the step.
        micro_batches: fixed parts of the step; None if each conversation is a unit of its own.
        reason: the setting that asks for fixed parts.
    """

    workers: int
    conversations: int
    micro_batches: int | None = None
    reason: str = ""

    @classmethod
    def of(cls, job: JobConfig, conversations: int) -> StepLayout:
        """The layout of a job on a training split of so many conversations."""
        largest = min(job.train.batch_conversations, conversations)
        workers, reasons = max(job.cluster.workers, 1), beyond_conversations(job)
        if not reasons:
            return cls(workers, largest)
        return cls(workers, largest, min(job.train.micro_batches, max(largest, 1)), reasons[0])

    @property
    def units(self) -> int:
        """Most workers that can have work."""
        return self.conversations if self.micro_batches is None else self.micro_batches

    @property
    def idle_fraction(self) -> float:
        """Fraction of the workers' time in a step that is idle, if all units take the same time."""
        rounds = math.ceil(self.units / self.workers)
        return 1.0 - self.units / (rounds * self.workers)

    def warnings(self) -> list[str]:
        """What to say about idle workers."""
        workers, units = self.workers, self.units
        if self.micro_batches is None:
            if workers == 1 or units >= ENOUGH_CONVERSATIONS * workers:
                return []
            fewer = max(units // ENOUGH_CONVERSATIONS, 1)
            return [
                f"a step has {counted(units, 'conversation')} for {workers} workers, so that some are idle; use "
                f"{counted(fewer, 'worker')}, or train.batch_conversations={ENOUGH_CONVERSATIONS * workers}"
            ]
        if workers > units:
            idle = workers - units
            return [
                f"{idle} of {workers} workers {'is' if idle == 1 else 'are'} idle, because {self.reason} needs fixed "
                f"parts and a step has {counted(units, 'micro-batch')}; use {counted(units, 'worker')}, or increase "
                "train.micro_batches"
            ]
        if self.idle_fraction > MOST_IDLE:
            return [
                f"workers are idle {self.idle_fraction:.0%} of the time, because {units} micro-batches cannot "
                f"be divided evenly among {workers} workers"
            ]
        return []
