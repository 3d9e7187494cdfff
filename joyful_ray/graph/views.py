"""The graph of a batch and its two augmented views, as the settings define them.

Shapes: N = utterances, D = node width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from joyful_ray.data.batch import Batch, Layout
from joyful_ray.graph.augment import mask_features, perturb_edges, rewire_edges
from joyful_ray.graph.edges import Graph, Windows, relation_count, windowed_graph
from joyful_ray.graph.proximity import add_proximity_edges
from joyful_ray.graph_settings import AugmentConfig, GraphConfig, ViewConfig

VIEWS = ("first view", "second view")


@dataclass(frozen=True)
class GraphBuilder:
    """Builds the graph and the views of any batch.

    Args:
        graph: the `graph` section of the job.
        augment: the `augment` section.
        speakers: number of speaker slots of `speaker-pairs`.
        causal: whether edges lead only to the same or a later utterance, in views as well.
    """

    graph: GraphConfig
    augment: AugmentConfig
    speakers: int
    causal: bool = False

    @property
    def future(self) -> int | None:
        """Number of later utterances that each utterance is connected to; None means all of them."""
        return 0 if self.causal else self.graph.window_future

    @property
    def relation_count(self) -> int:
        """Number of relations."""
        return relation_count(self.graph.relations, self.speakers)

    def whole(self, batch: Batch) -> Graph:
        """The windowed graph, without augmentation."""
        return self.of(batch.speakers_N, batch.layout)

    def of(self, speakers_N: Tensor, layout: Layout) -> Graph:
        """The windowed graph of conversations."""
        return windowed_graph(
            speakers_N,
            layout,
            past=self.graph.window_past,
            future=self.future,
            relations=self.graph.relations,
            speakers=self.speakers,
        )

    def views(self, batch: Batch) -> tuple[Graph, Graph, Graph]:
        """The graph that is classified, and its two views; each has random draws of its own."""
        whole, views = self.whole(batch), (self.augment.first_view, self.augment.second_view)
        if self.augment.shared_edge_noise:
            for name, view in zip(VIEWS, views, strict=True):
                whole = rewire_edges(whole.apart(name), ratio=view.edge_ratio, causal=self.causal)
            return replace(whole, layout=batch.layout), whole.apart(VIEWS[0]), whole.apart(VIEWS[1])
        first, second = (self._view(batch, whole.apart(name), view) for name, view in zip(VIEWS, views, strict=True))
        return whole, first, second

    def _view(self, batch: Batch, graph: Graph, view: ViewConfig) -> Graph:
        relations, speakers = self.graph.relations, self.speakers
        if view.edge_mode == "rewire":
            changed = rewire_edges(graph, ratio=view.edge_ratio, causal=self.causal)
        else:
            changed = perturb_edges(
                graph,
                batch.speakers_N,
                Windows.of(batch.layout, self.graph.window_past, self.future),
                ratio=view.edge_ratio,
                relations=relations,
                speakers=speakers,
                causal=self.causal,
            )
        return add_proximity_edges(
            changed,
            batch.speakers_N,
            ratio=view.proximity_ratio,
            threshold=view.proximity_threshold,
            attenuation=view.proximity_attenuation,
            relations=relations,
            speakers=speakers,
            causal=self.causal,
        )


def masked(nodes_ND: Tensor, layout: Layout, view: ViewConfig) -> Tensor:
    """The nodes, with the view's share of features set to zero."""
    return mask_features(nodes_ND, layout, ratio=view.feature_ratio, by_element=view.feature_mask == "element")
