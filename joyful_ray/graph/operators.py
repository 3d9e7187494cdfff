"""Message passing with plain tensor operations; tests compare them with PyTorch Geometric's operators.

Both versions of an operator have the same parameters under the same names, so a bundle written with one can be read
with the other.

Shapes: N = utterances, E = edges, R = relations, D = input width, K = output width, H = heads, P = width of a head.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from joyful_ray.graph.edges import Graph
from joyful_ray.graph.recomputation import recomputed

Operators = Literal["fast", "pyg"]
FEW_RELATIONS = 16
# Above this size, heads are computed one at a time, which needs less memory and no more time.
MANY_NUMBERS = 1 << 23


def mean_by_relation(x_ND: Tensor, graph: Graph) -> Tensor:
    """The mean over each node's in-neighbours of each relation, zero if there are none: (N, R, D)."""
    messages_ED = x_ND.index_select(0, graph.source_E) * graph.mean_weight_E.to(x_ND.dtype)[:, None]
    cell_E = graph.target_E * graph.relations + graph.relation_E
    means = x_ND.new_zeros(graph.nodes * graph.relations, x_ND.shape[1]).index_add(0, cell_E, messages_ED)
    return means.view(graph.nodes, graph.relations, x_ND.shape[1])


def mapped_means(x_ND: Tensor, graph: Graph, weight_RDK: Tensor) -> Tensor:
    """The sum over relations of each mean times its weight, (N, K), only for pairs of node and relation that occur."""
    cell_E = graph.relation_E * graph.nodes + graph.target_E
    cells, index_E, counts = torch.unique(cell_E, return_inverse=True, return_counts=True)
    messages_ED = x_ND.index_select(0, graph.source_E) / counts[index_E].to(x_ND.dtype)[:, None]
    means = x_ND.new_zeros(len(cells), x_ND.shape[1]).index_add(0, index_E, messages_ED)
    sizes = torch.bincount(cells // graph.nodes, minlength=graph.relations).tolist()
    mapped = [rows @ weight for rows, weight in zip(means.split(sizes), weight_RDK.unbind(), strict=True)]
    total_NK = mapped[0].new_zeros(graph.nodes, weight_RDK.shape[2])
    return total_NK.index_add(0, cells % graph.nodes, torch.cat(mapped))


def softmax_by_target(logits_EH: Tensor, graph: Graph) -> Tensor:
    """Softmax over the edges into each node: (E, H)."""
    index_EH = graph.target_E[:, None].expand_as(logits_EH)
    shape = (graph.nodes, logits_EH.shape[1])
    most_NH = logits_EH.new_full(shape, float("-inf")).scatter_reduce(0, index_EH, logits_EH.detach(), "amax")
    exp_EH = torch.exp(logits_EH - most_NH.index_select(0, graph.target_E))
    total_NH = logits_EH.new_zeros(shape).index_add(0, graph.target_E, exp_EH)
    return exp_EH / total_NH.index_select(0, graph.target_E)


class RelationalConvolution(nn.Module):
    """Relational graph convolution: per relation a map of the mean in-neighbour, plus a map of the node itself.

    Shapes: input (N, D), output (N, K).

    Source: Schlichtkrull et al., ESWC 2018, equation 2, without basis decomposition.
    """

    def __init__(self, width: int, out: int, relations: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(relations, width, out))
        self.root = nn.Parameter(torch.empty(width, out))
        self.bias = nn.Parameter(torch.zeros(out))
        bound = (6.0 / (width + out)) ** 0.5
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.root, -bound, bound)

    def forward(self, x_ND: Tensor, graph: Graph) -> Tensor:
        """Convolve over the graph."""
        own_NK = torch.addmm(self.bias, x_ND, self.root)
        if graph.relations > FEW_RELATIONS:
            return own_NK + mapped_means(x_ND, graph, self.weight)
        return own_NK + mean_by_relation(x_ND, graph).flatten(1) @ self.weight.flatten(0, 1)


