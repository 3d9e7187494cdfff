"""The plan of an epoch: which micro-batch, when, on which rank. Functions of (seed, epoch), not of the workers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_DEV_CUT, _ORDER, _DRAWS, _FOLDS = 1, 2, 3, 4


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """The unit of work and of randomness.

    Attributes:
        conversations: positions in the split, which is ordered by conversation id.
        seed: seed of all its random draws (dropout, masks, edges).
    """

    step: int
    index: int
    conversations: tuple[int, ...]
    seed: int


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer update over one global batch."""

    index: int
    micro_batches: tuple[MicroBatch, ...]

    def of_rank(self, rank: int, world_size: int) -> tuple[MicroBatch, ...]:
        """Micro-batch k belongs to rank k mod world size; a rank beyond the last micro-batch gets none."""
        return self.micro_batches[rank::world_size]


def plan_epoch(
    lengths: np.ndarray, *, seed: int, epoch: int, batch_conversations: int, micro_batches: int
) -> list[Step]:
    """Shuffle a split into steps, and cut each step into micro-batches of about equally many utterances.

    Args:
        lengths: number of utterances of each conversation, (conversations,).

    Returns:
        ceil(conversations / batch_conversations) steps, with every conversation exactly once.
    """
    order = np.random.default_rng([seed, epoch, _ORDER]).permutation(len(lengths))
    steps = []
    for index, start in enumerate(range(0, len(order), batch_conversations)):
        parts = cut_evenly(order[start : start + batch_conversations], lengths, micro_batches)
        steps.append(
            Step(
                index,
                tuple(
                    MicroBatch(index, part, chosen, draw_seed(seed, epoch, index, part))
                    for part, chosen in enumerate(parts)
                ),
            )
        )
    return steps


def cut_evenly(conversations: np.ndarray, lengths: np.ndarray, parts: int) -> list[tuple[int, ...]]:
    """Cut conversations into at most `parts` non-empty groups of similar lengths and of about equally many utterances.

    Similar lengths keep padding small; ties are broken by position. A group keeps the order of the input, so that the
    last conversation of a shuffled group is a random one, not the longest.
    """
    order = np.lexsort((conversations, lengths[conversations]))
    sizes = lengths[conversations[order]]
    ends = np.cumsum(sizes)
    group = np.empty(len(order), int)
    group[order] = np.minimum(((ends - sizes / 2) * parts / ends[-1]).astype(int), parts - 1)
    return [tuple(int(c) for c in conversations[group == part]) for part in np.unique(group)]


def plan_evaluation(lengths: np.ndarray, *, utterances: int, parts: int = 1) -> list[tuple[int, ...]]:
    """Group a split into batches, shortest conversations first, each conversation once.

    A batch exceeds `utterances` by less than the length of the longest conversation. The grouping does not depend on
    the number of workers; batch k belongs to rank k mod world size.
    """
    if len(lengths) == 0:
        return []
    batches = max(int(np.ceil(lengths.sum() / utterances)), parts)
    return cut_evenly(np.arange(len(lengths)), lengths, batches)


def draw_seed(seed: int, epoch: int, step: int, micro_batch: int) -> int:
    """Seed of the random draws of one micro-batch, a 63-bit integer."""
    sequence = np.random.SeedSequence([seed, epoch, step, micro_batch, _DRAWS])
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def cut_dev(conversation_ids: list[str], *, fraction: float, seed: int) -> frozenset[str]:
    """Choose the conversations of train that become dev if a corpus has no dev split: seeded, at least one."""
    ordered = sorted(conversation_ids)
    count = min(max(1, round(fraction * len(ordered))), len(ordered) - 1)
    chosen = np.random.default_rng([seed, _DEV_CUT]).permutation(len(ordered))[:count]
    return frozenset(ordered[int(c)] for c in chosen)


def cut_fold(conversation_ids: list[str], *, fold: int, folds: int) -> frozenset[str]:
    """Choose the conversations of one of several parts, which differ by one conversation at most.

    The division depends on the ids alone, so that runs with any seed hold out the same conversations.
    """
    ordered = sorted(conversation_ids)
    order = np.random.default_rng(_FOLDS).permutation(len(ordered))
    return frozenset(ordered[int(c)] for c in order[fold::folds])
