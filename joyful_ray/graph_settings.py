"""The `graph` and `augment` sections of a job: which utterances a graph connects, and its augmented views."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from joyful_ray.sections import Section


class GraphConfig(Section):
    """Which utterances the graph connects, and by which relations."""

    window_past: int | None = Field(8, ge=0)
    """Number of earlier utterances that each utterance is connected to; null means all of them."""
    window_future: int | None = Field(8, ge=0)
    """Number of later utterances that each utterance is connected to; null means all of them. With 0, messages come
    only from the past; context and fusion still look ahead unless `model.causal` is true."""
    relations: Literal["same-other", "speaker-pairs"] = "same-other"
    """What an edge's relation encodes besides its direction: whether both utterances have the same speaker
    (`same-other`), or the ordered pair of speakers (`speaker-pairs`)."""


class ViewConfig(Section):
    """One augmented view of the graph (JOYFUL, section 3.4.2)."""

    feature_ratio: float = Field(0.0, ge=0.0, lt=1.0)
    """Share of the features that is set to zero."""
    feature_mask: Literal["dimension", "element"] = "dimension"
    """`dimension`: mask the same dimensions for all utterances of a conversation. `element`: mask each value
    independently."""
    edge_ratio: float = Field(0.0, ge=0.0, lt=1.0)
    """Share of the edges that is perturbed: dropped and replaced by as many absent ones (`perturb`), or rewired
    (`rewire`)."""
    edge_mode: Literal["perturb", "rewire"] = "perturb"
    """`perturb`: drop and add edges within each conversation. `rewire`: give edges a random target anywhere in the
    micro-batch, as the released code does."""
    proximity_ratio: float = Field(0.0, ge=0.0, lt=1.0)
    """Number of edges added between utterances with a high Katz index, as a share of the existing edges; fewer if too
    few are above the threshold."""
    proximity_threshold: float = Field(0.5, ge=0.0, le=1.0)
    """Katz index above which a pair may be drawn, as a share of the greatest in the conversation; both among pairs
    without an edge."""
    proximity_attenuation: float = Field(0.95, gt=0.0, lt=1.0)
    """Attenuation of the Katz index, as a share of the largest at which it converges; the greater, the more do long
    paths count."""


class AugmentConfig(Section):
    """The two augmented views, and what is classified."""

    first_view: ViewConfig = ViewConfig(feature_ratio=0.2, edge_ratio=0.2)
    second_view: ViewConfig = ViewConfig(feature_ratio=0.2, edge_ratio=0.2)
    shared_edge_noise: bool = False
    """Use one rewired edge list for both views and the classified graph, as the released code does by modifying it in
    place."""
    classify: Literal["graph", "views"] = "graph"
    """What the classifier sees in training: the encoding of the unaugmented graph (`graph`), or the sum of the two
    views' encodings (`views`, the paper's Algorithm 1)."""
