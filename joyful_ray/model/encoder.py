"""Graph encoders in two stages: `embed`, whose output the contrast compares, and `refine`, whose output is classified.

Shapes: N = utterances, D = input width, K = output width, H = heads.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from joyful_ray.components import build_component, is_component
from joyful_ray.graph.edges import Graph
from joyful_ray.graph.operators import neighbour_convolution, relational_convolution, transformer_convolution
from joyful_ray.model.dropout import Dropout
from joyful_ray.model.stars import Stars
from joyful_ray.model_settings import EncoderConfig


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation over the utterances of a micro-batch, which may be a single one.

    One row has no variance, so it is normalised with the running statistics, as in evaluation; torch's own class
    raises an error.
    """

    def forward(self, x_ND: Tensor) -> Tensor:
        """Normalise, (N, D)."""
        if self.training and len(x_ND) == 1:
            return F.batch_norm(x_ND, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x_ND)


def build_norm(kind: str, width: int) -> nn.Module:
    """Layer norm, batch norm (over the micro-batch), or the identity for `none`."""
    return {"layer": nn.LayerNorm, "batch": BatchNorm}[kind](width) if kind != "none" else nn.Identity()


class RelationalTransformerEncoder(nn.Module):
    """Relational convolutions followed by a graph transformer, as in the released code.

    Shapes: input (N, D), embedding (N, K), output (N, H * K).

    Source: METHOD.md, R4.
    """

    width: int

    def __init__(self, width: int, config: EncoderConfig, *, relations: int) -> None:
        super().__init__()
        inner = config.width or width
        widths = [width] + [inner] * config.layers
        self.convolutions = nn.ModuleList(
            relational_convolution(before, after, relations, operators=config.operators)
            for before, after in pairwise(widths)
        )
        self.transformer = transformer_convolution(inner, inner, config.heads, operators=config.operators)
        self.embedding_width, self.width = inner, inner * config.heads
        self.norm = build_norm(config.normalisation, self.width)
        self.drop = Dropout(config.dropout)

    def embed(self, x_ND: Tensor, graph: Graph) -> list[Tensor]:
        """The output of every relational convolution."""
        layers = []
        for place, convolution in enumerate(self.convolutions):
            x_ND = convolution(x_ND if place == 0 else F.leaky_relu(x_ND), graph)
            layers.append(x_ND)
        return layers

    def refine(self, embedding_NK: Tensor, graph: Graph) -> Tensor:
        """The input of the classifier."""
        refined = F.leaky_relu(self.norm(self.transformer(embedding_NK, graph)))
        return self.drop(refined, graph.layout)

    def step(self, x_1D: Tensor, stars: Stars) -> tuple[Tensor, Tensor]:
        """The embedding and the output of the next utterance."""
        for place, convolution in enumerate(self.convolutions):
            x_TD, star = stars.around(x_1D if place == 0 else F.leaky_relu(x_1D), name=str(place))
            x_1D = convolution(x_TD, star)[-1:]
        embeddings, star = stars.around(x_1D, name="embedding")
        return x_1D, self.refine(embeddings, star)[-1:]


class LayeredEncoder(nn.Module):
    """A stack of one kind of convolution, each with ReLU: the paper's GCN, or attention with relations.

    Shapes: input (N, D), embedding and output (N, K).

    Source: JOYFUL, section 3.4.3 (`gcn`); Shi et al., IJCAI 2021, with relations as edge features
        (`relational-attention`).
    """

    width: int

    def __init__(self, width: int, config: EncoderConfig, *, relations: int) -> None:
        super().__init__()
        head = config.width or width
        out = head if config.kind == "gcn" else head * config.heads
        widths = [width] + [out] * config.layers
        self.convolutions = nn.ModuleList(
            neighbour_convolution(before, after, operators=config.operators)
            if config.kind == "gcn"
            else transformer_convolution(before, head, config.heads, relations=relations, operators=config.operators)
            for before, after in pairwise(widths)
        )
        self.norms = nn.ModuleList(build_norm(config.normalisation, out) for _ in self.convolutions)
        self.residual = config.residual
        self.drop = Dropout(config.dropout)
        self.width = out

    def embed(self, x_ND: Tensor, graph: Graph) -> list[Tensor]:
        """The output of every layer."""
        layers = []
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x_ND = self._after(x_ND, norm(convolution(x_ND, graph)))
            layers.append(x_ND)
        return layers

    def refine(self, embedding_NK: Tensor, graph: Graph) -> Tensor:
        """The embedding, with dropout."""
        return self.drop(embedding_NK, graph.layout)

    def step(self, x_1D: Tensor, stars: Stars) -> tuple[Tensor, Tensor]:
        """The embedding and the output of the next utterance."""
        for place, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            x_TD, star = stars.around(x_1D, name=str(place))
            x_1D = self._after(x_1D, norm(convolution(x_TD, star)[-1:]))
        return x_1D, x_1D

    def _after(self, x_ND: Tensor, convolved: Tensor) -> Tensor:
        out = F.relu(convolved)
        return out + x_ND if self.residual and out.shape == x_ND.shape else out


class NoGraph(nn.Module):
    """No graph: every utterance stays unchanged.

    Shapes: input, embedding and output (N, D).
    """

    width: int

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def embed(self, x_ND: Tensor, graph: Graph) -> list[Tensor]:
        """The input, unchanged."""
        return [x_ND]

    def refine(self, embedding_NK: Tensor, graph: Graph) -> Tensor:
        """The embedding itself."""
        return embedding_NK

    def step(self, x_1D: Tensor, stars: Stars) -> tuple[Tensor, Tensor]:
        """The utterance, unchanged."""
        return x_1D, x_1D


BuiltInEncoder = RelationalTransformerEncoder | LayeredEncoder | NoGraph
"""An encoder of the user has the same interface."""


def build_encoder(width: int, config: EncoderConfig, *, relations: int) -> BuiltInEncoder:
    """Build the encoder that the config names.

    Raises:
        ConfigError: it is the user's own, and cannot be built.
    """
    if is_component(config.kind):
        return build_component(config.kind, "encoder", config.options, width, relations=relations)
    if config.kind == "none":
        return NoGraph(width)
    if config.kind == "relational-transformer":
        return RelationalTransformerEncoder(width, config, relations=relations)
    return LayeredEncoder(width, config, relations=relations)
