"""Heads: from an encoded utterance to one score per label, or to what the contrast compares.

Shapes: N = utterances, D = input width, K = labels.
"""

from __future__ import annotations

from torch import Tensor, nn

from joyful_ray.data.batch import Layout
from joyful_ray.model.dropout import ReluDropout
from joyful_ray.model_settings import ClassifierConfig


class Classifier(nn.Module):
    """One hidden layer with ReLU and dropout.

    Shapes: input (N, D), output (N, K): logits, or the number itself for regression (K = 1).

    Source: METHOD.md, R6 and choice 19.
    """

    def __init__(self, width: int, classes: int, config: ClassifierConfig) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, config.hidden)
        self.drop = ReluDropout(config.dropout)
        self.scores = nn.Linear(config.hidden, classes)

    def forward(self, x_ND: Tensor, layout: Layout) -> Tensor:
        """Score every label."""
        return self.scores(self.drop(self.hidden(x_ND), layout))


class ProjectionHead(nn.Sequential):
    """From an embedding to what the contrast compares, so that the embedding itself need not forget what views lack.

    Shapes: input (N, E), output (N, P).

    Source: Zhu et al., GRACE, 2020, section 3.2; Chen et al., SimCLR, ICML 2020.
    """

    def __init__(self, embedding_width: int, width: int) -> None:
        super().__init__(nn.Linear(embedding_width, width), nn.ELU(), nn.Linear(width, width))
