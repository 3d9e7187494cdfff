"""Builds the model, the objective and the optimizer from a job and what is known of its corpus."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from joyful_ray.components import is_component, load_component
from joyful_ray.config import JobConfig
from joyful_ray.data.prepare import CorpusInfo
from joyful_ray.model.inputs import SpeakerScaling
from joyful_ray.model.joyful import Joyful
from joyful_ray.model_settings import FusionConfig
from joyful_ray.objective.joint import FUSION_TERMS, JointObjective, class_weights
from joyful_ray.objective.regression import LabelWeights

SPEAKER_SCALING: Mapping[str, SpeakerScaling] = {"speaker": "instead", "both": "beside"}
"""What `data.normalise` asks of the model; the rest of it happens where the corpus is encoded."""


def build_model(job: JobConfig, corpus_info: CorpusInfo, *, for_training: bool = True) -> Joyful:
    """The model, initialised from the job's seed, so that every rank gets the same weights.

    Args:
        job: the settings.
        corpus_info: what is known of the corpus.
        for_training: False leaves out what only training needs, as a bundle does, whose weights are in fp32.
    """
    torch.manual_seed(job.seed)
    encoding = corpus_info.encoding
    model = Joyful(
        job.model,
        job.graph,
        job.augment,
        widths=encoding.widths,
        classes=max(len(encoding.labels), 1) if encoding.task != "regression" else 1,
        speakers=corpus_info.speakers,
        word_buckets=encoding.ngrams.buckets if encoding.ngrams else 0,
        speaker_scaling=SPEAKER_SCALING.get(job.data.normalise, "none"),
        has_second_pass=job.objective.consistency > 0,
        fusion_target=job.train.fusion_target if for_training and has_pretraining(job) else "terms",
    )
    return model.double() if for_training and job.train.precision == "fp64" else model


def build_objective(job: JobConfig, corpus_info: CorpusInfo) -> JointObjective:
    """The objective with the class weights of the training split, and only the terms that the fusion supports."""
    is_single = corpus_info.encoding.task == "single-label"
    weights = class_weights(list(corpus_info.label_counts), job.objective.class_weighting) if is_single else []
    whole = JointObjective(
        job.objective,
        task=corpus_info.encoding.task,
        weight_K=weights,
        label_weights=_label_weights(job, corpus_info),
        has_pretraining=has_pretraining(job),
    )
    unsupported = set(FUSION_TERMS) - fusion_terms(job.model.fusion)
    return whole.only([name for name in whole.weights if name not in unsupported])


def _label_weights(job: JobConfig, corpus_info: CorpusInfo) -> LabelWeights | None:
    config = job.objective
    if not (config.density_weighting and corpus_info.label_histogram):
        return None
    return LabelWeights(corpus_info.label_histogram, power=config.density_weighting, bandwidth=config.density_bandwidth)


def has_pretraining(job: JobConfig) -> bool:
    """Whether a first stage trains the fusion on inputs or labels."""
    return job.train.stages == "two-phase" and job.train.fusion_target != "terms"


def fusion_terms(config: FusionConfig) -> set[str]:
    """The terms of the objective that this fusion has outputs for."""
    if is_component(config.kind):
        return set(getattr(load_component(config.kind, "fusion"), "terms", ()))
    if config.kind == "concatenation":
        return set()
    of_global = {"global", "smoothing"} if config.kind == "dual-branch" else {"global"}
    return (of_global if config.global_branch else set()) | ({"specific"} if config.specific_branch else set())


def build_optimizer(job: JobConfig, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """Adam or AdamW, as the job says."""
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    return kinds[job.train.optimizer](
        parameters, lr=job.train.learning_rate, weight_decay=job.train.weight_decay, fused=True
    )
