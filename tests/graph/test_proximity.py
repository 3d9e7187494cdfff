from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from joyful_ray.data.batch import Batch
from joyful_ray.graph import proximity
from joyful_ray.graph.augment import perturb_edges, rewire_edges
from joyful_ray.graph.edges import Graph, Relations, Windows, relation_ids, windowed_graph
from joyful_ray.graph.proximity import add_proximity_edges, katz_index
from tests.batches import quick, random_batch, spans

lengths = st.lists(st.integers(1, 9), min_size=1, max_size=3)
windows = st.one_of(st.none(), st.integers(0, 4))
ratios = st.sampled_from([0.05, 0.2, 0.5, 0.9])
SMALLEST = 1e-9
MISSING_POWERS = 0.03
"""The most that powers beyond the fourth add to any pair of a band graph, as a share of the largest index."""
Edges = set[tuple[int, int]]


def slow_katz(joined: list[list[int]]) -> list[list[float]]:
    """sum over k of (0.5 / lambda)^k A^k by repeated multiplication, divided by its largest; the diagonal is 0."""
    size = len(joined)
    degrees = [[float(value) for value in row] for row in joined]
    largest = float(torch.linalg.eigvalsh(torch.tensor(degrees, dtype=torch.float64))[-1]) if size else 0.0
    if largest <= 0:
        return [[0.0] * size for _ in range(size)]
    damped = [[0.5 / largest * value for value in row] for row in degrees]
    power, total = damped, [row[:] for row in damped]
    for _ in range(40):
        power = [[sum(row[k] * damped[k][j] for k in range(size) if row[k]) for j in range(size)] for row in power]
        total = [[one + other for one, other in zip(*rows, strict=True)] for rows in zip(total, power, strict=True)]
    best = max((total[i][j] for i in range(size) for j in range(size) if i != j), default=1.0)
    return [[0.0 if i == j else total[i][j] / best for j in range(size)] for i in range(size)]


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def edges_of(graph: Graph) -> list[tuple[int, int]]:
    return list(zip(graph.source_E.tolist(), graph.target_E.tolist(), strict=True))


def window(batch: Batch, past: int | None, future: int | None, **settings: Any) -> Graph:
    return windowed_graph(batch.speakers_N, batch.layout, past=past, future=future, **settings)


def widened(batch: Batch, graph: Graph, ratio: float, *, threshold: float = 0.5, seed: int = 0) -> Graph:
    return add_proximity_edges(
        graph,
        batch.speakers_N,
        ratio=ratio,
        threshold=threshold,
        relations="same-other",
        speakers=2,
        generator=draw(seed),
    )


def added(before: Graph, after: Graph) -> Edges:
    assert edges_of(after)[: before.edges] == edges_of(before), "an edge was changed"
    new = edges_of(after)[before.edges :]
    assert len(set(new)) == len(new), "an edge was added twice"
    return set(new)


def candidates(graph: Graph, span: slice) -> dict[tuple[int, int], float]:
    """Katz index of every pair of a conversation that has paths but no edge yet."""
    edges, places = set(edges_of(graph)), range(span.start, span.stop)
    joined = [[int(i != j and ((i, j) in edges or (j, i) in edges)) for j in places] for i in places]
    index = slow_katz(joined)
    return {
        (s, t): index[s - span.start][t - span.start]
        for s in places
        for t in places
        if s != t and (s, t) not in edges and index[s - span.start][t - span.start] > SMALLEST
    }


