"""Augmentations: masked features, perturbed edges and rewired edges. All random draws belong to conversations.

Shapes: as in edges.py, with D = width of a node, G = groups, A = added edges.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from joyful_ray.data.batch import Layout
from joyful_ray.data.draws import at, grouped, kept, numbered, uniform
from joyful_ray.graph.edges import Graph, Relations, Windows, relation_ids


def mask_features(nodes_ND: Tensor, layout: Layout, *, ratio: float, by_element: bool) -> Tensor:
    """Set a share of the features to zero, without rescaling.

    Args:
        nodes_ND: the nodes.
        layout: their conversations.
        ratio: share of the features.
        by_element: mask each value independently (the released code); otherwise mask exactly round(ratio * D)
            dimensions, the same for all nodes of a conversation (the paper).
    """
    if ratio == 0.0:
        return nodes_ND
    if by_element:
        return nodes_ND * kept(at(layout.key_N, "masked values"), nodes_ND.shape[1], ratio)
    dimensions = torch.arange(nodes_ND.shape[1], device=nodes_ND.device)
    draw_CD = uniform(numbered(at(layout.own_key_C, "masked dimensions")[:, None], dimensions))
    keep_CD = torch.ones_like(draw_CD, dtype=torch.bool)
    keep_CD.scatter_(1, draw_CD.argsort(dim=1)[:, : round(ratio * nodes_ND.shape[1])], False)
    return nodes_ND * keep_CD[layout.conversation_N]


def perturb_edges(
    graph: Graph,
    speakers_N: Tensor,
    windows: Windows,
    *,
    ratio: float,
    relations: Relations,
    speakers: int,
    causal: bool = False,
) -> Graph:
    """In every conversation, drop round(ratio * edges) edges and add as many absent ones, or all if there are fewer.

    One added edge is drawn from each of equally large strata of the absent pairs, so no pair is drawn twice. Self-loops
    may be dropped. With `causal`, every added edge leads to a later utterance.

    Source: JOYFUL, section 3.4.2 (edge perturbation); METHOD.md, choice 12.
    """
    if ratio == 0.0:
        return graph
    layout = graph.layout
    conversation_E = layout.conversation_N[graph.target_E]
    edges_C = torch.bincount(conversation_E, minlength=len(layout.lengths_C))
    dropped_C = torch.round(edges_C * ratio).long()
    kept_E = random_rank(conversation_E, edges_C, _key_of_edges(graph, "dropped edges")) >= dropped_C[conversation_E]

    absent_N = windows.first_N
    if not causal:
        absent_N = absent_N + layout.lengths_C[layout.conversation_N] - 1 - windows.last_N
    absent_C = torch.zeros_like(edges_C).index_add(0, layout.conversation_N, absent_N)
    added_C = torch.minimum(dropped_C, absent_C)
    place_A = _one_of_each_stratum(added_C, absent_C, at(layout.own_key_C, "added edges"))
    ends_N = absent_N.cumsum(0)
    target_A = torch.searchsorted(ends_N, place_A, right=True)
    rest_A = place_A - (ends_N - absent_N)[target_A]
    first_A, last_A = windows.first_N[target_A], windows.last_N[target_A]
    position_A = torch.where(rest_A < first_A, rest_A, rest_A + last_A - first_A + 1)
    source_A = target_A - layout.position_N[target_A] + position_A

    relation_A = relation_ids(source_A, target_A, speakers_N, relations=relations, speakers=speakers)
    return replace(
        graph,
        source_E=torch.cat([graph.source_E[kept_E], source_A]),
        target_E=torch.cat([graph.target_E[kept_E], target_A]),
        relation_E=torch.cat([graph.relation_E[kept_E], relation_A]),
    )


def rewire_edges(graph: Graph, *, ratio: float, causal: bool = False) -> Graph:
    """Give round(ratio * edges) edges a random target in the whole micro-batch, and keep their relations.

    Such edges may connect two conversations. The released code does this (METHOD.md, R5). With `causal`, the
    new target is the old one or a later utterance of its conversation; an earlier one would learn the later speaker
    from the relation.
    """
    if ratio == 0.0:
        return graph
    key_E = _key_of_edges(graph, "rewired edges")
    chosen = torch.argsort(uniform(key_E))[: round(ratio * graph.edges)]
    draws = uniform(at(key_E[chosen], "target"))
    target_E = graph.target_E.clone()
    if causal:
        target, layout = graph.target_E[chosen], graph.layout
        later = layout.lengths_C[layout.conversation_N[target]] - layout.position_N[target]
        target_E[chosen] = target + (draws * later).long()
    else:
        target_E[chosen] = (draws * graph.nodes).long()
    return replace(graph, target_E=target_E)


def key_of_pairs(layout: Layout, source_E: Tensor, target_E: Tensor, place: str) -> Tensor:
    """The key of the draws of each pair of utterances of a conversation, (E,)."""
    return numbered(at(layout.key_N, place)[target_E], layout.position_N[source_E])


def _key_of_edges(graph: Graph, place: str) -> Tensor:
    return key_of_pairs(graph.layout, graph.source_E, graph.target_E, place)


def random_rank(group_E: Tensor, size_G: Tensor, key_E: Tensor) -> Tensor:
    """The rank of each element in a random order of its group; elements must be sorted by group."""
    order_E = torch.argsort(grouped(key_E, group_E))
    starts_G = size_G.cumsum(0) - size_G
    rank_E = torch.empty_like(group_E)
    rank_E[order_E] = torch.arange(len(group_E), device=group_E.device) - starts_G[group_E[order_E]]
    return rank_E


def _one_of_each_stratum(count_G: Tensor, size_G: Tensor, key_G: Tensor) -> Tensor:
    """Draw `count` distinct positions of each group of `size`, one from each of `count` equally large strata.

    Positions are counted over all groups together.
    """
    group_A = torch.repeat_interleave(torch.arange(len(count_G), device=count_G.device), count_G)
    stratum_A = torch.arange(len(group_A), device=count_G.device) - (count_G.cumsum(0) - count_G)[group_A]
    low_A = stratum_A * size_G[group_A] // count_G[group_A]
    high_A = (stratum_A + 1) * size_G[group_A] // count_G[group_A]
    draw_A = uniform(numbered(key_G[group_A], stratum_A))
    within_A = low_A + (draw_A * (high_A - low_A)).long()
    return (size_G.cumsum(0) - size_G)[group_A] + within_A
