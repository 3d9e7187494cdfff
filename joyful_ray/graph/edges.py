"""The windowed graph over conversations, built only with tensor operations.

Shapes: N = utterances of the micro-batch, E = edges, C = conversations, L = longest conversation, R = relations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from joyful_ray.data.batch import Layout

Relations = Literal["same-other", "speaker-pairs"]


@dataclass(frozen=True)
class Graph:
    """Directed edges between utterances; messages go from source to target.

    Attributes:
        source_E, target_E: node indices of each edge.
        relation_E: relation ids in [0, relations).
        relations: number of relations.
        layout: conversation and position of each node; edges of a windowed graph stay within a conversation.
    """

    source_E: Tensor
    target_E: Tensor
    relation_E: Tensor
    relations: int
    layout: Layout

    @property
    def nodes(self) -> int:
        """Number of nodes, N."""
        return self.layout.conversation_N.shape[0]

    @property
    def edges(self) -> int:
        """Number of edges, E."""
        return self.source_E.shape[0]

    def apart(self, name: str) -> Graph:
        """The same graph, with random draws of its own."""
        return replace(self, layout=self.layout.apart(name))

    @cached_property
    def mean_weight_E(self) -> Tensor:
        """1 / (edges into the same target with the same relation), so that a weighted sum is a mean per relation."""
        cell_E = self.target_E * self.relations + self.relation_E
        counts = torch.bincount(cell_E, minlength=self.nodes * self.relations)
        return 1.0 / counts[cell_E].to(torch.float32)


@dataclass(frozen=True)
class Windows:
    """The sources of each target: positions first_N to last_N of its conversation, both included."""

    first_N: Tensor
    last_N: Tensor

    @classmethod
    def of(cls, layout: Layout, past: int | None, future: int | None) -> Windows:
        """At most `past` utterances before and `future` after; None means unbounded."""
        length_N = layout.lengths_C[layout.conversation_N]
        first_N = torch.zeros_like(length_N) if past is None else (layout.position_N - past).clamp(min=0)
        last_N = length_N - 1 if future is None else torch.minimum(layout.position_N + future, length_N - 1)
        return cls(first_N, last_N)


def windowed_graph(
    speakers_N: Tensor,
    layout: Layout,
    *,
    past: int | None,
    future: int | None,
    relations: Relations = "same-other",
    speakers: int = 2,
) -> Graph:
    """Connect every utterance to itself, to `past` utterances before it and to `future` after it, in its conversation.

    Edges are ordered by target, then by source.

    Args:
        speakers_N: speaker ids, numbered within each conversation.
        layout: conversation and position of each utterance.
        past, future: size of the window; None means unbounded.
        relations: what the relation of an edge encodes.
        speakers: number of speaker slots of `speaker-pairs`; later speakers share the last slot.

    Source: JOYFUL, section 3.4.1; DialogueGCN (EMNLP 2019), section 3.3. In the released code, past and future are
        swapped (METHOD.md, R3).
    """
    windows = Windows.of(layout, past, future)
    counts_N = windows.last_N - windows.first_N + 1
    target_E = torch.repeat_interleave(torch.arange(len(counts_N), device=counts_N.device), counts_N)
    within_E = torch.arange(len(target_E), device=counts_N.device) - (counts_N.cumsum(0) - counts_N)[target_E]
    source_E = target_E - layout.position_N[target_E] + windows.first_N[target_E] + within_E
    relation_E = relation_ids(source_E, target_E, speakers_N, relations=relations, speakers=speakers)
    return Graph(source_E, target_E, relation_E, relation_count(relations, speakers), layout)


def relation_count(relations: Relations, speakers: int) -> int:
    """The number of relations: 4 (same or other speaker, direction), or 2 S^2 (ordered pair of speakers, direction)."""
    return 4 if relations == "same-other" else 2 * speakers**2


def relation_ids(
    source_E: Tensor, target_E: Tensor, speakers_N: Tensor, *, relations: Relations, speakers: int
) -> Tensor:
    """The relation of each edge; the direction bit is 0 if the source comes first, 1 otherwise (also for self-loops).

    `same-other`: 2 * (speakers differ) + direction. `speaker-pairs`: 2 * (source's speaker * S + target's) + direction.

    Source: the released code's numbering (METHOD.md, R3).
    """
    direction_E = (source_E >= target_E).long()
    if relations == "same-other":
        return 2 * (speakers_N[source_E] != speakers_N[target_E]).long() + direction_E
    slots_N = speakers_N.clamp(max=speakers - 1)
    return 2 * (slots_N[source_E] * speakers + slots_N[target_E]) + direction_E


def stack(graphs: Sequence[Graph]) -> Graph:
    """Combine graphs with the same number of nodes into one disconnected graph, so that one pass encodes them all."""
    if len(graphs) == 1:
        return graphs[0]
    first = graphs[0]
    lengths_C = torch.cat([graph.layout.lengths_C for graph in graphs])
    keys = [graph.layout.keys_C for graph in graphs if graph.layout.keys_C is not None]
    layout = Layout.of(lengths_C, torch.cat(keys) if len(keys) == len(graphs) else None)
    return replace(
        first,
        source_E=torch.cat([graph.source_E + place * first.nodes for place, graph in enumerate(graphs)]),
        target_E=torch.cat([graph.target_E + place * first.nodes for place, graph in enumerate(graphs)]),
        relation_E=torch.cat([graph.relation_E for graph in graphs]),
        layout=layout,
    )
