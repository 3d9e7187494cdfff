from __future__ import annotations

from typing import Any

import pytest
import torch

from joyful_ray.config import JobConfig
from joyful_ray.corpora.shards import open_corpus
from joyful_ray.data.loader import ResidentLoader
from joyful_ray.data.prepare import prepare_here
from joyful_ray.train.process_group import ProcessGroup
from joyful_ray.train.schedule import Progress
from joyful_ray.train.trainer import EpochNumbers, Trainer
from tests.tiny_corpus import small_job
from tests.train.conftest import Tiny


def trained(tiny: Tiny, settings: dict[str, Any]) -> tuple[JobConfig, Trainer, EpochNumbers]:
    """A trainer after its first epoch."""
    job = small_job({"corpus": tiny(), "train": settings})
    corpus_info, stores = prepare_here(open_corpus(str(job.corpus)), job)
    trainer = Trainer(job, corpus_info, ProcessGroup())
    return job, trainer, trainer.train_epoch(ResidentLoader.of(job, stores["train"]), Progress())


def test_an_epoch_reports_its_terms_conversations_and_diagnostics(tiny: Tiny) -> None:
    _, trainer, numbers = trained(tiny, {"schedule": "constant", "warmup_epochs": 0.0, "learning_rate": 0.125})
    assert numbers.conversations == 23
    assert set(numbers.losses) == {"classification", "contrast", "smoothing", "global", "specific", "total"}
    assert numbers.learning_rate == 0.125
    assert 0.0 <= numbers.waiting_share <= 1.0
    assert numbers.diagnostics
    assert trainer.evaluated is trainer.model


def test_without_diagnostics_there_are_none(tiny: Tiny) -> None:
    assert trained(tiny, {"diagnostics": False})[2].diagnostics == {}


def test_the_ema_follows_the_weights_with_a_decay_that_starts_small(tiny: Tiny) -> None:
    job, trainer, _ = trained(tiny, {"ema_decay": 0.999, "batch_conversations": 23})
    assert trainer.evaluated is trainer.ema_model
    start = Trainer(job, prepare_here(open_corpus(str(job.corpus)), job)[0], ProcessGroup()).model
    assert trainer.ema_model is not None
    triples = zip(start.parameters(), trainer.model.parameters(), trainer.ema_model.parameters(), strict=True)
    for before, after, averaged in triples:  # one step: a decay of min(0.999, 1 / 10)
        torch.testing.assert_close(averaged, before + 0.9 * (after - before))


@pytest.mark.parametrize(
    ("stages", "expected"), [("joint", ["joint"] * 3), ("two-phase", ["fusion", "fusion", "rest"])]
)
def test_the_stage_of_an_epoch(tiny: Tiny, stages: str, expected: list[str]) -> None:
    _, trainer, _ = trained(tiny, {"stages": stages, "fusion_epochs": 2})
    assert [trainer.stage_of(epoch) for epoch in range(3)] == expected
