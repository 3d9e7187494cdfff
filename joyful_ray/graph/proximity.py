"""Global proximity: adds edges between utterances that are connected by many short paths (high Katz index).

Shapes: C = conversations, L = longest conversation, A = added edges.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Generator, Tensor

from joyful_ray.graph.edges import Graph, Relations, relation_ids

DENSE_UTTERANCES = 384
SERIES_TERMS = 4
ATTENUATION = 0.5
POWER_ITERATIONS = 100


def add_proximity_edges(
    graph: Graph,
    speakers_N: Tensor,
    *,
    ratio: float,
    threshold: float,
    relations: Relations,
    speakers: int,
    generator: Generator,
) -> Graph:
    """In every conversation, add round(ratio * edges) edges between pairs with a high Katz index and no edge yet.

    Pairs above the threshold are drawn at random; if there are too few, the next best follow. Existing edges do not
    change. Edges that rewiring led out of their conversation do not count as paths.

    Source: JOYFUL, section 3.2 (global proximity); method.md section 5, choice 13.
    """
    if ratio == 0.0:
        return graph
    layout = graph.layout
    edges_C = torch.bincount(layout.conversation_N[graph.target_E], minlength=len(layout.lengths_C))
    added_C = torch.round(edges_C * ratio).long()
    is_long_C = layout.lengths_C > DENSE_UTTERANCES
    paths = _within_conversations(graph)
    pieces = [_dense_choice(paths, added_C.masked_fill(is_long_C, 0), threshold, generator)]
    for conversation in is_long_C.nonzero().flatten().tolist():
        pieces.append(_sparse_choice(paths, conversation, int(added_C[conversation]), threshold, generator))
    source_A, target_A = (torch.cat(ends) for ends in zip(*pieces, strict=True))
    relation_A = relation_ids(source_A, target_A, speakers_N, relations=relations, speakers=speakers)
    return replace(
        graph,
        source_E=torch.cat([graph.source_E, source_A]),
        target_E=torch.cat([graph.target_E, target_A]),
        relation_E=torch.cat([graph.relation_E, relation_A]),
    )


def katz_index(adjacency_CLL: Tensor) -> Tensor:
    """The Katz index of every pair, as a share of the largest in its conversation, at half the critical attenuation.

    This is the sum over k >= 1 of (0.5 / lambda_max)^k A^k in closed form; the diagonal is 0.

    Args:
        adjacency_CLL: symmetric, 0 or 1, no self-loops.

    Source: Katz, Psychometrika 1953.
    """
    identity = torch.eye(adjacency_CLL.shape[-1], dtype=adjacency_CLL.dtype, device=adjacency_CLL.device)
    largest_C = torch.linalg.eigvalsh(adjacency_CLL)[:, -1].clamp(min=1e-6)
    damped = (ATTENUATION / largest_C)[:, None, None] * adjacency_CLL
    index_CLL = (torch.linalg.inv(identity - damped) - identity) * (1.0 - identity)
    return index_CLL / index_CLL.flatten(1).amax(dim=1).clamp(min=1e-12)[:, None, None]


def _within_conversations(graph: Graph) -> Graph:
    conversation_N = graph.layout.conversation_N
    stays_E = conversation_N[graph.source_E] == conversation_N[graph.target_E]
    if bool(stays_E.all()):
        return graph
    source_E, target_E, relation_E = (ends[stays_E] for ends in (graph.source_E, graph.target_E, graph.relation_E))
    return replace(graph, source_E=source_E, target_E=target_E, relation_E=relation_E)


def _dense_choice(graph: Graph, added_C: Tensor, threshold: float, generator: Generator) -> tuple[Tensor, Tensor]:
    layout = graph.layout
    chosen_C = (added_C > 0).nonzero().flatten()
    if len(chosen_C) == 0:
        return added_C.new_zeros(0), added_C.new_zeros(0)
    longest = int(layout.lengths_C[chosen_C].max())
    joined_CLL = (graph.relation_CLL[chosen_C] >= 0)[:, :longest, :longest]
    one_way = joined_CLL.to(torch.float64)
    undirected = torch.maximum(one_way, one_way.transpose(1, 2))
    undirected.diagonal(dim1=1, dim2=2).zero_()
    index_CLL = katz_index(undirected)
    is_candidate = ~joined_CLL & (index_CLL > 1e-9)
    is_candidate.diagonal(dim1=1, dim2=2).zero_()
    keys = _keys(index_CLL, threshold, generator).masked_fill(~is_candidate, -1.0).flatten(1)
    order = keys.argsort(dim=1, descending=True, stable=True)
    rank = torch.arange(keys.shape[1], device=keys.device)
    take = (rank[None, :] < added_C[chosen_C, None]) & (keys.gather(1, order) >= 0)
    row, column = take.nonzero(as_tuple=True)
    cell = order[row, column]
    start_C = (layout.lengths_C.cumsum(0) - layout.lengths_C)[chosen_C]
    return start_C[row] + cell % longest, start_C[row] + cell // longest


def _sparse_choice(
    graph: Graph, conversation: int, added: int, threshold: float, generator: Generator
) -> tuple[Tensor, Tensor]:
    layout = graph.layout
    inside_E = layout.conversation_N[graph.target_E] == conversation
    length = int(layout.lengths_C[conversation])
    target = layout.position_N[graph.target_E[inside_E]]
    source = layout.position_N[graph.source_E[inside_E]]
    is_pair = source != target
    if added == 0 or not bool(is_pair.any()):
        return target[:0], source[:0]
    first, second = target[is_pair], source[is_pair]
    pairs = torch.stack([torch.cat([first, second]), torch.cat([second, first])])
    pairs = torch.unique(pairs, dim=1)
    ones = torch.ones(pairs.shape[1], dtype=torch.float64, device=pairs.device)
    adjacency = torch.sparse_coo_tensor(pairs, ones, (length, length)).coalesce()
    index = _truncated_katz(adjacency)
    (row, column), score = index.indices(), index.values()
    diagonal = torch.arange(length, device=pairs.device) * (length + 1)
    known = torch.isin(row * length + column, torch.cat([target * length + source, diagonal]))
    best = score[row != column].max().clamp(min=1e-12)
    row, column, score = row[~known], column[~known], score[~known] / best
    keys = _keys(score, threshold, generator)
    order = keys.argsort(descending=True, stable=True)[:added]
    start = int(layout.lengths_C[:conversation].sum())
    return start + column[order], start + row[order]


def _truncated_katz(adjacency: Tensor) -> Tensor:
    vector = torch.ones(adjacency.shape[0], 1, dtype=adjacency.dtype, device=adjacency.device)
    for _ in range(POWER_ITERATIONS):
        vector = torch.sparse.mm(adjacency, vector)
        vector = vector / vector.norm().clamp(min=1e-12)
    largest = float((vector * torch.sparse.mm(adjacency, vector)).sum())
    damped = adjacency * (ATTENUATION / max(largest, 1e-6))
    power = total = damped
    for _ in range(SERIES_TERMS - 1):
        power = torch.sparse.mm(power, damped)
        total = (total + power).coalesce()
    return total


def _keys(score: Tensor, threshold: float, generator: Generator) -> Tensor:
    """Sort keys; pairs above the threshold come first, in random order."""
    draws = torch.rand(score.shape, generator=generator, device=score.device, dtype=score.dtype)
    return torch.where(score > threshold, 2.0 + draws, score)
