"""A context, an encoder, a term, a scheduler and an importer of your own, each as small as it can be."""

from typing import ClassVar

import numpy as np
from pydantic import BaseModel, Field
from ray.tune.schedulers import MedianStoppingRule
from torch import nn

from joyful_ray.corpora.importers.base import ImportSource
from joyful_ray.corpora.validation import Draft
from joyful_ray.schema import FeatureContract


class Scaled(nn.Module):
    """A context that scales every vector."""

    class Settings(BaseModel):
        factor: float = 2.0

    def __init__(self, width, settings):
        super().__init__()
        self.width, self.factor = width, settings.factor

    def forward(self, nodes_ND, layout):
        return nodes_ND * self.factor


class CausalScaled(Scaled):
    """A context that scales every vector, and says that it sees no other."""

    is_causal = True


class OneLayer(nn.Module):
    """A graph encoder without messages."""

    def __init__(self, width, settings, *, relations):
        super().__init__()
        self.width, self.layer = 8, nn.Linear(width, 8)

    def embed(self, x_ND, graph):
        return [self.layer(x_ND)]

    def refine(self, embedding_NK, graph):
        return embedding_NK


class SmallScores:
    """A term that keeps scores small, on labeled utterances alone."""

    class Settings(BaseModel):
        power: int = Field(2, ge=1)

    def __init__(self, settings):
        self.power = settings.power

    def losses(self, output, batch):
        return output.scores_NK.abs().pow(self.power).mean(dim=1)

    def counted(self, batch):
        return batch.labeled_N


class Patient:
    """A scheduler that stops trials below the median."""

    class Settings(BaseModel):
        grace: int = Field(1, ge=1)

    def __init__(self, settings):
        self.grace = settings.grace

    def build(self, *, time_attr, metric, mode, max_epochs):
        return MedianStoppingRule(time_attr=time_attr, metric=metric, mode=mode, grace_period=self.grace)


class Lines:
    """One conversation per line: words separated by spaces, each an utterance whose vector is its length."""

    options: ClassVar = {"label": "the label of every utterance"}

    def read(self, source, options):
        return ImportSource(
            name="lines",
            task="single-label",
            labels=[options.get("label", "joy")],
            modalities={"text": FeatureContract(extractor="length", version="1", width=1)},
            drafts=self._drafts(source, options.get("label", "joy")),
        )

    def _drafts(self, source, label):
        for number, line in enumerate(source.read_text().splitlines()):
            words = line.split()
            yield (
                "train",
                Draft(
                    conversation_id=f"line-{number}",
                    utterance_ids=[f"{number}-{place}" for place in range(len(words))],
                    speakers=["A"] * len(words),
                    labels=[label] * len(words),
                    vectors={"text": np.array([[float(len(word))] for word in words])},
                ),
            )


class NarrowFusion(nn.Module):
    """A fusion whose output has another width than it says."""

    def __init__(self, widths, settings):
        super().__init__()
        self.width = 7

    def forward(self, features, layout):
        from joyful_ray.model.interfaces import Fused

        return Fused(next(iter(features.values())), {})


class ScalarTerm:
    """A term that returns one number for all utterances."""

    def __init__(self, settings):
        pass

    def losses(self, output, batch):
        return output.scores_NK.sum()


class FailingImporter:
    """An importer that fails, at once or while it yields conversations, or returns something else."""

    options: ClassVar = {"when": "read, drafts, draft or source"}

    def read(self, source, options):
        if options["when"] == "read":
            raise ValueError("this is not a number")
        if options["when"] == "source":
            return 3
        return ImportSource(
            name="failing",
            task="single-label",
            labels=["joy"],
            modalities={"text": FeatureContract(extractor="length", version="1", width=1)},
            drafts=self._drafts(options["when"]),
        )

    def _drafts(self, when):
        if when == "drafts":
            raise ValueError("this is not a number")
        yield 3


class WithoutForward:
    """Lacks what a fusion needs."""


NOT_A_CLASS = 3
