"""The whole model: fusion, context, graph and its views, encoder, classifier. It knows nothing of losses.

Shapes: N = utterances of the micro-batch, D = node width, E = embedding width, K = labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from joyful_ray.config import AugmentConfig, GraphConfig, ModelConfig, ViewConfig
from joyful_ray.data.batch import Batch
from joyful_ray.graph.augment import mask_features, perturb_edges, rewire_edges
from joyful_ray.graph.edges import Graph, Windows, relation_count, stack, windowed_graph
from joyful_ray.model.context import build_context
from joyful_ray.model.encoder import build_encoder
from joyful_ray.model.fusion import Fused, StandIns, build_fusion
from joyful_ray.model.heads import Classifier


@dataclass(frozen=True)
class Output:
    """All that the objective may look at.

    Attributes:
        scores_NK: logits, or numbers for regression.
        views: embeddings of the two augmented views, both (N, E); None outside training.
        layers: embedding of the graph itself after every layer of the encoder, empty where only views were encoded.
    """

    scores_NK: Tensor
    fused: Fused
    views: tuple[Tensor, Tensor] | None
    layers: list[Tensor]


class Joyful(nn.Module):
    """JOYFUL for any modalities, widths, labels and number of speakers.

    Args:
        widths: width of each modality.
        classes: labels, or 1 for regression.
        speakers: speaker slots of the relations, where they tell speakers apart.

    Shapes: scores (N, K).

    Source: JOYFUL, EMNLP 2023, section 3 and Algorithm 1; where paper and code differ, method.md section 5.
    """

    def __init__(
        self,
        config: ModelConfig,
        graph: GraphConfig,
        augment: AugmentConfig,
        *,
        widths: Mapping[str, int],
        classes: int,
        speakers: int = 2,
    ) -> None:
        super().__init__()
        self.graph_config, self.augment, self.speakers = graph, augment, speakers
        relations = relation_count(graph.relations, speakers)
        self.stand_ins = StandIns(widths, modality_dropout=config.modality_dropout)
        self.fusion = build_fusion(widths, config.fusion)
        self.context = build_context(self.fusion.width, config.context)
        width = self.context.width
        self.encoder = build_encoder(width, config.encoder, relations=relations) if config.encoder.kind != "none" else None
        encoded = self.encoder.width if self.encoder is not None else 0
        self.skip_graph = config.classifier.skip_graph or self.encoder is None
        self.classifier = Classifier(encoded + (width if self.skip_graph else 0), classes, config.classifier)

    def forward(self, batch: Batch, generator: Generator | None = None) -> Output:
        """Score every utterance.

        Args:
            generator: draws the views; None makes none, as in evaluation.
        """
        fused = self.fusion(self.stand_ins(batch), batch.layout)
        nodes_ND = self.context(fused.nodes_ND, batch.layout)
        if self.encoder is None:
            return Output(self.classifier(nodes_ND), fused, None, [])
        graph = self.graph_of(batch)
        if generator is None:
            layers, encoded = self._encode(nodes_ND, graph)
            scale = 2.0 if self.augment.classify == "views" else 1.0
            return Output(self._classify(scale * encoded, nodes_ND), fused, None, layers)
        return self._forward_with_views(batch, graph, fused, nodes_ND, generator)

    def graph_of(self, batch: Batch) -> Graph:
        """The windowed graph of a batch, before augmentation."""
        return windowed_graph(
            batch.speakers_N,
            batch.layout,
            past=self.graph_config.window_past,
            future=self.graph_config.window_future,
            relations=self.graph_config.relations,
            speakers=self.speakers,
        )

    def _forward_with_views(
        self, batch: Batch, graph: Graph, fused: Fused, nodes_ND: Tensor, generator: Generator
    ) -> Output:
        configs = (self.augment.first_view, self.augment.second_view)
        if self.augment.shared_edge_noise:
            for config in configs:
                graph = rewire_edges(graph, ratio=config.edge_ratio, generator=generator)
            graphs = (graph, graph)
        else:
            graphs = tuple(self._view(batch, graph, config, generator) for config in configs)
        inputs = [_masked(nodes_ND, config, generator) for config in configs]
        embedded = self.encoder.embed(torch.cat(inputs), stack(graphs))
        views = tuple(embedded[-1].chunk(2))
        if self.augment.classify == "views":
            refined = [self.encoder.refine(view, its) for view, its in zip(views, graphs, strict=True)]
            return Output(self._classify(refined[0] + refined[1], nodes_ND), fused, views, [])
        layers, encoded = self._encode(nodes_ND, graph)
        return Output(self._classify(encoded, nodes_ND), fused, views, layers)

    def _view(self, batch: Batch, graph: Graph, config: ViewConfig, generator: Generator) -> Graph:
        if config.edge_mode == "rewire":
            return rewire_edges(graph, ratio=config.edge_ratio, generator=generator)
        windows = Windows.of(batch.layout, self.graph_config.window_past, self.graph_config.window_future)
        return perturb_edges(
            graph,
            batch.speakers_N,
            windows,
            ratio=config.edge_ratio,
            relations=self.graph_config.relations,
            speakers=self.speakers,
            generator=generator,
        )

    def _encode(self, nodes_ND: Tensor, graph: Graph) -> tuple[list[Tensor], Tensor]:
        layers = self.encoder.embed(nodes_ND, graph)
        return layers, self.encoder.refine(layers[-1], graph)

    def _classify(self, encoded: Tensor, nodes_ND: Tensor) -> Tensor:
        return self.classifier(torch.cat([encoded, nodes_ND], dim=1) if self.skip_graph else encoded)


def _masked(nodes_ND: Tensor, config: ViewConfig, generator: Generator) -> Tensor:
    by_element = config.feature_mask == "element"
    return mask_features(nodes_ND, ratio=config.feature_ratio, by_element=by_element, generator=generator)
