"""Untrained bundles for tests that only need a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from joyful_ray.corpora.shards import open_corpus
from joyful_ray.data.prepare import prepare_here
from joyful_ray.records import Scores
from joyful_ray.storage import open_location
from joyful_ray.train.build import build_model
from joyful_ray.train.bundle import write_bundle
from tests.tiny_corpus import LABELS, small_job

__all__ = ["LABELS", "write_random_bundle"]


def write_random_bundle(folder: Path, corpus: str, *, seed: int = 5, **settings: Any) -> str:
    """Write a bundle for a corpus, with a last layer large enough that predictions differ."""
    job = small_job(settings, seed=seed)
    corpus_info, _ = prepare_here(open_corpus(corpus), job)
    labels = corpus_info.encoding.labels
    dev = Scores(
        task=corpus_info.encoding.task,
        utterances=1,
        loss=0.0,
        values={"accuracy": 1.0},
        per_label={name: {"threshold": 0.4} for name in labels} if corpus_info.encoding.task == "multi-label" else {},
    )
    model = build_model(job, corpus_info)
    with torch.no_grad():
        model.classifier.scores.weight *= 20.0
        model.classifier.scores.bias.zero_()
    write_bundle(
        open_location(str(folder)), job=job, corpus_info=corpus_info, weights=model.state_dict(), dev=dev, epoch=0
    )
    return str(folder)
