from __future__ import annotations

from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from joyful_ray.data.batch import Batch
from joyful_ray.graph.augment import mask_features, perturb_edges, rewire_edges
from joyful_ray.graph.edges import Graph, Relations, Windows, relation_ids, windowed_graph
from tests.batches import layout_of, quick, random_batch, redrawn

lengths = st.lists(st.integers(1, 12), min_size=1, max_size=5)
windows = st.one_of(st.none(), st.integers(0, 4))
ratios = st.sampled_from([0.05, 0.1, 0.2, 0.25, 0.5, 0.9])


def perturbed(
    batch: Batch,
    past: int | None,
    future: int | None,
    ratio: float,
    *,
    relations: Relations = "same-other",
    seed: int = 0,
) -> tuple[Graph, Graph]:
    """The graph before and after."""
    layout = redrawn(batch, seed).layout
    graph = windowed_graph(batch.speakers_N, layout, past=past, future=future, relations=relations, speakers=2)
    view = perturb_edges(
        graph,
        batch.speakers_N,
        Windows.of(batch.layout, past, future),
        ratio=ratio,
        relations=relations,
        speakers=2,
    )
    return graph, view


def pairs(graph: Graph) -> list[tuple[int, int]]:
    return list(zip(graph.source_E.tolist(), graph.target_E.tolist(), strict=True))


def by_conversation(batch: Batch, edges: set[tuple[int, int]]) -> list[int]:
    counts = [0] * len(batch.lengths_C)
    for _, target in edges:
        counts[int(batch.layout.conversation_N[target])] += 1
    return counts


@quick
@given(lengths, windows, windows, ratios, st.integers(0, 5))
def test_every_conversation_loses_its_ratio_of_edges_and_gains_as_many_absent_ones(
    lengths: list[int], past: int | None, future: int | None, ratio: float, seed: int
) -> None:
    batch = random_batch(*lengths)
    graph, view = perturbed(batch, past, future, ratio, seed=seed)
    before, after = set(pairs(graph)), set(pairs(view))
    assert len(after) == view.edges, "an edge was added twice"
    edges, dropped, added = (by_conversation(batch, s) for s in (before, before - after, after - before))
    for c, length in enumerate(lengths):
        assert dropped[c] == round(ratio * edges[c])
        assert added[c] == min(dropped[c], length * length - edges[c])


@quick
@given(lengths, windows, windows, ratios)
def test_no_edge_of_a_perturbed_view_leaves_its_conversation(
    lengths: list[int], past: int | None, future: int | None, ratio: float
) -> None:
    batch = random_batch(*lengths)
    _, view = perturbed(batch, past, future, ratio)
    conversation_N = batch.layout.conversation_N
    assert torch.equal(conversation_N[view.source_E], conversation_N[view.target_E])


@quick
@given(lengths, windows, ratios, st.sampled_from(get_args(Relations)))
def test_every_edge_of_a_perturbed_view_has_the_relation_of_its_ends(
    lengths: list[int], past: int | None, ratio: float, relations: Relations
) -> None:
    batch = random_batch(*lengths)
    _, view = perturbed(batch, past, 1, ratio, relations=relations)
    expected = relation_ids(view.source_E, view.target_E, batch.speakers_N, relations=relations, speakers=2)
    assert torch.equal(view.relation_E, expected)


def test_a_ratio_of_zero_changes_nothing() -> None:
    batch = random_batch(4, 1, 6)
    graph, view = perturbed(batch, 2, 2, 0.0)
    assert view is graph
    assert rewire_edges(graph, ratio=0.0) is graph
    nodes = torch.randn(3, 4)
    assert mask_features(nodes, layout_of(3), ratio=0.0, by_element=True) is nodes


def test_the_same_seed_gives_the_same_view_and_another_seed_another() -> None:
    batch = random_batch(9, 12, 7)
    (_, one), (_, same), (_, other) = (perturbed(batch, 3, 3, 0.3, seed=seed) for seed in (1, 1, 2))
    assert pairs(one) == pairs(same)
    assert pairs(one) != pairs(other)


