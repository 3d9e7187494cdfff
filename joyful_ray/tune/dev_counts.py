"""Counts of right and wrong predictions in each conversation of a split, from which a bootstrap computes scores.

Shapes: C = conversations, N = utterances of a batch, K = labels, S = size of a tally's state.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

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
Group: TypeAlias = tuple[str, str]
"""What a group is of, such as gender, and its name."""
EVERYTHING: Group = ("", "")


@dataclass(frozen=True)
class DevCounts:
    """The tallies of one model, one row per conversation.

    Attributes:
        conversations: their ids, in alphabetical order, so that the rows of two models fit whatever their batches are.
        thresholds: threshold per label (multi-label); None tunes them on the counts, as on dev.
    """

    task: Task
    labels: list[str]
    states_CS: NDArray[np.float64]
    conversations: tuple[str, ...] = ()
    thresholds: Mapping[str, float] | None = None

    def scores(self, weights_C: NDArray[np.float64]) -> Scores:
        """The scores if each conversation counts this many times."""
        tally = Tally(self.task, self.labels)
        tally.state = torch.from_numpy(weights_C @ self.states_CS)
        return tally.scores(self.thresholds)


def joined(parts: Sequence[DevCounts]) -> DevCounts:
    """The counts of several models over different conversations as one, as cross-validation needs it.

    With several labels, thresholds are tuned on all of them together.
    """
    if len(parts) == 1:
        return parts[0]
    names = [name for part in parts for name in part.conversations]
    order = sorted(range(len(names)), key=names.__getitem__)
    states_CS = np.concatenate([part.states_CS for part in parts])[order]
    return DevCounts(parts[0].task, parts[0].labels, states_CS, tuple(names[place] for place in order))


def counts_by_conversation(bundle: Bundle, split: BatchLoader) -> DevCounts:
    """Predict a split, and count right and wrong predictions in each conversation; thresholds are tuned on them."""
    return counts_by_group(bundle, split, lambda conversation: {})[EVERYTHING]


@torch.no_grad()
def counts_by_group(
    bundle: Bundle,
    split: BatchLoader,
    groups_of: Callable[[str], Mapping[Group, NDArray[np.bool_]]],
    *,
    thresholds: Mapping[str, float] | None = None,
) -> dict[Group, DevCounts]:
    """Predict a split once, and count for all utterances and for groups of them.

    Args:
        bundle: the model.
        split: what it predicts.
        groups_of: by id of a conversation, which of its utterances belong to each group that it has.
        thresholds: for multi-label, see `DevCounts`.

    Returns:
        The counts of each group over all conversations, zero in those that do not have it, and of `EVERYTHING`.
    """
    task, labels = bundle.encoding.task, list(bundle.encoding.labels)
    states: dict[Group, dict[str, NDArray[np.float64]]] = {EVERYTHING: {}}
    for batch in split.once(rank=0, world_size=1):
        scores_NK = bundle.model(batch).scores_NK
        loss_N = JointObjective.plain_loss(scores_NK, batch.labels, task)
        start = 0
        for conversation, length in zip(batch.conversation_ids, batch.lengths_C.tolist(), strict=True):
            for group, mask in {EVERYTHING: np.ones(length, bool), **groups_of(conversation)}.items():
                chosen_N = start + torch.from_numpy(np.flatnonzero(mask))
                tally = Tally(task, labels)
                loss = float(loss_N[chosen_N].sum())
                tally.saw(scores_NK[chosen_N], batch.labels[chosen_N], batch.labeled_N[chosen_N], loss)
                states.setdefault(group, {})[conversation] = tally.state.numpy()
            start += length
    conversations = tuple(sorted(states[EVERYTHING]))
    nothing = np.zeros_like(Tally(task, labels).state.numpy())
    found = {group: np.array([own.get(name, nothing) for name in conversations]) for group, own in states.items()}
    return {group: DevCounts(task, labels, states_CS, conversations, thresholds) for group, states_CS in found.items()}


def write_dev_counts(directory: RunDirectory, dev: BatchLoader) -> None:
    """Predict dev with the bundle of a finished run, and write the counts of each conversation."""
    write_counts(directory.location.join(COUNTS), counts_by_conversation(read_bundle(directory.bundle.uri), dev))


def write_counts(place: Location, counts: DevCounts) -> None:
    """Write counts to a file."""
    place.write_text(json.dumps(content_of(counts)))


def content_of(counts: DevCounts) -> dict[str, Any]:
    """Counts as JSON can hold them."""
    return {**asdict(counts), "states_CS": counts.states_CS.tolist()}


def counts_from(content: Mapping[str, Any]) -> DevCounts:
    """Counts from what `content_of` gave.

    Raises:
        ValueError, KeyError, TypeError: it has another form.
    """
    states_CS, conversations = np.array(content["states_CS"], dtype=np.float64), tuple(content["conversations"])
    if len(states_CS) != len(conversations):
        raise ValueError("counts and conversations differ in number")
    return DevCounts(content["task"], content["labels"], states_CS, conversations, content["thresholds"])


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
        return counts_from(json.loads(place.read_text()))
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(f"{place.uri} is damaged; remove it and run the same command again") from None
