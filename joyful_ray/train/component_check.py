"""Tries the user's own components on a tiny batch, before a run uses any resources."""

from __future__ import annotations

import torch

from joyful_ray.config import JobConfig
from joyful_ray.corpora.shards import Corpus
from joyful_ray.data.loader import blank_batch
from joyful_ray.data.prepare import CorpusInfo, unscaled_encoding
from joyful_ray.errors import ConfigError
from joyful_ray.train.build import build_model, build_objective


def check_components(job: JobConfig, corpus: Corpus) -> None:
    """Build the model and run it forward and backward on two utterances, if the job names components of the user.

    Raises:
        ConfigError: a component cannot be built, fails, or returns another shape than it declares.
    """
    if not job.components:
        return
    named = ", ".join(job.components.values())
    encoding = unscaled_encoding(corpus.manifest, job)
    counts = [1] * len(encoding.labels)
    corpus_info = CorpusInfo(encoding, {}, {}, label_counts=counts)
    batch = blank_batch(encoding)
    state = torch.get_rng_state()
    try:
        model, objective = build_model(job, corpus_info), build_objective(job, corpus_info)
        for name in ("fusion", "context", "encoder"):
            width = getattr(getattr(model, name), "width", None)
            if not isinstance(width, int) or width < 1:
                raise ConfigError(
                    f"model.{name}: {getattr(job.model, name).kind} needs an attribute width, its output width"
                )
        output = model(batch, with_views=True)
        _check_shape(job, "fusion", output.fused.nodes_ND, (batch.utterances, model.fusion.width))
        for name, term in objective.extra.items():
            losses = term.losses(output, batch)
            if tuple(losses.shape) != (batch.utterances,):
                raise ConfigError(
                    f"objective.extra_terms.{name}: losses of {job.objective.extra_terms[name].kind} returned the "
                    f"shape {tuple(losses.shape)}, expected one loss per utterance, ({batch.utterances},)"
                )
        sums = objective.sums(output, batch)
        objective.total(sums, objective.counts(batch)).backward()
    except ConfigError:
        raise
    except Exception as error:  # any error in the user's code is a fault of the job, and the message says so
        raise ConfigError(f"{named} failed on a tiny batch: {type(error).__name__}: {error}") from error
    finally:
        torch.set_rng_state(state)


def _check_shape(job: JobConfig, part: str, found: torch.Tensor, expected: tuple[int, int]) -> None:
    if tuple(found.shape) != expected:
        kind = getattr(job.model, part).kind
        raise ConfigError(f"model.{part}: {kind} returned the shape {tuple(found.shape)}, expected {expected}")
