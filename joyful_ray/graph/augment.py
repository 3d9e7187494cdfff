"""Augmentations: masked features, perturbed edges and rewired edges. All random draws come from a generator.

Shapes: as in edges.py, with D = width of a node, G = groups, A = added edges.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Generator, Tensor

from joyful_ray.graph.edges import Graph, Relations, Windows, relation_ids


def mask_features(nodes_ND: Tensor, *, ratio: float, by_element: bool, generator: Generator) -> Tensor:
    """Set a share of the features to zero, without rescaling.

    Args:
        nodes_ND: the nodes.
        ratio: share of the features.
        by_element: mask each value independently (the released code); otherwise mask exactly round(ratio * D)
            dimensions, the same for all nodes (the paper).
        generator: source of the draws.
    """
    if ratio == 0.0:
        return nodes_ND
    if by_element:
        keep = torch.rand(nodes_ND.shape, generator=generator, device=nodes_ND.device) >= ratio
    else:
        keep = torch.ones(nodes_ND.shape[1], dtype=torch.bool, device=nodes_ND.device)
        order_D = torch.randperm(len(keep), generator=generator, device=nodes_ND.device)
        keep[order_D[: round(ratio * len(keep))]] = False
    return nodes_ND * keep


def perturb_edges(
    graph: Graph,
    speakers_N: Tensor,
    windows: Windows,
    *,
    ratio: float,
    relations: Relations,
    speakers: int,
    generator: Generator,
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
    kept_E = random_rank(conversation_E, edges_C, generator) >= dropped_C[conversation_E]

    absent_N = windows.first_N
    if not causal:
        absent_N = absent_N + layout.lengths_C[layout.conversation_N] - 1 - windows.last_N
    absent_C = torch.zeros_like(edges_C).index_add(0, layout.conversation_N, absent_N)
    added_C = torch.minimum(dropped_C, absent_C)
    place_A = _one_of_each_stratum(added_C, absent_C, generator)
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


def rewire_edges(graph: Graph, *, ratio: float, generator: Generator, causal: bool = False) -> Graph:
    """Give round(ratio * edges) edges a random target in the whole micro-batch, and keep their relations.

    Such edges may connect two conversations. The released code does this (METHOD.md, R5). With `causal`, the
    new target is the old one or a later utterance of its conversation; an earlier one would learn the later speaker
    from the relation.
    """
    if ratio == 0.0:
        return graph
    device = graph.target_E.device
    count = round(ratio * graph.edges)
    chosen = torch.randperm(graph.edges, generator=generator, device=device)[:count]
    target_E = graph.target_E.clone()
    if causal:
        target, layout = graph.target_E[chosen], graph.layout
        later = layout.lengths_C[layout.conversation_N[target]] - layout.position_N[target]
        draws = torch.rand(count, generator=generator, device=device, dtype=torch.float64)
        target_E[chosen] = target + (draws * later).long()
    else:
        target_E[chosen] = torch.randint(graph.nodes, (count,), generator=generator, device=device)
    return replace(graph, target_E=target_E)


def random_rank(group_E: Tensor, size_G: Tensor, generator: Generator) -> Tensor:
    """The rank of each element in a random order of its group; elements must be sorted by group."""
    keys_E = torch.rand(len(group_E), generator=generator, device=group_E.device, dtype=torch.float64)
    order_E = torch.argsort(group_E + keys_E)
    starts_G = size_G.cumsum(0) - size_G
    rank_E = torch.empty_like(group_E)
    rank_E[order_E] = torch.arange(len(group_E), device=group_E.device) - starts_G[group_E[order_E]]
    return rank_E


def _one_of_each_stratum(count_G: Tensor, size_G: Tensor, generator: Generator) -> Tensor:
    """Draw `count` distinct positions of each group of `size`, one from each of `count` equally large strata.

    Positions are counted over all groups together.
    """
    group_A = torch.repeat_interleave(torch.arange(len(count_G), device=count_G.device), count_G)
    stratum_A = torch.arange(len(group_A), device=count_G.device) - (count_G.cumsum(0) - count_G)[group_A]
    low_A = stratum_A * size_G[group_A] // count_G[group_A]
    high_A = (stratum_A + 1) * size_G[group_A] // count_G[group_A]
    draw_A = torch.rand(len(group_A), generator=generator, device=count_G.device, dtype=torch.float64)
    within_A = low_A + (draw_A * (high_A - low_A)).long()
    return (size_G.cumsum(0) - size_G)[group_A] + within_A
