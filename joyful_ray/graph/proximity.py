"""Global proximity: adds edges between utterances that many short paths connect (high Katz index).

Shapes: E = edges, C = conversations, A = added edges, P = parts (whole conversations, or pieces of long ones), L =
    longest part, K = candidate pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from joyful_ray.graph.augment import key_of_pairs, random_rank
from joyful_ray.graph.edges import Graph, Relations, relation_ids

PART_UTTERANCES = 512
"""Longest part of a conversation whose Katz index is computed at once; the time grows with its cube."""
NO_PATH = 1e-9


def add_proximity_edges(
    graph: Graph,
    speakers_N: Tensor,
    *,
    ratio: float,
    threshold: float,
    attenuation: float,
    relations: Relations,
    speakers: int,
    causal: bool = False,
) -> Graph:
    """In every conversation, add edges between pairs that have none and whose Katz index is above the threshold.

    round(ratio * edges) edges are drawn uniformly from all such pairs, each in both directions a pair of its own, or
    all of them if there are fewer. Existing edges do not change. Edges that rewiring led out of their conversation do
    not count as paths.

    Args:
        graph: the graph.
        speakers_N: speaker ids.
        ratio: number of added edges as a share of the existing ones.
        threshold: as a share of the greatest Katz index among the pairs of the conversation without an edge.
        attenuation: of the Katz index, as a share of the largest at which it converges.
        relations, speakers: as for `windowed_graph`.
        causal: add only edges to a later utterance.

    Source: JOYFUL, section 3.4.2 and appendix A (global proximity); METHOD.md, choice 13.
    """
    if ratio == 0.0:
        return graph
    layout = graph.layout
    edges_C = torch.bincount(layout.conversation_N[graph.target_E], minlength=len(layout.lengths_C))
    added_C = torch.round(edges_C * ratio).long()
    source_K, target_K, score_K = _pairs_without_edge(_within_conversations(graph), attenuation)
    conversation_K = layout.conversation_N[target_K]
    best_C = score_K.new_zeros(len(edges_C)).scatter_reduce(0, conversation_K, score_K, "amax")
    is_candidate = score_K > threshold * best_C[conversation_K]
    if causal:
        is_candidate &= source_K < target_K
    source_K, target_K, conversation_K = (each[is_candidate] for each in (source_K, target_K, conversation_K))
    size_C = torch.bincount(conversation_K, minlength=len(edges_C))
    key_K = key_of_pairs(layout, source_K, target_K, "proximity")
    is_drawn = random_rank(conversation_K, size_C, key_K) < added_C[conversation_K]
    source_A, target_A = source_K[is_drawn], target_K[is_drawn]
    relation_A = relation_ids(source_A, target_A, speakers_N, relations=relations, speakers=speakers)
    return replace(
        graph,
        source_E=torch.cat([graph.source_E, source_A]),
        target_E=torch.cat([graph.target_E, target_A]),
        relation_E=torch.cat([graph.relation_E, relation_A]),
    )


def katz_index(adjacency_PLL: Tensor, attenuation: float) -> Tensor:
    """The Katz index of every pair: the sum over k >= 1 of (attenuation / lambda_max)^k A^k, in closed form.

    Args:
        adjacency_PLL: symmetric, 0 or 1, no self-loops.
        attenuation: > 0 and < 1, as a share of the largest at which the sum converges.

    Source: Katz, Psychometrika 1953.
    """
    identity = torch.eye(adjacency_PLL.shape[-1], dtype=adjacency_PLL.dtype, device=adjacency_PLL.device)
    largest_P = torch.linalg.eigvalsh(adjacency_PLL)[:, -1].clamp(min=1e-6)
    damped = (attenuation / largest_P)[:, None, None] * adjacency_PLL
    return torch.linalg.inv(identity - damped) - identity


@dataclass(frozen=True)
class _Parts:
    """Parts of conversations of similar length.

    Attributes:
        part_E: the part of each edge, -1 for edges of no part.
        start_P: node at which each part starts.
        low_P, high_P: a part decides the pairs whose middle lies from the one to before the other, counted from its
            start; between the parts of a conversation, each middle lies in one.
        longest: L.
    """

    part_E: Tensor
    start_P: Tensor
    low_P: Tensor
    high_P: Tensor
    longest: int


def _within_conversations(graph: Graph) -> Graph:
    conversation_N = graph.layout.conversation_N
    stays_E = conversation_N[graph.source_E] == conversation_N[graph.target_E]
    if bool(stays_E.all()):
        return graph
    source_E, target_E, relation_E = (ends[stays_E] for ends in (graph.source_E, graph.target_E, graph.relation_E))
    return replace(graph, source_E=source_E, target_E=target_E, relation_E=relation_E)


def _pairs_without_edge(graph: Graph, attenuation: float) -> tuple[Tensor, Tensor, Tensor]:
    """Source, target and Katz index of every pair that paths connect but no edge in either direction, by target."""
    sources, targets, scores = [], [], []
    for parts in (*_short_conversations(graph), *_long_conversations(graph)):
        size = parts.longest
        adjacency = torch.zeros(len(parts.start_P), size, size, dtype=torch.float64, device=graph.source_E.device)
        inside_E = (parts.part_E >= 0).nonzero().squeeze(1)
        part_E = parts.part_E[inside_E]
        target_E = graph.target_E[inside_E] - parts.start_P[part_E]
        source_E = graph.source_E[inside_E] - parts.start_P[part_E]
        adjacency[part_E, target_E, source_E] = 1.0
        adjacency[part_E, source_E, target_E] = 1.0
        adjacency.diagonal(dim1=1, dim2=2).zero_()
        index = katz_index(adjacency, attenuation)
        places = torch.arange(size, device=adjacency.device)
        middle_LL = (places[:, None] + places[None, :]) // 2
        is_pair = (adjacency == 0) & (index > NO_PATH) & (places[:, None] != places[None, :])
        is_pair &= (middle_LL >= parts.low_P[:, None, None]) & (middle_LL < parts.high_P[:, None, None])
        part, target, source = is_pair.nonzero(as_tuple=True)
        targets.append(parts.start_P[part] + target)
        sources.append(parts.start_P[part] + source)
        scores.append(index[is_pair])
    source_K, target_K, score_K = torch.cat(sources), torch.cat(targets), torch.cat(scores)
    order = torch.argsort(target_K, stable=True)
    return source_K[order], target_K[order], score_K[order]


def _short_conversations(graph: Graph) -> Iterator[_Parts]:
    """Conversations that are one part each, by the power of two above their length."""
    layout = graph.layout
    start_C = layout.lengths_C.cumsum(0) - layout.lengths_C
    bucket_C = torch.log2(layout.lengths_C.double()).ceil().long()
    bucket_C = bucket_C.masked_fill(layout.lengths_C > PART_UTTERANCES, -1)
    for bucket in torch.unique(bucket_C[bucket_C >= 0]).tolist():
        chosen_P = (bucket_C == bucket).nonzero().squeeze(1)
        part_C = torch.full_like(start_C, -1).index_copy(
            0, chosen_P, torch.arange(len(chosen_P), device=start_C.device)
        )
        length_P = layout.lengths_C[chosen_P]
        part_E = part_C[layout.conversation_N[graph.target_E]]
        yield _Parts(part_E, start_C[chosen_P], torch.zeros_like(length_P), length_P, int(length_P.max()))


def _long_conversations(graph: Graph) -> Iterator[_Parts]:
    """Equally long, overlapping parts of conversations that are too long for one; they meet in the middle."""
    layout, size = graph.layout, PART_UTTERANCES
    start_C = layout.lengths_C.cumsum(0) - layout.lengths_C
    for conversation in (layout.lengths_C > size).nonzero().flatten().tolist():
        begin, length = int(start_C[conversation]), int(layout.lengths_C[conversation])
        firsts = [*range(0, length - size, size // 2), length - size]
        middles = [0, *((one + other + size) // 2 for one, other in pairwise(firsts)), length]
        for first, (low, high) in zip(firsts, pairwise(middles), strict=True):
            inside_E = (torch.minimum(graph.source_E, graph.target_E) >= begin + first) & (
                torch.maximum(graph.source_E, graph.target_E) < begin + first + size
            )
            yield _Parts(
                part_E=torch.where(inside_E, 0, -1),
                start_P=start_C.new_tensor([begin + first]),
                low_P=start_C.new_tensor([low - first]),
                high_P=start_C.new_tensor([high - first]),
                longest=size,
            )
