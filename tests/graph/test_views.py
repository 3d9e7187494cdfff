from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from joyful_ray.data.batch import Batch
from joyful_ray.graph.augment import perturb_edges, rewire_edges
from joyful_ray.graph.edges import Graph, Windows
from joyful_ray.graph.proximity import add_proximity_edges
from joyful_ray.graph.views import VIEWS as PLACES
from joyful_ray.graph.views import GraphBuilder, masked
from joyful_ray.graph_settings import AugmentConfig, GraphConfig, ViewConfig
from joyful_ray.model.joyful import Joyful
from joyful_ray.model_settings import ModelConfig
from tests.batches import WIDTHS, layout_of, random_batch
from tests.tiny_corpus import SMALL

VIEWS: dict[str, ViewConfig] = {
    "nothing": ViewConfig(),
    "masked dimensions": ViewConfig(feature_ratio=0.3),
    "masked elements": ViewConfig(feature_ratio=0.3, feature_mask="element"),
    "perturbed edges": ViewConfig(edge_ratio=0.3),
    "rewired edges": ViewConfig(edge_ratio=0.3, edge_mode="rewire"),
    "proximity": ViewConfig(proximity_ratio=0.3),
    "everything": ViewConfig(feature_ratio=0.2, edge_ratio=0.2, proximity_ratio=0.2),
    "everything, rewired": ViewConfig(feature_ratio=0.2, edge_ratio=0.2, edge_mode="rewire", proximity_ratio=0.2),
}
PAIRS = list(itertools.combinations_with_replacement(VIEWS, 2))
GRAPHS: dict[str, GraphConfig] = {
    "unequal windows": GraphConfig(window_past=3, window_future=1),
    "causal": GraphConfig(window_past=4, window_future=0),
    "unbounded": GraphConfig(window_past=None, window_future=None, relations="speaker-pairs"),
    "self-loops": GraphConfig(window_past=0, window_future=0),
}


def builder(first: str, second: str, graph: GraphConfig = GRAPHS["unequal windows"], **settings: Any) -> GraphBuilder:
    return GraphBuilder(graph, AugmentConfig(first_view=VIEWS[first], second_view=VIEWS[second], **settings), 2)


def edges_of(graph: Graph) -> list[tuple[int, int, int]]:
    return list(zip(graph.source_E.tolist(), graph.target_E.tolist(), graph.relation_E.tolist(), strict=True))


def by_hand(builder: GraphBuilder, batch: Batch, whole: Graph, view: ViewConfig) -> Graph:
    """Edges first, then proximity, one call after the other."""
    kinds: dict[str, Any] = {"relations": builder.graph.relations, "speakers": builder.speakers}
    if view.edge_mode == "rewire":
        changed = rewire_edges(whole, ratio=view.edge_ratio)
    else:
        windows = Windows.of(batch.layout, builder.graph.window_past, builder.graph.window_future)
        changed = perturb_edges(whole, batch.speakers_N, windows, ratio=view.edge_ratio, **kinds)
    return add_proximity_edges(
        changed,
        batch.speakers_N,
        ratio=view.proximity_ratio,
        threshold=view.proximity_threshold,
        attenuation=view.proximity_attenuation,
        **kinds,
    )


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_any_two_augmentations_give_two_views_of_an_unchanged_graph(first: str, second: str) -> None:
    batch = random_batch(7, 1, 9)
    made = builder(first, second)
    whole, *views = made.views(batch)
    assert edges_of(whole) == edges_of(made.whole(batch))
    for view, name, place in zip(views, (first, second), PLACES, strict=True):
        assert edges_of(view) == edges_of(by_hand(made, batch, whole.apart(place), VIEWS[name]))
        assert view.nodes == whole.nodes
        assert view.relations == whole.relations


def test_a_view_without_edge_augmentation_is_the_graph_itself() -> None:
    whole, first, second = builder("nothing", "masked elements").views(random_batch(4, 2))
    assert edges_of(first) == edges_of(second) == edges_of(whole)


def test_two_views_of_one_augmentation_are_drawn_independently() -> None:
    _, first, second = builder("perturbed edges", "perturbed edges").views(random_batch(9, 8))
    assert edges_of(first) != edges_of(second)


def test_the_same_keys_give_the_same_views() -> None:
    batch = random_batch(9, 8)
    one, same = (builder("everything", "perturbed edges").views(batch) for _ in range(2))
    assert [edges_of(graph) for graph in one] == [edges_of(graph) for graph in same]


@pytest.mark.parametrize("first", VIEWS)
def test_shared_edge_noise_makes_all_three_graphs_the_same(first: str) -> None:
    batch = random_batch(7, 1, 9)
    made = builder(first, "rewired edges", shared_edge_noise=True)
    whole, *views = made.views(batch)
    assert all(edges_of(view) == edges_of(whole) for view in views)
    assert edges_of(made.whole(batch)) != edges_of(whole)


