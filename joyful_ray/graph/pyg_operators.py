"""PyTorch Geometric's operators on a `Graph`; tests compare `operators.py` with them.

This is a separate module because the library takes seconds to import.

Shapes: N = utterances, E = edges, D = input width, K = output width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torch_geometric.nn import RGCNConv, SAGEConv, TransformerConv

from joyful_ray.graph.edges import Graph


def edge_index(graph: Graph) -> Tensor:
    """The edges in the format of the library: (2, E), sources in the first row."""
    return torch.stack([graph.source_E, graph.target_E])


class GeometricRelationalConvolution(RGCNConv):
    """`RGCNConv` on a `Graph`. Shapes: input (N, D), output (N, K)."""

    def forward(self, x_ND: Tensor, graph: Graph) -> Tensor:
        """Convolve over the graph."""
        return super().forward(x_ND, edge_index(graph), graph.relation_E)


class GeometricTransformerConvolution(TransformerConv):
    """`TransformerConv` on a `Graph`, relations as one-hot edge features. Shapes: input (N, D), output (N, H * K)."""

    def forward(self, x_ND: Tensor, graph: Graph) -> Tensor:
        """Attend over the graph."""
        features = F.one_hot(graph.relation_E, graph.relations).to(x_ND.dtype) if self.edge_dim else None
        return super().forward(x_ND, edge_index(graph), features)


class GeometricNeighbourConvolution(SAGEConv):
    """`SAGEConv` with mean aggregation on a `Graph`. Shapes: input (N, D), output (N, K)."""

    def forward(self, x_ND: Tensor, graph: Graph) -> Tensor:
        """Convolve over the graph."""
        return super().forward(x_ND, edge_index(graph))
