"""The plan of an epoch: which conversations, when, on which rank.

What a step has is a function of (seed, epoch); how it is divided among ranks changes no result.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from joyful_ray.data.draws import key_of

_DEV_CUT, _ORDER, _DRAWS, _FOLDS = 1, 2, 3, 4


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Conversations that go through the model together.

    Attributes:
        conversations: positions in the split, which is ordered by conversation id.
        seed: for parts of the user's own that draw from torch; what is built in draws by conversation (draws.py).
    """

    step: int
    index: int
    conversations: tuple[int, ...]
    seed: int


@dataclass(frozen=True)
class StepRules:
    """How an epoch is cut into steps, and a step among ranks.

    Attributes:
        batch_conversations: number of conversations of a step, over all ranks.
        micro_batches: number of fixed parts of a step, if something looks beyond a conversation; None if each
            conversation is a unit of its own, and a rank packs its share of a step into one pass.
        pass_utterances: largest number of utterances of such a pass, unless one conversation is longer; None sets no
            limit.
    """

    batch_conversations: int
    micro_batches: int | None = None
    pass_utterances: int | None = None

    def cut(self, conversations: np.ndarray, lengths: np.ndarray) -> list[tuple[int, ...]]:
        """The units of one step: fixed parts of about equally many utterances, or single conversations."""
        if self.micro_batches is None:
            return [(int(conversation),) for conversation in conversations]
        return cut_evenly(conversations, lengths, self.micro_batches)

    def passes(self, units: list[tuple[int, ...]], lengths: np.ndarray) -> list[tuple[int, ...]]:
        """What goes through the model together, of the units of one rank."""
        if self.micro_batches is not None or not units:
            return units
        mine = np.array([conversation for unit in units for conversation in unit])
        if self.pass_utterances is None:
            return [tuple(int(conversation) for conversation in mine)]
        return cut_evenly(mine, lengths, max(-(-int(lengths[mine].sum()) // self.pass_utterances), 1))


@dataclass(frozen=True)
class Step:
    """One optimizer update over one global batch.

    Attributes:
        units: groups of conversations that no two ranks share; all draws and terms belong to one of them.
    """

    index: int
    units: tuple[tuple[int, ...], ...]
    rules: StepRules
    seeds: tuple[int, int]

    def of_rank(self, rank: int, world_size: int, lengths: np.ndarray) -> list[MicroBatch]:
        """This rank's passes; a rank beyond the last unit gets none."""
        if self.rules.micro_batches is not None:
            return [self._micro_batch(k, unit) for k, unit in list(enumerate(self.units))[rank::world_size]]
        shares = share_out([int(lengths[list(unit)].sum()) for unit in self.units], world_size)
        mine = [self.units[place] for place in shares[rank]]
        return [self._micro_batch(k, chosen) for k, chosen in enumerate(self.rules.passes(mine, lengths))]

    def _micro_batch(self, index: int, conversations: tuple[int, ...]) -> MicroBatch:
        return MicroBatch(self.index, index, conversations, draw_seed(*self.seeds, self.index, index))


def plan_epoch(lengths: np.ndarray, rules: StepRules, *, seed: int, epoch: int) -> list[Step]:
    """Shuffle a split into steps.

    Args:
        lengths: number of utterances of each conversation, (conversations,).
        rules: how they are cut.

    Returns:
        ceil(conversations / batch_conversations) steps, with every conversation exactly once.
    """
    order, size = np.random.default_rng([seed, epoch, _ORDER]).permutation(len(lengths)), rules.batch_conversations
    return [
        Step(index, tuple(rules.cut(order[start : start + size], lengths)), rules, (seed, epoch))
        for index, start in enumerate(range(0, len(order), size))
    ]


def share_out(sizes: list[int], parts: int) -> list[list[int]]:
    """Divide units among parts: the largest unit first, each to the part that has least; places of each part, in order.

    No part is empty if there are as many units as parts.
    """
    totals = [0] * parts
    shares: list[list[int]] = [[] for _ in range(parts)]
    for place in sorted(range(len(sizes)), key=lambda place: (-sizes[place], place)):
        part = min(range(parts), key=lambda part: (totals[part], len(shares[part]), part))
        totals[part] += sizes[place]
        shares[part].append(place)
    return [sorted(share) for share in shares]


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


def draw_key(seed: int, epoch: int) -> int:
    """Key of the random draws of an epoch, to which each conversation adds its own."""
    return key_of(seed, epoch, _DRAWS)


def draw_seed(seed: int, epoch: int, step: int, micro_batch: int) -> int:
    """Seed of what one micro-batch draws from torch, a 63-bit integer."""
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
