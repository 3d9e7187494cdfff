from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from joyful_ray.graph.augment import rewire_edges
from joyful_ray.graph.edges import Graph, windowed_graph
from joyful_ray.graph.operators import (
    Operators,
    mean_by_relation,
    neighbour_convolution,
    relational_convolution,
    softmax_by_target,
    transformer_convolution,
)
from tests.batches import layout_of, random_batch

WIDTH, OUT, HEADS = 6, 5, 3
Make = Callable[[Operators], nn.Module]


def windowed(*lengths: int, relations: int = 4) -> Graph:
    batch = random_batch(*lengths, speakers=3)
    kind = "same-other" if relations == 4 else "speaker-pairs"
    slots = round((relations / 2) ** 0.5)
    return windowed_graph(batch.speakers_N, batch.layout, past=3, future=2, relations=kind, speakers=slots)


def with_isolated_nodes() -> Graph:
    """Only nodes 1 and 3 have incoming edges, and two edges connect the same pair."""
    layout = layout_of(3, 2)
    return Graph(
        torch.tensor([0, 2, 2, 4]), torch.tensor([1, 1, 1, 3]), torch.tensor([0, 3, 3, 1]), relations=4, layout=layout
    )


def without_edges() -> Graph:
    none = torch.zeros(0, dtype=torch.long)
    return Graph(none, none, none, relations=4, layout=layout_of(2))


def rewired() -> Graph:
    return rewire_edges(windowed(5, 4), ratio=0.5)


GRAPHS = {
    "windowed": lambda: windowed(7, 1, 4),
    "many relations": lambda: windowed(6, 3, relations=32),
    "one utterance": lambda: windowed(1),
    "isolated nodes": with_isolated_nodes,
    "no edges": without_edges,
    "rewired": rewired,
}


def both(make: Make, dtype: torch.dtype) -> tuple[nn.Module, nn.Module]:
    """The fast operator and the library's, with the same weights."""
    torch.manual_seed(0)
    fast, oracle = make("fast").to(dtype), make("pyg").to(dtype)
    for parameter in fast.parameters():
        nn.init.normal_(parameter)
    oracle.load_state_dict(fast.state_dict())
    return fast, oracle


def assert_same_values_and_gradients(make: Make, graph: Graph, dtype: torch.dtype = torch.double) -> None:
    fast, oracle = both(make, dtype)
    x_ND = torch.randn(graph.nodes, WIDTH, dtype=dtype)
    weights: Tensor | None = None
    found = []
    for module in (fast, oracle):
        entered = x_ND.clone().requires_grad_()
        out = module(entered, graph)
        weights = torch.randn_like(out) if weights is None else weights
        (out * weights).sum().backward()
        gradients = {name: parameter.grad for name, parameter in module.named_parameters()}
        found.append((out.detach(), entered.grad, gradients))
    for mine, theirs in zip(found[0], found[1], strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("graph", GRAPHS)
def test_relational_convolution_equals_rgcn(graph: str) -> None:
    chosen = GRAPHS[graph]()
    assert_same_values_and_gradients(
        lambda operators: relational_convolution(WIDTH, OUT, chosen.relations, operators=operators),
        chosen,
        torch.float32,  # like the graph's mean weights
    )


@pytest.mark.parametrize("with_relations", [True, False])
@pytest.mark.parametrize("graph", GRAPHS)
def test_transformer_convolution_equals_pygs(graph: str, with_relations: bool) -> None:
    chosen = GRAPHS[graph]()
    relations = chosen.relations if with_relations else 0
    assert_same_values_and_gradients(
        lambda operators: transformer_convolution(WIDTH, OUT, HEADS, relations=relations, operators=operators), chosen
    )


@pytest.mark.parametrize("graph", GRAPHS)
def test_neighbour_convolution_equals_sage(graph: str) -> None:
    chosen = GRAPHS[graph]()
    assert_same_values_and_gradients(lambda operators: neighbour_convolution(WIDTH, OUT, operators=operators), chosen)


@pytest.mark.parametrize(
    "make",
    [
        lambda operators: relational_convolution(WIDTH, OUT, 4, operators=operators),
        lambda operators: transformer_convolution(WIDTH, OUT, HEADS, operators=operators),
        lambda operators: transformer_convolution(WIDTH, OUT, HEADS, relations=4, operators=operators),
        lambda operators: neighbour_convolution(WIDTH, OUT, operators=operators),
    ],
    ids=["relational", "transformer", "transformer with relations", "neighbour"],
)
def test_both_kinds_have_the_same_state_dict(make: Make) -> None:
    fast, oracle = make("fast").state_dict(), make("pyg").state_dict()
    assert {name: value.shape for name, value in fast.items()} == {name: value.shape for name, value in oracle.items()}


def test_mean_by_relation_equals_a_loop_over_nodes_and_relations() -> None:
    graph = windowed(5, 2)
    x_ND = torch.randn(graph.nodes, WIDTH)
    expected = torch.zeros(graph.nodes, graph.relations, WIDTH)
    for node in range(graph.nodes):
        for relation in range(graph.relations):
            chosen = (graph.target_E == node) & (graph.relation_E == relation)
            if chosen.any():
                expected[node, relation] = x_ND[graph.source_E[chosen]].mean(dim=0)
    torch.testing.assert_close(mean_by_relation(x_ND, graph), expected)


def test_softmax_by_target_is_a_softmax_over_the_edges_into_each_node() -> None:
    graph = rewired()
    logits_EH = 30 * torch.randn(graph.edges, HEADS)
    expected = torch.empty_like(logits_EH)
    for node in range(graph.nodes):
        into = graph.target_E == node
        expected[into] = torch.softmax(logits_EH[into], dim=0)
    torch.testing.assert_close(softmax_by_target(logits_EH, graph), expected)


def test_softmax_by_target_does_not_overflow() -> None:
    graph = windowed(3)
    found = softmax_by_target(torch.full((graph.edges, 1), 1e4), graph)
    assert torch.isfinite(found).all()