class GraphTransformerConvolution(nn.Module):
    """Multi-head attention over in-neighbours, heads concatenated, plus a map of the node itself.

    Args:
        width: input width.
        out: width of a head.
        heads: number of heads.
        relations: > 0 adds a trained vector per relation to the keys and values; 0 ignores relations.

    Shapes: input (N, D), output (N, H * P).

    Source: Shi et al., IJCAI 2021, equations 3 and 4.
    """

    def __init__(self, width: int, out: int, heads: int, *, relations: int = 0) -> None:
        super().__init__()
        self.heads = heads
        self.lin_key = nn.Linear(width, heads * out)
        self.lin_query = nn.Linear(width, heads * out)
        self.lin_value = nn.Linear(width, heads * out)
        self.lin_edge = nn.Linear(relations, heads * out, bias=False) if relations else None
        self.lin_skip = nn.Linear(width, heads * out)

    def forward(self, x_ND: Tensor, graph: Graph) -> Tensor:
        """Attend over the graph."""
        query, key, value = (
            linear(x_ND).view(len(x_ND), self.heads, -1) for linear in (self.lin_query, self.lin_key, self.lin_value)
        )
        numbers = 4 * graph.edges * self.lin_value.out_features
        at_once = self.heads if numbers < MANY_NUMBERS else 1
        edge_R = self.lin_edge.weight.T.view(-1, *key.shape[1:]) if self.lin_edge is not None else None
        parts = [
            recomputed(
                self._gather,
                *(part[:, first : first + at_once] for part in (query, key, value)),
                None if edge_R is None else edge_R[:, first : first + at_once],
                graph,
                numbers=numbers,
            )
            for first in range(0, self.heads, at_once)
        ]
        return torch.cat(parts, dim=1).flatten(1) + self.lin_skip(x_ND)

    @staticmethod
    def _gather(query: Tensor, key: Tensor, value: Tensor, edge_R: Tensor | None, graph: Graph) -> Tensor:
        """Attention of some heads; inputs and output are (N, heads, P)."""
        key_E, value_E = key.index_select(0, graph.source_E), value.index_select(0, graph.source_E)
        if edge_R is not None:
            edge_E = edge_R.index_select(0, graph.relation_E)
            key_E, value_E = key_E + edge_E, value_E + edge_E
        logits_EH = (query.index_select(0, graph.target_E) * key_E).sum(-1) / query.shape[-1] ** 0.5
        attention_EH = softmax_by_target(logits_EH, graph)
        messages_E = value_E * attention_EH[..., None]
        return torch.zeros_like(value, dtype=messages_E.dtype).index_add(0, graph.target_E, messages_E)


class NeighbourConvolution(nn.Module):
    """The mean of the in-neighbours, concatenated with the node itself, then one linear map.

    Shapes: input (N, D), output (N, K).

    Source: JOYFUL, section 3.4.3 (AGG and COM); METHOD.md, choice 18.
    """

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.lin_l = nn.Linear(width, out)
        self.lin_r = nn.Linear(width, out, bias=False)

    def forward(self, x_ND: Tensor, graph: Graph) -> Tensor:
        """Convolve over the graph; the two maps are the two halves of the paper's map of the concatenation."""
        counts_N = torch.bincount(graph.target_E, minlength=graph.nodes).clamp(min=1)
        total_ND = torch.zeros_like(x_ND).index_add(0, graph.target_E, x_ND.index_select(0, graph.source_E))
        return self.lin_l(total_ND / counts_N[:, None].to(x_ND.dtype)) + self.lin_r(x_ND)


def relational_convolution(width: int, out: int, relations: int, *, operators: Operators) -> nn.Module:
    """`RelationalConvolution`, or PyTorch Geometric's `RGCNConv`."""
    if operators == "fast":
        return RelationalConvolution(width, out, relations)
    from joyful_ray.graph.pyg_operators import GeometricRelationalConvolution

    return GeometricRelationalConvolution(width, out, relations)


def transformer_convolution(width: int, out: int, heads: int, *, relations: int = 0, operators: Operators) -> nn.Module:
    """`GraphTransformerConvolution`, or PyTorch Geometric's `TransformerConv`."""
    if operators == "fast":
        return GraphTransformerConvolution(width, out, heads, relations=relations)
    from joyful_ray.graph.pyg_operators import GeometricTransformerConvolution

    return GeometricTransformerConvolution(width, out, heads, edge_dim=relations or None)


def neighbour_convolution(width: int, out: int, *, operators: Operators) -> nn.Module:
    """`NeighbourConvolution`, or PyTorch Geometric's `SAGEConv`."""
    if operators == "fast":
        return NeighbourConvolution(width, out)
    from joyful_ray.graph.pyg_operators import GeometricNeighbourConvolution

    return GeometricNeighbourConvolution(width, out)
