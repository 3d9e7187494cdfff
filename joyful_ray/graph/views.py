"""The graph of a batch and its two augmented views, as the settings define them.

Shapes: N = utterances, D = node width.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Generator, Tensor

from joyful_ray.data.batch import Batch
from joyful_ray.graph.augment import mask_features, perturb_edges, rewire_edges
from joyful_ray.graph.edges import Graph, Windows, windowed_graph
from joyful_ray.graph.proximity import add_proximity_edges
from joyful_ray.graph_settings import AugmentConfig, GraphConfig, ViewConfig


@dataclass(frozen=True)
class GraphBuilder:
    """Builds the graph and the views of any batch.

    Args:
        graph: the `graph` section of the job.
        augment: the `augment` section.
        speakers: number of speaker slots of `speaker-pairs`.
    """

    graph: GraphConfig
    augment: AugmentConfig
    speakers: int

    def whole(self, batch: Batch) -> Graph:
        """The windowed graph, without augmentation."""
        return windowed_graph(
            batch.speakers_N,
            batch.layout,
            past=self.graph.window_past,
            future=self.graph.window_future,
            relations=self.graph.relations,
            speakers=self.speakers,
        )

    def views(self, batch: Batch, generator: Generator) -> tuple[Graph, Graph, Graph]:
        """The graph that is classified, and its two views."""
        whole = self.whole(batch)
        first, second = self.augment.first_view, self.augment.second_view
        if self.augment.shared_edge_noise:
            for view in (first, second):
                whole = rewire_edges(whole, ratio=view.edge_ratio, generator=generator)
            return whole, whole, whole
        return whole, self._view(batch, whole, first, generator), self._view(batch, whole, second, generator)

    def _view(self, batch: Batch, whole: Graph, view: ViewConfig, generator: Generator) -> Graph:
        relations, speakers = self.graph.relations, self.speakers
        if view.edge_mode == "rewire":
            changed = rewire_edges(whole, ratio=view.edge_ratio, generator=generator)
        else:
            changed = perturb_edges(
                whole,
                batch.speakers_N,
                Windows.of(batch.layout, self.graph.window_past, self.graph.window_future),
                ratio=view.edge_ratio,
                relations=relations,
                speakers=speakers,
                generator=generator,
            )
        return add_proximity_edges(
            changed,
            batch.speakers_N,
            ratio=view.proximity_ratio,
            threshold=view.proximity_threshold,
            relations=relations,
            speakers=speakers,
            generator=generator,
        )


def masked(nodes_ND: Tensor, view: ViewConfig, generator: Generator) -> Tensor:
    """The nodes, with the view's share of features set to zero."""
    by_element = view.feature_mask == "element"
    return mask_features(nodes_ND, ratio=view.feature_ratio, by_element=by_element, generator=generator)
