from __future__ import annotations

from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from joyful_ray.data.batch import Layout
from joyful_ray.graph.edges import Graph, Relations, Windows, relation_count, stack, windowed_graph
from tests.batches import layout_of, quick, random_batch, spans

Window = int | None
windows = st.one_of(st.none(), st.integers(0, 6))
lengths = st.lists(st.integers(1, 9), min_size=1, max_size=5)


def slow_edges(layout: Layout, past: Window, future: Window) -> list[tuple[int, int]]:
    """(source, target) of every pair within the windows, by target and then by source."""
    edges = []
    for span in spans(layout):
        for target in range(span.start, span.stop):
            for source in range(span.start, span.stop):
                before = source <= target and (past is None or target - source <= past)
                after = source >= target and (future is None or source - target <= future)
                if before or after:
                    edges.append((source, target))
    return edges


def slow_relation(source: int, target: int, speakers: Tensor, relations: Relations, slots: int) -> int:
    direction = 0 if source < target else 1
    one, other = int(speakers[source]), int(speakers[target])
    if relations == "same-other":
        return (0 if one == other else 2) + direction
    pairs = [(a, b, d) for a in range(slots) for b in range(slots) for d in (0, 1)]
    return pairs.index((min(one, slots - 1), min(other, slots - 1), direction))


def edges_of(graph: Graph) -> list[tuple[int, int]]:
    return list(zip(graph.source_E.tolist(), graph.target_E.tolist(), strict=True))


@quick
@given(lengths, windows, windows, st.sampled_from(get_args(Relations)), st.integers(1, 4), st.integers(1, 4))
def test_the_windowed_graph_equals_a_double_loop_over_utterances(
    lengths: list[int], past: Window, future: Window, relations: Relations, speakers: int, slots: int
) -> None:
    batch = random_batch(*lengths, speakers=speakers)
    graph = windowed_graph(
        batch.speakers_N, batch.layout, past=past, future=future, relations=relations, speakers=slots
    )
    expected = slow_edges(batch.layout, past, future)
    assert edges_of(graph) == expected
    assert graph.relation_E.tolist() == [slow_relation(*edge, batch.speakers_N, relations, slots) for edge in expected]
    assert graph.relations == relation_count(relations, slots)


def test_three_utterances_with_unequal_windows_have_these_edges() -> None:
    graph = windowed_graph(torch.tensor([0, 1, 0]), layout_of(3), past=1, future=0)
    assert edges_of(graph) == [(0, 0), (0, 1), (1, 1), (1, 2), (2, 2)]
    assert graph.relation_E.tolist() == [1, 2, 1, 2, 1]


def test_the_past_window_looks_back_and_the_future_window_ahead() -> None:
    graph = windowed_graph(torch.zeros(5, dtype=torch.long), layout_of(5), past=2, future=1)
    into_third = sorted(source for source, target in edges_of(graph) if target == 2)
    assert into_third == [0, 1, 2, 3]


def test_a_causal_graph_has_no_edge_from_the_future() -> None:
    graph = windowed_graph(torch.zeros(9, dtype=torch.long), layout_of(4, 5), past=None, future=0)
    assert (graph.source_E <= graph.target_E).all()
    assert graph.edges == 4 * 5 // 2 + 5 * 6 // 2


def test_an_unbounded_graph_connects_every_pair_of_a_conversation() -> None:
    graph = windowed_graph(torch.zeros(7, dtype=torch.long), layout_of(3, 4), past=None, future=None)
    assert graph.edges == 3 * 3 + 4 * 4


def test_one_utterance_has_one_self_loop() -> None:
    graph = windowed_graph(torch.tensor([0]), layout_of(1), past=8, future=8)
    assert edges_of(graph) == [(0, 0)]
    assert graph.relation_E.tolist() == [1]


def test_one_speaker_has_two_relations() -> None:
    graph = windowed_graph(torch.zeros(5, dtype=torch.long), layout_of(5), past=2, future=2)
    assert set(graph.relation_E.tolist()) == {0, 1}


@quick
@given(lengths, windows, windows)
def test_no_edge_leaves_its_conversation(lengths: list[int], past: Window, future: Window) -> None:
    batch = random_batch(*lengths)
    graph = windowed_graph(batch.speakers_N, batch.layout, past=past, future=future)
    conversation_N = batch.layout.conversation_N
    assert torch.equal(conversation_N[graph.source_E], conversation_N[graph.target_E])