def test_the_input_graph_is_not_modified() -> None:
    batch = random_batch(9, 5)
    graph = windowed_graph(batch.speakers_N, batch.layout, past=2, future=2)
    before = (pairs(graph), graph.relation_E.tolist())
    rewire_edges(graph, ratio=0.5)
    perturb_edges(
        graph,
        batch.speakers_N,
        Windows.of(batch.layout, 2, 2),
        ratio=0.5,
        relations="same-other",
        speakers=2,
    )
    assert (pairs(graph), graph.relation_E.tolist()) == before


def test_one_utterance_may_lose_its_self_loop_but_gains_nothing() -> None:
    _, view = perturbed(random_batch(1), 8, 8, 0.9)
    assert view.edges == 0


def test_if_no_pair_is_absent_edges_are_only_dropped() -> None:
    graph, view = perturbed(random_batch(5), None, None, 0.2)
    assert (graph.edges, view.edges) == (25, 20)


def test_over_many_draws_every_edge_is_dropped_and_every_absent_pair_added() -> None:
    batch = random_batch(6, 3)
    graph = windowed_graph(batch.speakers_N, batch.layout, past=1, future=1)
    before = set(pairs(graph))
    views = [set(pairs(perturbed(batch, 1, 1, 0.3, seed=seed)[1])) for seed in range(300)]
    conversation = batch.layout.conversation_N.tolist()
    absent = {(s, t) for s in range(9) for t in range(9) if conversation[s] == conversation[t]} - before
    assert set().union(*(before - view for view in views)) == before
    assert set().union(*(view - before for view in views)) == absent


def test_every_edge_of_a_conversation_is_dropped_equally_often() -> None:
    batch = random_batch(8)
    graph = windowed_graph(batch.speakers_N, batch.layout, past=1, future=1)
    trials = 2000
    kept = dict.fromkeys(pairs(graph), 0)
    for seed in range(trials):
        for pair in set(pairs(perturbed(batch, 1, 1, 0.25, seed=seed)[1])) & kept.keys():
            kept[pair] += 1
    share = round(0.25 * graph.edges) / graph.edges
    spread = (trials * share * (1 - share)) ** 0.5
    assert all(abs(trials - count - trials * share) < 4.5 * spread for count in kept.values())


def test_rewiring_gives_the_ratio_of_edges_new_targets_anywhere_and_keeps_sources_and_relations() -> None:
    batch = random_batch(20, 30, 10)
    graph = windowed_graph(batch.speakers_N, batch.layout, past=4, future=4)
    view = rewire_edges(graph, ratio=0.1)
    changed = (view.target_E != graph.target_E).sum()
    count = round(0.1 * graph.edges)
    assert count - 5 <= changed <= count  # a new target may be the old one, once in 60
    assert torch.equal(view.source_E, graph.source_E)
    assert torch.equal(view.relation_E, graph.relation_E)
    conversation_N = batch.layout.conversation_N
    assert (conversation_N[view.source_E] != conversation_N[view.target_E]).any()


@quick
@given(st.integers(1, 40), st.floats(0.01, 0.99))
def test_a_dimension_mask_zeroes_exactly_the_ratio_of_dimensions_for_a_conversation(width: int, ratio: float) -> None:
    masked = mask_features(torch.ones(7, width), layout_of(4, 3), ratio=ratio, by_element=False)
    for conversation in masked.split([4, 3]):
        assert (conversation == conversation[0]).all()
        assert int((conversation[0] == 0).sum()) == round(ratio * width)
    assert set(masked.unique().tolist()) <= {0.0, 1.0}, "what is kept is not rescaled"


def test_an_element_mask_draws_each_value_by_itself() -> None:
    masked = mask_features(torch.ones(400, 50), layout_of(150, 250), ratio=0.25, by_element=True)
    assert float((masked == 0).float().mean()) == pytest.approx(0.25, abs=0.015)  # 5 standard deviations
    assert (masked != masked[0]).any()
    assert set(masked.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("by_element", [True, False])
def test_the_key_decides_the_mask(by_element: bool) -> None:
    nodes, layout = torch.randn(5, 30), layout_of(5)
    one, same, other = (
        mask_features(nodes, layout.apart(name), ratio=0.5, by_element=by_element) for name in ("a", "a", "b")
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_gradients_pass_where_features_are_kept() -> None:
    nodes = torch.randn(4, 10, requires_grad=True)
    masked = mask_features(nodes, layout_of(4), ratio=0.3, by_element=False)
    masked.sum().backward()
    assert nodes.grad is not None
    assert torch.equal(nodes.grad == 0, masked == 0)