def test_shared_edge_noise_rewires_twice_as_the_released_code_does_in_place() -> None:
    batch = random_batch(90, 60)
    made = builder("rewired edges", "rewired edges", shared_edge_noise=True)
    clean = made.whole(batch)
    noisy, _, _ = made.views(batch)
    once = rewire_edges(clean.apart(PLACES[0]), ratio=0.3)
    assert edges_of(noisy) == edges_of(rewire_edges(once.apart(PLACES[1]), ratio=0.3))
    # 1 - 0.7^2 of the targets were drawn again (METHOD.md), and few of those drew the same target
    assert float((noisy.target_E != clean.target_E).float().mean()) == pytest.approx(1 - 0.7**2, abs=0.03)
    assert torch.equal(noisy.source_E, clean.source_E)
    assert torch.equal(noisy.relation_E, clean.relation_E)


def test_masking_follows_the_views_own_settings() -> None:
    nodes_ND = torch.ones(50, 10)
    layout = layout_of(50)
    assert masked(nodes_ND, layout, VIEWS["nothing"]) is nodes_ND
    by_dimension = masked(nodes_ND, layout, VIEWS["masked dimensions"])
    assert (by_dimension == by_dimension[0]).all()
    assert by_dimension[0].sum() == 7
    by_element = masked(nodes_ND, layout, VIEWS["masked elements"])
    assert not (by_element == by_element[0]).all()
    assert float(by_element.mean()) == pytest.approx(0.7, abs=0.1)


@pytest.mark.parametrize("lengths", [(1,), (1, 1), (12,)], ids=["one utterance", "two of one", "one conversation"])
@pytest.mark.parametrize("graph", GRAPHS)
def test_every_augmentation_takes_any_window_and_length(graph: str, lengths: tuple[int, ...]) -> None:
    batch = random_batch(*lengths, speakers=1)
    for name in VIEWS:
        for view in builder(name, name, GRAPHS[graph]).views(batch):
            assert view.nodes == sum(lengths)
            assert all(0 <= relation < view.relations for relation in view.relation_E.tolist())


@pytest.mark.parametrize("classify", ["graph", "views"])
@pytest.mark.parametrize("view", VIEWS)
def test_gradients_reach_every_part_with_every_augmentation(view: str, classify: str) -> None:
    torch.manual_seed(0)
    net = Joyful(
        ModelConfig.model_validate(SMALL["model"]),
        GRAPHS["unequal windows"],
        AugmentConfig(first_view=VIEWS[view], second_view=VIEWS[view], classify=classify),
        widths=WIDTHS,
        classes=3,
    )
    batch = random_batch(6, 1, 8, absent_vectors=0.3)
    output = net(batch, with_views=True)
    assert output.views is not None
    parts = [output.scores_NK.square().sum(), *((one[1:] * one[:-1]).sum() for one in output.views)]
    parts += [(rebuilt - target).square().sum() for rebuilt, target in output.fused.reconstructions.values()]
    torch.stack(parts).sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("view", [name for name in VIEWS if name != "nothing"])
def test_every_augmentation_changes_what_the_contrast_compares(view: str) -> None:
    torch.manual_seed(0)
    net = Joyful(
        ModelConfig.model_validate(SMALL["model"]),
        GRAPHS["unequal windows"],
        AugmentConfig(first_view=VIEWS["nothing"], second_view=VIEWS[view]),
        widths=WIDTHS,
        classes=3,
    ).eval()
    output = net(random_batch(7, 9), with_views=True)
    assert output.views is not None
    torch.testing.assert_close(output.views[0], output.layers[-1])
    assert not torch.allclose(output.views[0], output.views[1])


@pytest.mark.parametrize("encoder", ["relational-transformer", "gcn", "relational-attention"])
def test_an_utterance_that_has_lost_its_last_edge_is_still_encoded(encoder: str) -> None:
    lonely = ViewConfig(edge_ratio=0.9)
    net = Joyful(
        ModelConfig.model_validate(SMALL["model"] | {"encoder": {"kind": encoder, "width": 8, "heads": 2}}),
        GraphConfig(),
        AugmentConfig(first_view=lonely, second_view=lonely, classify="views"),
        widths=WIDTHS,
        classes=3,
    )
    batch = random_batch(1)
    assert net.graphs.views(batch)[1].edges == 0
    output = net(batch, with_views=True)
    assert output.views is not None
    output.scores_NK.sum().backward()
    assert all(torch.isfinite(values).all() for values in (output.scores_NK, *output.views))
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)
