"""How a step is divided among workers, and which of them have nothing to do."""

from __future__ import annotations

import math
from dataclasses import dataclass

from joyful_ray.config import JobConfig
from joyful_ray.wording import counted

MOST_IDLE = 0.1
"""Workers may be idle for this fraction of a step before a run says so."""


@dataclass(frozen=True)
class StepLayout:
    """A step of a run.

    Attributes:
        workers: those that train.
        micro_batches: parts of the step; at most this many workers have work.
        conversations: of the step.
    """

    workers: int
    micro_batches: int
    conversations: int

    @classmethod
    def of(cls, job: JobConfig, conversations: int) -> StepLayout:
        """The layout of a job on a training split of so many conversations."""
        largest = min(job.train.batch_conversations, conversations)
        return cls(max(job.cluster.workers, 1), min(job.train.micro_batches, max(largest, 1)), largest)

    @property
    def idle_fraction(self) -> float:
        """Fraction of the workers' time in a step that is idle, if all micro-batches take the same time."""
        rounds = math.ceil(self.micro_batches / self.workers)
        return 1.0 - self.micro_batches / (rounds * self.workers)

    def warnings(self) -> list[str]:
        """What to say about idle workers."""
        workers, micro_batches = self.workers, self.micro_batches
        if workers > micro_batches:
            idle = workers - micro_batches
            return [
                f"{idle} of {workers} workers {'is' if idle == 1 else 'are'} idle, because a step has "
                f"{counted(micro_batches, 'micro-batch')}; use {counted(micro_batches, 'worker')}, or increase "
                "train.micro_batches"
            ]
        if self.idle_fraction > MOST_IDLE:
            return [
                f"workers are idle {self.idle_fraction:.0%} of the time, because {micro_batches} micro-batches cannot "
                f"be divided evenly among {workers} workers"
            ]
        return []
