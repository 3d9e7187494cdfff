"""The whole model: fusion, context, graph and its views, encoder, classifier. It computes no losses.

Shapes: N = utterances of the micro-batch, D = node width, E = embedding width, K = labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from joyful_ray.data.batch import Batch, Layout
from joyful_ray.graph.edges import Graph, stack
from joyful_ray.graph.views import GraphBuilder, masked
from joyful_ray.graph_settings import AugmentConfig, GraphConfig
from joyful_ray.model.context import build_context
from joyful_ray.model.dropout import name_places
from joyful_ray.model.encoder import build_encoder
from joyful_ray.model.fusion import build_fusion
from joyful_ray.model.heads import Classifier, ProjectionHead
from joyful_ray.model.inputs import MissingEmbeddings, SpeakerScaling
from joyful_ray.model.interfaces import Fused
from joyful_ray.model.ngram_embedding import NgramEmbedding
from joyful_ray.model.party_state import PartyState, same_speaker_as_before
from joyful_ray.model.pretraining import FusionTarget, PretrainingHead
from joyful_ray.model.released import unused_layers
from joyful_ray.model_settings import ModelConfig
from joyful_ray.schema import Modality

SECOND_PASS = "second pass"


@dataclass(frozen=True)
class Output:
    """The output of the model, with everything that the objective needs.

    Attributes:
        scores_NK: logits, or the predicted number for regression (K = 1).
        fused: output of the fusion.
        views: what is contrasted of the two augmented views, both (N, E); None outside training.
        layers: embedding of the unaugmented graph after every layer of the encoder; empty if only views were encoded.
        original_NE: what is contrasted of the unaugmented graph; None without views, or if only they were encoded.
        second_scores_NK: scores of a second pass with other dropout; None if there is none.
        pretraining: what the fused vectors tell by themselves, in training with a first stage of its own; None
            otherwise.
    """

    scores_NK: Tensor
    fused: Fused
    views: tuple[Tensor, Tensor] | None
    layers: list[Tensor]
    original_NE: Tensor | None = None
    second_scores_NK: Tensor | None = None
    pretraining: Mapping[str, Tensor] | None = None


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
        speaker_scaling: whether features are scaled within each speaker's part of a conversation.
        has_second_pass: whether training scores every utterance twice, with different dropout.
        fusion_target: what a first stage trains the fusion on; `terms` needs nothing else.

    Shapes: scores (N, K).

    Source: JOYFUL, EMNLP 2023, section 3 and Algorithm 1; METHOD.md says where paper and code differ.
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
        speaker_scaling: SpeakerScaling = "none",
        has_second_pass: bool = False,
        fusion_target: FusionTarget = "terms",
    ) -> None:
        super().__init__()
        self.augment, self.graphs = augment, GraphBuilder(graph, augment, speakers, causal=config.causal)
        self.has_second_pass = has_second_pass
        self.missing_embeddings = MissingEmbeddings(
            widths,
            learned=config.missing_embeddings == "learned",
            modality_dropout=config.modality_dropout,
            feature_dropout=config.feature_dropout,
            speaker_scaling=speaker_scaling,
        )
        self.ngrams = NgramEmbedding(word_buckets, config.ngrams) if word_buckets else None
        joined = dict(self.missing_embeddings.widths)
        if self.ngrams:
            joined["text"] = joined.get("text", 0) + self.ngrams.width
        self.fusion = build_fusion(joined, config.fusion, causal=config.causal)
        self.has_speaker_flag = config.context.speakers == "flag"
        entering = self.fusion.width + self.has_speaker_flag
        self.context = build_context(entering, config.context, causal=config.causal)
        width = self.context.width
        self.party_state = (
            PartyState(self.fusion.width, width, config.context, causal=config.causal)
            if config.context.speakers == "party-state"
            else None
        )
        self.encoder = build_encoder(width, config.encoder, relations=self.graphs.relation_count)
        embedding_width = getattr(self.encoder, "embedding_width", self.encoder.width)
        self.projection = ProjectionHead(embedding_width, config.projection) if config.projection else nn.Identity()
        self.skip_graph = config.classifier.skip_graph
        classified = self.encoder.width + (width if self.skip_graph else 0)
        self.classifier = Classifier(classified, classes, config.classifier)
        self.pretraining = (
            None
            if fusion_target == "terms"
            else PretrainingHead(self.fusion.width, fusion_target, widths=widths, classes=classes)
        )
        if config.unused_layers:
            self.unused_layers = unused_layers(self.fusion.width, classified, config.classifier.hidden, classes)
        name_places(self)

    def forward(self, batch: Batch, *, with_views: bool = False) -> Output:
        """Score every utterance.

        Args:
            batch: utterances of several conversations.
            with_views: whether to make the augmented views, as in training.
        """
        if not with_views:
            whole = self.graphs.whole(batch)
            output = self._score(batch, whole)
        else:
            whole, *graphs = self.graphs.views(batch)
            output = self._score_with_views(batch, whole, graphs)
        if self.training and self.pretraining is not None:
            output = replace(output, pretraining=self.pretraining(output.fused.nodes_ND))
        if not (self.training and self.has_second_pass):
            return output
        batch = batch.apart(SECOND_PASS)
        if not with_views or self.augment.classify == "graph":
            again = self._score(batch, whole.apart(SECOND_PASS))
        else:
            again = self._score_with_views(batch, whole, [graph.apart(SECOND_PASS) for graph in graphs])
        return replace(output, second_scores_NK=again.scores_NK)

    def contextual(self, fused: Fused, batch: Batch) -> Tensor:
        """The vectors that enter the graph."""
        nodes_ND = fused.nodes_ND
        if self.has_speaker_flag:
            nodes_ND = torch.cat([nodes_ND, same_speaker_as_before(batch)], dim=1)
        context_NK = self.context(nodes_ND, batch.layout)
        return context_NK if self.party_state is None else context_NK + self.party_state(fused.nodes_ND, batch)

    def features(self, batch: Batch) -> dict[str, Tensor]:
        """What enters the fusion, by modality."""
        features = self.missing_embeddings(batch)
        if self.ngrams is not None and batch.ngrams is not None:
            words_NE = self.ngrams(batch.ngrams, batch.layout)
            features["text"] = torch.cat([features["text"], words_NE], dim=1) if "text" in features else words_NE
        precision = next(self.classifier.parameters()).dtype
        return {name: values.to(precision) for name, values in features.items()}

    def _score(self, batch: Batch, whole: Graph) -> Output:
        fused = self.fusion(self.features(batch), batch.layout)
        nodes_ND = self.contextual(fused, batch)
        layers, encoded = self._encode(nodes_ND, whole)
        return Output(self.classified(encoded, nodes_ND, batch.layout), fused, None, layers)

    def classified(self, encoded: Tensor, nodes_ND: Tensor, layout: Layout) -> Tensor:
        """Scores from the encoding of the unaugmented graph; where views are classified, it stands for both."""
        return self._classify(2.0 * encoded if self.augment.classify == "views" else encoded, nodes_ND, layout)

    def _score_with_views(self, batch: Batch, whole: Graph, graphs: Sequence[Graph]) -> Output:
        fused = self.fusion(self.features(batch), batch.layout)
        nodes_ND = self.contextual(fused, batch)
        configs = (self.augment.first_view, self.augment.second_view)
        inputs = [masked(nodes_ND, graph.layout, config) for graph, config in zip(graphs, configs, strict=True)]
        embedded = self.encoder.embed(torch.cat(inputs), stack(graphs))[-1]
        views = self.projection(embedded).chunk(2)
        if self.augment.classify == "views":
            first, second = embedded.chunk(2)
            encoded = self.encoder.refine(first, graphs[0]) + self.encoder.refine(second, graphs[1])
            return Output(self._classify(encoded, nodes_ND, batch.layout), fused, views, [])
        layers, encoded = self._encode(nodes_ND, whole)
        scores_NK = self._classify(encoded, nodes_ND, batch.layout)
        return Output(scores_NK, fused, views, layers, self.projection(layers[-1]))

    def _encode(self, nodes_ND: Tensor, graph: Graph) -> tuple[list[Tensor], Tensor]:
        layers = self.encoder.embed(nodes_ND, graph)
        return layers, self.encoder.refine(layers[-1], graph)

    def _classify(self, encoded: Tensor, nodes_ND: Tensor, layout: Layout) -> Tensor:
        return self.classifier(torch.cat([encoded, nodes_ND], dim=1) if self.skip_graph else encoded, layout)
