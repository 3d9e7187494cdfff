from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from joyful_ray.data.plan import (
    Step,
    StepRules,
    cut_dev,
    cut_evenly,
    draw_key,
    draw_seed,
    plan_epoch,
    plan_evaluation,
    share_out,
)
from tests.batches import quick

lengths = st.lists(st.integers(1, 110), min_size=1, max_size=60).map(np.array)
counts = st.integers(1, 9)
rules = st.one_of(st.none(), counts)


def plan(lengths: np.ndarray, *, seed: int = 0, epoch: int = 0, batch: int = 4, parts: int | None = 2) -> list[Step]:
    return plan_epoch(lengths, StepRules(batch, parts), seed=seed, epoch=epoch)


@quick
@given(lengths, st.integers(1, 70), rules, st.integers(0, 3))
def test_every_conversation_comes_exactly_once_per_epoch(
    lengths: np.ndarray, batch: int, parts: int | None, epoch: int
) -> None:
    steps = plan(lengths, epoch=epoch, batch=batch, parts=parts)
    assert sorted(c for step in steps for unit in step.units for c in unit) == list(range(len(lengths)))
    assert [step.index for step in steps] == list(range(-(-len(lengths) // batch)))
    for place, step in enumerate(steps):
        assert all(step.units)
        assert sum(len(unit) for unit in step.units) == min(batch, len(lengths) - place * batch)
        assert len(step.units) <= (batch if parts is None else parts)


@quick
@given(lengths, st.integers(1, 70), rules, st.integers(1, 18))
def test_the_shares_of_the_ranks_are_disjoint_and_complete(
    lengths: np.ndarray, batch: int, parts: int | None, world_size: int
) -> None:
    for step in plan(lengths, batch=batch, parts=parts):
        shares = [step.of_rank(rank, world_size, lengths) for rank in range(world_size)]
        seen = [c for share in shares for micro in share for c in micro.conversations]
        assert sorted(seen) == sorted(c for unit in step.units for c in unit)
        assert sum(bool(share) for share in shares) == min(world_size, len(step.units)), "someone is idle for nothing"
        if parts is None:
            assert all(len(share) <= 1 for share in shares), "a share is one pass"
        else:
            assert {micro.conversations for share in shares for micro in share} == set(step.units)


@quick
@given(lengths, st.integers(1, 400), st.integers(1, 5))
def test_a_large_share_goes_in_passes_of_so_many_utterances(lengths: np.ndarray, most: int, world_size: int) -> None:
    for step in plan_epoch(lengths, StepRules(20, None, most), seed=0, epoch=0):
        for rank in range(world_size):
            whole = plan_epoch(lengths, StepRules(20), seed=0, epoch=0)[step.index].of_rank(rank, world_size, lengths)
            passes = step.of_rank(rank, world_size, lengths)
            assert sorted(c for micro in passes for c in micro.conversations) == sorted(
                c for micro in whole for c in micro.conversations
            )
            assert all(lengths[list(m.conversations)].sum() <= most + lengths.max() for m in passes)


@quick
@given(st.lists(st.integers(1, 100), min_size=1, max_size=40), st.integers(1, 12))
def test_units_are_shared_out_nearly_evenly(sizes: list[int], parts: int) -> None:
    shares = share_out(sizes, parts)
    assert sorted(place for share in shares for place in share) == list(range(len(sizes)))
    totals = [sum(sizes[place] for place in share) for share in shares]
    # Graham, 1969: the largest part is at most 4/3 of the smallest possible one.
    assert max(totals) <= 4 / 3 * max(sum(sizes) / parts, max(sizes), sum(sorted(sizes)[-parts - 1 :][:2])) + 1e-9


def test_a_rank_beyond_the_last_unit_has_nothing_to_do() -> None:
    lengths = np.array([3, 4])
    for parts in (2, None):
        (step,) = plan(lengths, batch=2, parts=parts)
        assert step.of_rank(2, 4, lengths) == []


def test_the_plan_is_a_function_of_seed_and_epoch_alone() -> None:
    lengths = np.random.default_rng(0).integers(1, 20, 50)
    assert plan(lengths, seed=1, epoch=2) == plan(lengths, seed=1, epoch=2)
    orders = [
        tuple(c for step in plan(lengths, seed=seed, epoch=epoch) for unit in step.units for c in unit)
        for seed, epoch in [(0, 0), (0, 1), (1, 0), (1, 1)]
    ]
    assert len(set(orders)) == 4


def test_no_two_micro_batches_of_a_run_have_the_same_seed() -> None:
    seeds = [
        micro.seed
        for epoch in range(5)
        for step in plan(np.ones(40, int), epoch=epoch, parts=3)
        for micro in step.of_rank(0, 1, np.ones(40, int))
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert draw_seed(0, 1, 2, 3) != draw_seed(0, 1, 3, 2)
    assert len({draw_key(seed, epoch) for seed in range(5) for epoch in range(5)}) == 25


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
    longest = sum(lengths[unit[-1]] == max(lengths[list(unit)]) for step in steps for unit in step.units)
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
