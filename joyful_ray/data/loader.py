"""Gives the training loop its micro-batches, from a split in memory. `ingest.py` has the streaming loader.

Shapes: as in batch.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch

from joyful_ray.config import JobConfig
from joyful_ray.data.batch import Batch, NgramIds
from joyful_ray.data.encode import Encoding
from joyful_ray.data.plan import MicroBatch, StepRules, draw_key, plan_epoch, plan_evaluation
from joyful_ray.data.scope import step_rules
from joyful_ray.data.store import SplitStore

Work = list[tuple[MicroBatch, Batch]]
"""One rank's share of a step: micro-batches with their data; may be empty."""


class BatchLoader(Protocol):
    """Gives each rank its share of a split: every conversation once per pass, and equally many steps to all ranks."""

    def steps(self, *, world_size: int) -> int:
        """Number of steps per epoch, the same on every rank."""
        ...

    def epoch(self, epoch: int, *, rank: int, world_size: int, start: int = 0) -> Iterator[Work]:
        """This rank's share of each step of an epoch, from the step `start` on."""
        ...

    def once(self, *, rank: int, world_size: int) -> Iterator[Batch]:
        """This rank's share of one pass for evaluation; batches do not depend on the number of ranks."""
        ...


@dataclass(frozen=True)
class ResidentLoader:
    """Loads micro-batches from a split in memory, in the order of the plan."""

    store: SplitStore
    seed: int
    rules: StepRules
    evaluation_utterances: int

    @classmethod
    def of(cls, job: JobConfig, store: SplitStore) -> ResidentLoader:
        """A loader with the batch sizes of a job."""
        return cls(
            store,
            seed=job.seed,
            rules=step_rules(job),
            evaluation_utterances=job.train.evaluation_utterances,
        )

    def steps(self, *, world_size: int) -> int:
        """Number of steps per epoch."""
        return -(-len(self.store) // self.rules.batch_conversations)

    def epoch(self, epoch: int, *, rank: int, world_size: int, start: int = 0) -> Iterator[Work]:
        """This rank's share of each step."""
        lengths, key = self.store.lengths, draw_key(self.seed, epoch)
        for step in plan_epoch(lengths, self.rules, seed=self.seed, epoch=epoch)[start:]:
            mine = step.of_rank(rank, world_size, lengths)
            yield [(micro, self.store.batch(micro.conversations, draw_key=key)) for micro in mine]

    def once(self, *, rank: int, world_size: int) -> Iterator[Batch]:
        """This rank's share of one pass."""
        for conversations in plan_evaluation(self.store.lengths, utterances=self.evaluation_utterances)[
            rank::world_size
        ]:
            yield self.store.batch(conversations)


def blank_batch(encoding: Encoding) -> Batch:
    """Two unlabeled utterances with no features: a rank without work runs them with weight zero."""
    labels = {
        "single-label": torch.full((2,), -1),
        "multi-label": torch.full((2, len(encoding.labels)), float("nan")),
        "regression": torch.full((2,), float("nan")),
    }[encoding.task]
    return Batch(
        features={name: torch.full((2, width), float("nan")) for name, width in encoding.widths.items()},
        present={name: torch.zeros(2, dtype=torch.bool) for name in encoding.widths},
        speakers_N=torch.zeros(2, dtype=torch.long),
        lengths_C=torch.tensor([2]),
        keys_C=torch.zeros(1, dtype=torch.int64),
        labels=labels,
        ngrams=NgramIds(torch.zeros(0, dtype=torch.int32), torch.zeros(2, dtype=torch.int32))
        if encoding.ngrams
        else None,
    )
