"""Counts of right and wrong predictions in each conversation of a split, from which a bootstrap computes scores.

Shapes: C = conversations, S = size of a tally's state.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from joyful_ray.data.loader import BatchLoader
from joyful_ray.errors import CheckpointError
from joyful_ray.objective.joint import JointObjective
from joyful_ray.records import Scores
from joyful_ray.schema import Task
from joyful_ray.storage import Location
from joyful_ray.train.bundle import Bundle, read_bundle
from joyful_ray.train.run_directory import RunDirectory
from joyful_ray.train.scores import Tally

COUNTS = "dev-counts.json"


@dataclass(frozen=True)
class DevCounts:
    """The tallies of one model, one row per conversation, in the order of the split."""

    task: Task
    labels: list[str]
    states_CS: NDArray[np.float64]

    def scores(self, weights_C: NDArray[np.float64]) -> Scores:
        """The scores if each conversation counts this many times."""
        tally = Tally(self.task, self.labels)
        tally.state = torch.from_numpy(weights_C @ self.states_CS)
        return tally.scores()


@torch.no_grad()
def counts_by_conversation(bundle: Bundle, split: BatchLoader) -> DevCounts:
    """Predict a split, and count right and wrong predictions in each conversation."""
    task, labels = bundle.encoding.task, list(bundle.encoding.labels)
    states = []
    for batch in split.once(rank=0, world_size=1):
        scores_NK = bundle.model(batch).scores_NK
        loss_N = JointObjective.plain_loss(scores_NK, batch.labels, task)
        start = 0
        for length in batch.lengths_C.tolist():
            span = slice(start, start + length)
            tally = Tally(task, labels)
            tally.saw(scores_NK[span], batch.labels[span], batch.labeled_N[span], float(loss_N[span].sum()))
            states.append(tally.state.tolist())
            start += length
    return DevCounts(task, labels, np.array(states, dtype=np.float64))


def write_dev_counts(directory: RunDirectory, dev: BatchLoader) -> None:
    """Predict dev with the bundle of a finished run, and write the counts of each conversation."""
    write_counts(directory.location.join(COUNTS), counts_by_conversation(read_bundle(directory.bundle.uri), dev))


def write_counts(place: Location, counts: DevCounts) -> None:
    """Write counts to a file."""
    content = {"task": counts.task, "labels": counts.labels, "states": counts.states_CS.tolist()}
    place.write_text(json.dumps(content))


def has_dev_counts(directory: RunDirectory) -> bool:
    """Whether the counts are written."""
    return directory.location.join(COUNTS).exists()


def read_dev_counts(directory: RunDirectory) -> DevCounts:
    """The counts of a finished run.

    Raises:
        CheckpointError: there are none, or the file is damaged.
    """
    place = directory.location.join(COUNTS)
    if not place.exists():
        raise CheckpointError(f"{place.uri} is missing; remove {directory.location.uri} and run the search again")
    return read_counts(place)


def read_counts(place: Location) -> DevCounts:
    """Read counts from a file.

    Raises:
        CheckpointError: the file is damaged.
    """
    try:
        content = json.loads(place.read_text())
        return DevCounts(content["task"], content["labels"], np.array(content["states"], dtype=np.float64))
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(f"{place.uri} is damaged; remove it and run the same command again") from None