def test_the_ends_of_a_path_of_three_score_a_half_over_root_two() -> None:
    # a = 0.5 / sqrt(2): neighbours have a + 2 a^3 + 4 a^5 + ..., the ends a times that
    path = torch.tensor([[[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]], dtype=torch.float64)
    end = 0.5 / 2**0.5
    expected = torch.tensor([[[0.0, 1.0, end], [1.0, 0.0, 1.0], [end, 1.0, 0.0]]], dtype=torch.float64)
    torch.testing.assert_close(katz_index(path), expected)


def test_if_all_pairs_are_connected_all_score_one() -> None:
    index_CLL = katz_index(1.0 - torch.eye(5, dtype=torch.float64)[None])
    torch.testing.assert_close(index_CLL[0], 1.0 - torch.eye(5, dtype=torch.float64))


def test_without_edges_nothing_scores() -> None:
    assert torch.equal(katz_index(torch.zeros(2, 3, 3)), torch.zeros(2, 3, 3))


@quick
@given(st.integers(1, 7), st.floats(0.1, 0.9), st.integers(0, 20))
def test_the_katz_index_is_its_sum_of_powers(size: int, density: float, seed: int) -> None:
    half = torch.triu(torch.rand(3, size, size, generator=draw(seed)) < density, diagonal=1).double()
    joined_CLL = half + half.transpose(1, 2)
    expected = torch.tensor([slow_katz(joined.tolist()) for joined in joined_CLL], dtype=torch.float64)
    torch.testing.assert_close(katz_index(joined_CLL), expected, rtol=1e-6, atol=1e-9)


def test_padding_does_not_change_the_katz_index() -> None:
    path = torch.tensor([[[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]], dtype=torch.float64)
    padded = torch.nn.functional.pad(path, (0, 4, 0, 4))
    torch.testing.assert_close(katz_index(padded)[:, :3, :3], katz_index(path))
    assert not katz_index(padded)[:, 3:].any()


def test_five_utterances_in_a_chain_gain_the_pairs_two_apart() -> None:
    batch = random_batch(5)
    graph = window(batch, 1, 1)
    # 13 edges; a ratio of 0.46 requires 6 more, and six ordered pairs are two apart
    assert added(graph, widened(batch, graph, 0.46)) == {(0, 2), (2, 0), (1, 3), (3, 1), (2, 4), (4, 2)}


@quick
@given(lengths, windows, windows, ratios, st.integers(0, 3))
def test_every_conversation_gains_its_ratio_of_absent_pairs_that_paths_connect(
    lengths: list[int], past: int | None, future: int | None, ratio: float, seed: int
) -> None:
    batch = random_batch(*lengths)
    graph = window(batch, past, future)
    new = added(graph, widened(batch, graph, ratio, seed=seed))
    for span in spans(batch.layout):
        mine = {edge for edge in new if span.start <= edge[1] < span.stop}
        possible = candidates(graph, span)
        edges = sum(span.start <= target < span.stop for _, target in edges_of(graph))
        assert mine <= set(possible), "an edge was there before, leaves its conversation, or joins what no path joins"
        assert len(mine) == min(round(ratio * edges), len(possible))


@quick
@given(lengths, windows, windows, ratios, st.sampled_from([0.02, 0.2, 0.6]), st.integers(0, 3))
def test_pairs_above_the_threshold_come_first_and_then_the_next_best(
    lengths: list[int], past: int | None, future: int | None, ratio: float, threshold: float, seed: int
) -> None:
    batch = random_batch(*lengths)
    graph = window(batch, past, future)
    new = added(graph, widened(batch, graph, ratio, threshold=threshold, seed=seed))
    for span in spans(batch.layout):
        possible = candidates(graph, span)
        above = {edge for edge, score in possible.items() if score > threshold}
        mine = {edge for edge in possible if edge in new}
        if len(mine) <= len(above):
            assert mine <= above
        else:
            assert above <= mine
            worst = min(possible[edge] for edge in mine - above)
            assert all(possible[edge] <= worst + 1e-9 for edge in set(possible) - mine)


def test_above_the_threshold_every_pair_can_be_drawn() -> None:
    batch = random_batch(6, 4)
    graph = window(batch, 1, 1)
    above = {edge for span in spans(batch.layout) for edge, score in candidates(graph, span).items() if score > 0.05}
    views = [added(graph, widened(batch, graph, 0.2, threshold=0.05, seed=seed)) for seed in range(200)]
    assert set().union(*views) == above
    assert len({frozenset(view) for view in views}) > 100


def test_the_same_seed_gives_the_same_edges_and_another_seed_others() -> None:
    batch = random_batch(9, 12)
    graph = window(batch, 2, 2)
    one, same, other = (edges_of(widened(batch, graph, 0.2, threshold=0.05, seed=seed)) for seed in (1, 1, 2))
    assert one == same
    assert one != other


@pytest.mark.parametrize("dense", [True, False])
def test_one_utterance_gains_nothing(dense: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proximity, "DENSE_UTTERANCES", 384 if dense else 0)
    batch = random_batch(1, 1)
    graph = window(batch, 8, 8)
    assert edges_of(widened(batch, graph, 0.9)) == [(0, 0), (1, 1)]


@pytest.mark.parametrize("dense", [True, False])
def test_isolated_utterances_gain_nothing(dense: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proximity, "DENSE_UTTERANCES", 384 if dense else 3)
    batch = random_batch(6, 2)
    graph = window(batch, 0, 0)
    assert added(graph, widened(batch, graph, 0.9)) == set()


@pytest.mark.parametrize("dense", [True, False])
def test_if_no_pair_is_absent_nothing_is_added(dense: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proximity, "DENSE_UTTERANCES", 384 if dense else 3)
    batch = random_batch(6, 2)
    graph = window(batch, None, None)
    assert added(graph, widened(batch, graph, 0.9)) == set()


def test_a_ratio_of_zero_changes_nothing() -> None:
    batch = random_batch(5, 1)
    graph = window(batch, 1, 1)
    assert widened(batch, graph, 0.0) is graph


def test_the_input_graph_is_not_modified() -> None:
    batch = random_batch(7, 4)
    graph = window(batch, 1, 2)
    before = (edges_of(graph), graph.relation_E.tolist())
    widened(batch, graph, 0.5)
    assert (edges_of(graph), graph.relation_E.tolist()) == before


@quick
@given(lengths, windows, ratios, st.sampled_from(get_args(Relations)), st.sampled_from([384, 5]))
def test_every_added_edge_has_the_relation_of_its_ends(
    lengths: list[int], past: int | None, ratio: float, relations: Relations, dense: int
) -> None:
    batch = random_batch(*lengths)
    graph = window(batch, past, 1, relations=relations, speakers=2)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(proximity, "DENSE_UTTERANCES", dense)
        view = add_proximity_edges(
            graph,
            batch.speakers_N,
            ratio=ratio,
            threshold=0.5,
            relations=relations,
            speakers=2,
            generator=draw(),
        )
    expected = relation_ids(view.source_E, view.target_E, batch.speakers_N, relations=relations, speakers=2)
    assert torch.equal(view.relation_E, expected)


def dense_scores(graph: Graph) -> dict[tuple[int, int], float]:
    """Katz index of every pair without an edge, in closed form."""
    found = {}
    for place, span in enumerate(spans(graph.layout)):
        joined = graph.relation_CLL[place, : span.stop - span.start, : span.stop - span.start] >= 0
        undirected = (joined | joined.T).double().fill_diagonal_(0.0)
        index = katz_index(undirected[None])[0]
        for target, source in (~joined & (index > SMALLEST)).nonzero().tolist():
            found[source + span.start, target + span.start] = float(index[target, source])
    return found


def long_graph(batch: Batch, past: int, future: int, edge_ratio: float) -> Graph:
    windows = Windows.of(batch.layout, past, future)
    return perturb_edges(
        window(batch, past, future),
        batch.speakers_N,
        windows,
        ratio=edge_ratio,
        relations="same-other",
        speakers=2,
        generator=draw(7),
    )


LONG = [(4, 4, 0.0), (5, 2, 0.0), (3, 0, 0.0), (4, 4, 0.2)]


@pytest.mark.parametrize(("past", "future", "edge_ratio"), LONG)
def test_the_truncated_series_adds_the_pairs_that_the_closed_form_adds(
    past: int, future: int, edge_ratio: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = random_batch(60, 7, 45)
    graph = long_graph(batch, past, future, edge_ratio)
    scores = dense_scores(graph)
    dense = added(graph, widened(batch, graph, 0.3, threshold=1.0))
    monkeypatch.setattr(proximity, "DENSE_UTTERANCES", 10)
    sparse = added(graph, widened(batch, graph, 0.3, threshold=1.0))
    assert len(sparse) == len(dense)
    for span in spans(batch.layout):
        mine, other = ({edge for edge in new if span.start <= edge[1] < span.stop} for new in (dense, sparse))
        assert len(mine) == len(other)
        cut = min(scores[edge] for edge in mine)
        assert all(abs(scores[edge] - cut) < MISSING_POWERS for edge in mine ^ other)


@pytest.mark.parametrize(("past", "future", "edge_ratio"), LONG)
def test_the_truncated_series_finds_the_pairs_above_the_threshold(
    past: int, future: int, edge_ratio: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = random_batch(60, 45)
    graph = long_graph(batch, past, future, edge_ratio)
    scores = dense_scores(graph)
    monkeypatch.setattr(proximity, "DENSE_UTTERANCES", 10)
    few, many = (added(graph, widened(batch, graph, ratio, threshold=0.2)) for ratio in (0.02, 3.0))
    assert few <= {edge for edge in scores if scores[edge] > 0.2 - MISSING_POWERS}
    assert {edge for edge in scores if scores[edge] > 0.2 + MISSING_POWERS} <= many


@pytest.mark.parametrize("dense", [True, False])
def test_added_edges_stay_in_their_conversation_even_if_rewired_ones_do_not(
    dense: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proximity, "DENSE_UTTERANCES", 384 if dense else 4)
    batch = random_batch(5, 14, 3)
    graph = rewire_edges(window(batch, 2, 2), ratio=0.5, generator=draw())
    conversation = batch.layout.conversation_N
    crossing = conversation[graph.source_E] != conversation[graph.target_E]
    assert crossing.any()
    new = added(graph, widened(batch, graph, 0.2))
    assert new
    for span in spans(batch.layout):
        inside = {(s, t) for s, t in edges_of(graph) if span.start <= s < span.stop and span.start <= t < span.stop}
        scored = {edge for edge in new if span.start <= edge[1] < span.stop}
        assert all(span.start <= source < span.stop for source, _ in scored)
        assert not scored & inside