@pytest.mark.parametrize(("speakers", "count"), [(1, 2), (2, 8), (9, 162)])
def test_speaker_pairs_have_two_relations_per_pair(speakers: int, count: int) -> None:
    speakers_N = torch.arange(speakers).repeat(4)
    layout = layout_of(len(speakers_N))
    graph = windowed_graph(speakers_N, layout, past=None, future=None, relations="speaker-pairs", speakers=speakers)
    assert graph.relations == count
    assert sorted(set(graph.relation_E.tolist())) == list(range(count))


def test_two_speakers_have_the_released_codes_eight_ids() -> None:
    speakers_N = torch.tensor([0, 0, 1, 1])
    layout = layout_of(4)
    graph = windowed_graph(speakers_N, layout, past=None, future=None, relations="speaker-pairs", speakers=2)
    ids = {
        (source, target): int(relation)
        for (source, target), relation in zip(edges_of(graph), graph.relation_E, strict=True)
    }
    assert ids[0, 1] == 0  # first speaker to first, source earlier
    assert ids[1, 0] == 1
    assert ids[0, 0] == 1  # self-loops count as from the future: METHOD.md, R3
    assert ids[0, 2] == 2  # first speaker to second
    assert ids[2, 3] == 6  # second speaker to second
    assert ids[3, 2] == ids[3, 3] == 7
    assert ids[2, 0] == 5  # second speaker to first
    other_order = windowed_graph(1 - speakers_N, layout, past=None, future=None, relations="speaker-pairs", speakers=2)
    assert dict(zip(edges_of(other_order), other_order.relation_E.tolist(), strict=True))[0, 2] == 4


def test_speakers_beyond_the_slots_share_the_last() -> None:
    speakers_N = torch.tensor([0, 1, 2, 3])
    graph = windowed_graph(speakers_N, layout_of(4), past=None, future=None, relations="speaker-pairs", speakers=2)
    shared = windowed_graph(
        speakers_N.clamp(max=1), layout_of(4), past=None, future=None, relations="speaker-pairs", speakers=2
    )
    assert torch.equal(graph.relation_E, shared.relation_E)
    assert int(graph.relation_E.max()) < graph.relations


@quick
@given(lengths, windows, windows)
def test_windows_are_the_first_and_last_source_of_each_target(lengths: list[int], past: Window, future: Window) -> None:
    layout = layout_of(*lengths)
    found = Windows.of(layout, past, future)
    edges = slow_edges(layout, past, future)
    for target in range(sum(lengths)):
        positions = [int(layout.position_N[source]) for source, into in edges if into == target]
        assert (int(found.first_N[target]), int(found.last_N[target])) == (min(positions), max(positions))


@quick
@given(lengths, windows, windows)
def test_mean_weights_of_one_relation_into_one_target_sum_to_one(
    lengths: list[int], past: Window, future: Window
) -> None:
    batch = random_batch(*lengths)
    graph = windowed_graph(batch.speakers_N, batch.layout, past=past, future=future)
    cells = list(zip(graph.target_E.tolist(), graph.relation_E.tolist(), strict=True))
    expected = [1.0 / cells.count(cell) for cell in cells]
    torch.testing.assert_close(graph.mean_weight_E, torch.tensor(expected))


def test_stacked_graphs_are_disconnected() -> None:
    batch = random_batch(2, 3)
    graphs = [windowed_graph(batch.speakers_N, batch.layout, past=past, future=1) for past in (0, 2, None)]
    stacked = stack(graphs)
    expected = [(s + 5 * place, t + 5 * place) for place, graph in enumerate(graphs) for s, t in edges_of(graph)]
    assert edges_of(stacked) == expected
    assert stacked.relation_E.tolist() == [r for graph in graphs for r in graph.relation_E.tolist()]
    assert stacked.layout.lengths_C.tolist() == [2, 3] * 3
    assert stacked.nodes == 15
    assert stacked.mean_weight_E.tolist() == [w for graph in graphs for w in graph.mean_weight_E.tolist()]


def test_a_stack_of_one_graph_is_that_graph() -> None:
    batch = random_batch(2)
    graph = windowed_graph(batch.speakers_N, batch.layout, past=1, future=1)
    assert stack([graph]) is graph
