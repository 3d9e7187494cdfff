from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from joyful_ray.data.plan import cut_dev, cut_evenly, draw_seed, plan_epoch, plan_evaluation
from tests.batches import quick

lengths = st.lists(st.integers(1, 110), min_size=1, max_size=60).map(np.array)
counts = st.integers(1, 9)


def plan(lengths: np.ndarray, *, seed: int = 0, epoch: int = 0, batch: int = 4, parts: int = 2):
    return plan_epoch(lengths, seed=seed, epoch=epoch, batch_conversations=batch, micro_batches=parts)


@quick
@given(lengths, st.integers(1, 70), counts, st.integers(0, 3))
def test_every_conversation_comes_exactly_once_per_epoch(
    lengths: np.ndarray, batch: int, parts: int, epoch: int
) -> None:
    steps = plan(lengths, epoch=epoch, batch=batch, parts=parts)
    seen = [c for step in steps for micro in step.micro_batches for c in micro.conversations]
    assert sorted(seen) == list(range(len(lengths)))


@quick
@given(lengths, st.integers(1, 70), counts)
def test_a_step_has_its_global_batch_in_at_most_so_many_micro_batches(
    lengths: np.ndarray, batch: int, parts: int
) -> None:
    steps = plan(lengths, batch=batch, parts=parts)
    assert len(steps) == -(-len(lengths) // batch)
    for place, step in enumerate(steps):
        assert step.index == place
        assert 1 <= len(step.micro_batches) <= parts
        assert [(micro.step, micro.index) for micro in step.micro_batches] == [
            (place, k) for k in range(len(step.micro_batches))
        ]
        conversations = sum(len(micro.conversations) for micro in step.micro_batches)
        assert conversations == min(batch, len(lengths) - place * batch)
        assert all(micro.conversations for micro in step.micro_batches)


@quick
@given(lengths, st.integers(1, 70), counts, st.integers(1, 5))
def test_the_shares_of_the_ranks_are_disjoint_and_complete(
    lengths: np.ndarray, batch: int, parts: int, world_size: int
) -> None:
    for step in plan(lengths, batch=batch, parts=parts):
        shares = [step.of_rank(rank, world_size) for rank in range(world_size)]
        assert sorted(micro.index for share in shares for micro in share) == list(range(len(step.micro_batches)))
        for rank, share in enumerate(shares):
            assert all(micro.index % world_size == rank for micro in share)


def test_a_rank_beyond_the_last_micro_batch_has_nothing_to_do() -> None:
    (step,) = plan(np.array([3, 4]), batch=2, parts=2)
    assert step.of_rank(2, 4) == ()


def test_the_plan_is_a_function_of_seed_and_epoch_alone() -> None:
    lengths = np.random.default_rng(0).integers(1, 20, 50)
    assert plan(lengths, seed=1, epoch=2) == plan(lengths, seed=1, epoch=2)
    orders = [
        tuple(c for step in plan(lengths, seed=seed, epoch=epoch) for m in step.micro_batches for c in m.conversations)
        for seed, epoch in [(0, 0), (0, 1), (1, 0), (1, 1)]
    ]
    assert len(set(orders)) == 4


def test_no_two_micro_batches_of_a_run_have_the_same_seed() -> None:
    seeds = [
        micro.seed
        for epoch in range(5)
        for step in plan(np.ones(40, int), epoch=epoch, parts=3)
        for micro in step.micro_batches
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert draw_seed(0, 1, 2, 3) != draw_seed(0, 1, 3, 2)


@quick
@given(lengths, counts)
def test_micro_batches_differ_by_no_more_than_their_longest_conversation(lengths: np.ndarray, parts: int) -> None:
    groups = cut_evenly(np.arange(len(lengths)), lengths, parts)
    fair = lengths.sum() / min(parts, len(lengths))
    for group in groups:
        assert abs(sum(lengths[list(group)]) - fair) <= lengths.max()


def test_thirty_two_dialogues_of_ordinary_lengths_are_cut_into_nearly_equal_halves() -> None:
    lengths = np.random.default_rng(0).integers(1, 34, 32)
    first, second = (lengths[list(group)].sum() for group in cut_evenly(np.arange(32), lengths, 2))
    assert abs(first - second) <= 0.1 * (first + second)


@quick
@given(lengths, counts)
def test_conversations_of_one_micro_batch_are_of_similar_lengths(lengths: np.ndarray, parts: int) -> None:
    groups = [lengths[list(group)] for group in cut_evenly(np.arange(len(lengths)), lengths, parts)]
    assert all(left.max() <= right.min() for left, right in itertools.pairwise(groups))


@quick
@given(lengths, counts, st.randoms(use_true_random=False))
def test_the_cut_does_not_depend_on_the_order_of_its_input(lengths: np.ndarray, parts: int, random) -> None:
    shuffled = list(range(len(lengths)))
    random.shuffle(shuffled)
    groups = cut_evenly(np.array(shuffled), lengths, parts)
    assert [sorted(group) for group in groups] == [list(g) for g in cut_evenly(np.arange(len(lengths)), lengths, parts)]
    assert all(list(group) == [c for c in shuffled if c in group] for group in groups)


def test_the_last_conversation_of_a_micro_batch_is_not_the_longest_as_a_rule() -> None:
    # the released reconstruction looks at the last alone, which is any conversation of the authors' batch
    lengths = np.arange(1, 41)
    steps = [step for epoch in range(20) for step in plan(lengths, epoch=epoch, batch=20, parts=1)]
    longest = sum(
        lengths[m.conversations[-1]] == max(lengths[list(m.conversations)]) for s in steps for m in s.micro_batches
    )
    assert longest < 10  # of 40; 2 are expected


def test_one_conversation_is_one_micro_batch() -> None:
    assert cut_evenly(np.array([0]), np.array([7]), 4) == [(0,)]


@quick
@example(np.array([2, 7, 7, 7]), 1, 1)
@given(lengths, st.integers(1, 500), st.integers(1, 5))
def test_evaluation_reads_every_conversation_once_over_all_ranks(
    lengths: np.ndarray, utterances: int, world_size: int
) -> None:
    groups = plan_evaluation(lengths, utterances=utterances)
    seen = [c for rank in range(world_size) for group in groups[rank::world_size] for c in group]
    assert sorted(seen) == list(range(len(lengths)))
    assert all(sum(lengths[list(group)]) <= utterances + lengths.max() for group in groups)


def test_an_empty_split_has_no_evaluation_batches() -> None:
    assert plan_evaluation(np.zeros(0, int), utterances=10) == []


def test_the_dev_cut_is_whole_conversations_seeded_and_independent_of_order() -> None:
    names = [f"c{place}" for place in range(40)]
    cut = cut_dev(names, fraction=0.1, seed=3)
    assert len(cut) == 4
    assert cut < set(names)
    assert cut == cut_dev(names[::-1], fraction=0.1, seed=3)
    assert cut != cut_dev(names, fraction=0.1, seed=4)


@pytest.mark.parametrize(("count", "fraction", "expected"), [(2, 0.1, 1), (5, 0.01, 1), (3, 0.99, 2), (10, 0.25, 2)])
def test_the_dev_cut_takes_at_least_one_and_leaves_at_least_one(count: int, fraction: float, expected: int) -> None:
    assert len(cut_dev([str(place) for place in range(count)], fraction=fraction, seed=0)) == expected
