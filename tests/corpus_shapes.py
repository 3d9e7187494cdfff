"""Sizes of the published corpora as a model sees them, without their data."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from joyful_ray.config import JobConfig
from joyful_ray.data.encode import Encoding
from joyful_ray.data.prepare import CorpusInfo
from joyful_ray.model.joyful import Joyful
from joyful_ray.schema import Modality, Task
from joyful_ray.train.build import build_model


def corpus_info_of(
    widths: Mapping[Modality, int], *, labels: int, speakers: int, task: Task = "single-label"
) -> CorpusInfo:
    names = tuple(f"label {place}" for place in range(labels))
    return CorpusInfo(
        Encoding(task, names, dict(widths), {}),
        contracts={},
        corpus={},
        label_counts=[100] * labels,
        conversations=100,
        utterances=1000,
        speakers=speakers,
    )


def weightless_model(job: JobConfig, corpus_info: CorpusInfo) -> Joyful:
    """The model without memory for its weights."""
    with torch.device("meta"):
        return build_model(job, corpus_info)


def parameters(*parts: torch.nn.Module | torch.nn.Parameter) -> int:
    """Number of parameters in these parts."""
    return sum(
        part.numel() if isinstance(part, torch.nn.Parameter) else sum(p.numel() for p in part.parameters())
        for part in parts
    )


IEMOCAP_WIDTHS: dict[Modality, int] = {"text": 768, "audio": 100, "vision": 512}
IEMOCAP_4WAY = corpus_info_of(IEMOCAP_WIDTHS, labels=4, speakers=2)
IEMOCAP_6WAY = corpus_info_of(IEMOCAP_WIDTHS, labels=6, speakers=2)
MELD_PAPER = corpus_info_of({"text": 768, "audio": 300, "vision": 342}, labels=7, speakers=9)
MELD_HERE = corpus_info_of({"text": 384, "audio": 8}, labels=7, speakers=9)
"""As `joyful import meld` writes it from the files next to the checkout."""
MOSEI = corpus_info_of({"text": 768, "audio": 80, "vision": 35}, labels=6, speakers=1, task="multi-label")
MOSI = corpus_info_of({"text": 100, "audio": 73, "vision": 100}, labels=2, speakers=1)
