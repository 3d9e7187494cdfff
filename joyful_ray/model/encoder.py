"""Graph encoders. Each has two stages: `embed`, whose output the contrast compares, and `refine`, which only the classified graph needs.

Shapes: N = utterances, D = width that enters, K = width that leaves.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from joyful_ray.config import EncoderConfig
from joyful_ray.graph.edges import Graph
from joyful_ray.graph.operators import neighbour_convolution, relational_convolution, transformer_convolution


def build_norm(kind: str, width: int) -> nn.Module:
    """Layer norm, batch norm (over the micro-batch) or none."""
    return {"layer": nn.LayerNorm, "batch": nn.BatchNorm1d}[kind](width) if kind != "none" else nn.Identity()


class RelationalTransformerEncoder(nn.Module):
    """Relational convolutions, then a graph transformer: the released code's pair.

    Shapes: input (N, D), embedding (N, K), output (N, H * K).

    Source: method.md section 2.2.4.
    """

    def __init__(self, width: int, config: EncoderConfig, *, relations: int) -> None:
        super().__init__()
        widths = [width] + [config.width] * config.layers
        self.convolutions = nn.ModuleList(
            relational_convolution(inner, outer, relations, operators=config.operators)
            for inner, outer in zip(widths, widths[1:], strict=False)
        )
        self.transformer = transformer_convolution(
            config.width, config.width, config.heads, operators=config.operators
        )
        self.width = config.width * config.heads
        self.norm = build_norm(config.normalisation, self.width)
        self.dropout = config.dropout

    def embed(self, x_ND: Tensor, graph: Graph) -> list[Tensor]:
        """Output of every relational convolution."""
        layers = []
        for place, convolution in enumerate(self.convolutions):
            x_ND = convolution(x_ND if place == 0 else F.leaky_relu(x_ND), graph)
            layers.append(x_ND)
        return layers

    def refine(self, embedding_NK: Tensor, graph: Graph) -> Tensor:
        """What the classifier sees."""
        refined = F.leaky_relu(self.norm(self.transformer(embedding_NK, graph)))
        return F.dropout(refined, self.dropout, self.training)


class LayeredEncoder(nn.Module):
    """Layers of one kind of convolution, each with ReLU: the paper's GCN, or attention with relations.

    Shapes: input (N, D), embedding and output (N, K).

    Source: JOYFUL, section 3.3 (`gcn`); Shi et al., IJCAI 2021, with relations as edge features (`relational-attention`).
    """

    def __init__(self, width: int, config: EncoderConfig, *, relations: int) -> None:
        super().__init__()
        out = config.width if config.kind == "gcn" else config.width * config.heads
        widths = [width] + [out] * config.layers
        self.convolutions = nn.ModuleList(
            neighbour_convolution(inner, outer, operators=config.operators)
            if config.kind == "gcn"
            else transformer_convolution(
                inner, config.width, config.heads, relations=relations, operators=config.operators
            )
            for inner, outer in zip(widths, widths[1:], strict=False)
        )
        self.norms = nn.ModuleList(build_norm(config.normalisation, out) for _ in self.convolutions)
        self.residual = config.residual
        self.dropout = config.dropout
        self.width = out

    def embed(self, x_ND: Tensor, graph: Graph) -> list[Tensor]:
        """Output of every layer."""
        layers = []
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            out = F.relu(norm(convolution(x_ND, graph)))
            out = F.dropout(out, self.dropout, self.training)
            x_ND = out + x_ND if self.residual and out.shape == x_ND.shape else out
            layers.append(x_ND)
        return layers

    def refine(self, embedding_NK: Tensor, graph: Graph) -> Tensor:
        """The embedding itself."""
        return embedding_NK


def build_encoder(width: int, config: EncoderConfig, *, relations: int) -> RelationalTransformerEncoder | LayeredEncoder:
    """The encoder that the config names."""
    if config.kind == "relational-transformer":
        return RelationalTransformerEncoder(width, config, relations=relations)
    return LayeredEncoder(width, config, relations=relations)
