"""The whole model: fusion, context, graph and its views, encoder, classifier. It computes no losses.

Shapes: N = utterances of the micro-batch, D = node width, E = embedding width, K = labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from joyful_ray.data.batch import Batch
from joyful_ray.graph.edges import Graph, relation_count, stack
from joyful_ray.graph.views import GraphBuilder, masked
from joyful_ray.graph_settings import AugmentConfig, GraphConfig
from joyful_ray.model.context import build_context
from joyful_ray.model.encoder import build_encoder
from joyful_ray.model.fusion import MissingEmbeddings, build_fusion
from joyful_ray.model.heads import Classifier
from joyful_ray.model.interfaces import Fused
from joyful_ray.model.ngram_embedding import NgramEmbedding
from joyful_ray.model.released import unused_layers
from joyful_ray.schema import Modality
from joyful_ray.settings import ModelConfig


@dataclass(frozen=True)
class Output:
    """The output of the model, with everything that the objective needs.

    Attributes:
        scores_NK: logits, or the predicted number for regression (K = 1).
        fused: output of the fusion.
        views: embeddings of the two augmented views, both (N, E); None outside training.
        layers: embedding of the unaugmented graph after every layer of the encoder; empty if only views were encoded.
    """

    scores_NK: Tensor
    fused: Fused
    views: tuple[Tensor, Tensor] | None
    layers: list[Tensor]


class Joyful(nn.Module):
    """JOYFUL for any modalities, widths, labels and number of speakers.

    Args:
        config: the `model` section of the job.
        graph: the `graph` section.
        augment: the `augment` section.
        widths: width of each modality.
        classes: number of labels, or 1 for regression.
        speakers: number of speaker slots, if the relations distinguish speakers.
        word_buckets: number of n-gram buckets; 0 if batches have no n-grams.

    Shapes: scores (N, K).

    Source: JOYFUL, EMNLP 2023, section 3 and Algorithm 1; where paper and code differ, method.md section 5.
    """

    def __init__(
        self,
        config: ModelConfig,
        graph: GraphConfig,
        augment: AugmentConfig,
        *,
        widths: Mapping[Modality, int],
        classes: int,
        speakers: int = 2,
        word_buckets: int = 0,
    ) -> None:
        super().__init__()
        self.augment, self.graphs = augment, GraphBuilder(graph, augment, speakers)
        self.missing_embeddings = MissingEmbeddings(
            widths,
            learned=config.missing_embeddings == "learned",
            modality_dropout=config.modality_dropout,
            feature_dropout=config.feature_dropout,
        )
        self.ngrams = NgramEmbedding(word_buckets, config.ngrams) if word_buckets else None
        joined = dict(widths) | ({"text": widths.get("text", 0) + self.ngrams.width} if self.ngrams else {})
        self.fusion = build_fusion(joined, config.fusion)
        self.context = build_context(self.fusion.width, config.context)
        width = self.context.width
        self.encoder = build_encoder(width, config.encoder, relations=relation_count(graph.relations, speakers))
        self.skip_graph = config.classifier.skip_graph
        classified = self.encoder.width + (width if self.skip_graph else 0)
        self.classifier = Classifier(classified, classes, config.classifier)
        if config.unused_layers:
            self.unused_layers = unused_layers(self.fusion.width, classified, config.classifier.hidden, classes)

    def forward(self, batch: Batch, generator: Generator | None = None) -> Output:
        """Score every utterance.

        Args:
            batch: utterances of several conversations.
            generator: draws the augmented views; None makes no views, as in evaluation.
        """
        fused = self.fusion(self._features(batch), batch.layout)
        nodes_ND = self.context(fused.nodes_ND, batch.layout)
        if generator is None:
            layers, encoded = self._encode(nodes_ND, self.graphs.whole(batch))
            scale = 2.0 if self.augment.classify == "views" else 1.0
            return Output(self._classify(scale * encoded, nodes_ND), fused, None, layers)
        return self._forward_with_views(batch, fused, nodes_ND, generator)

    def _features(self, batch: Batch) -> dict[str, Tensor]:
        features = self.missing_embeddings(batch)
        if self.ngrams is not None and batch.ngrams is not None:
            words_NE = self.ngrams(batch.ngrams)
            features["text"] = torch.cat([features["text"], words_NE], dim=1) if "text" in features else words_NE
        return features

    def _forward_with_views(self, batch: Batch, fused: Fused, nodes_ND: Tensor, generator: Generator) -> Output:
        whole, *graphs = self.graphs.views(batch, generator)
        configs = (self.augment.first_view, self.augment.second_view)
        inputs = [masked(nodes_ND, config, generator) for config in configs]
        first, second = self.encoder.embed(torch.cat(inputs), stack(graphs))[-1].chunk(2)
        if self.augment.classify == "views":
            encoded = self.encoder.refine(first, graphs[0]) + self.encoder.refine(second, graphs[1])
            return Output(self._classify(encoded, nodes_ND), fused, (first, second), [])
        layers, encoded = self._encode(nodes_ND, whole)
        return Output(self._classify(encoded, nodes_ND), fused, (first, second), layers)

    def _encode(self, nodes_ND: Tensor, graph: Graph) -> tuple[list[Tensor], Tensor]:
        layers = self.encoder.embed(nodes_ND, graph)
        return layers, self.encoder.refine(layers[-1], graph)

    def _classify(self, encoded: Tensor, nodes_ND: Tensor) -> Tensor:
        return self.classifier(torch.cat([encoded, nodes_ND], dim=1) if self.skip_graph else encoded)
