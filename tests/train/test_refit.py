"""Training once more on train and dev: the epochs that dev selected, and test read once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from joyful_ray.config import JobConfig, resolve
from joyful_ray.corpora.shards import open_corpus
from joyful_ray.data.loader import ResidentLoader
from joyful_ray.data.prepare import prepare_here
from joyful_ray.data.store import SplitStore
from joyful_ray.errors import ConfigError
from joyful_ray.train.bundle import read_bundle
from joyful_ray.train.evaluate import evaluate_bundle
from joyful_ray.train.launch import train
from joyful_ray.train.process_group import ProcessGroup
from joyful_ray.train.run_directory import RunDirectory
from joyful_ray.train.schedule import Progress
from joyful_ray.train.trainer import Trainer
from tests.tiny_corpus import small_job


def job_of(tiny: Callable[..., str], tmp_path: Path, **settings: Any) -> JobConfig:
    place = {"corpus": tiny(), "storage": str(tmp_path)}
    return small_job(place, {"train": {"epochs": 4, "ema_decay": 0.9, **settings}})


def test_the_kept_model_is_trained_on_train_and_dev_for_the_selected_epochs(
    tiny: Callable[..., str], tmp_path: Path
) -> None:
    plain, refitted = job_of(tiny, tmp_path), job_of(tiny, tmp_path, refit=True)
    before, after = train(plain, name="plain"), train(refitted, name="refitted")
    assert (after.dev, after.selected_epoch, after.test_reads) == (before.dev, before.selected_epoch, 1)
    assert (before.refit_epochs, after.refit_epochs) == (0, before.selected_epoch + 1)
    corpus_info, stores = prepare_here(open_corpus(tiny()), refitted)
    both = SplitStore([*stores["train"].tables, *stores["dev"].tables], corpus_info.encoding)
    assert len(both) == len(stores["train"]) + len(stores["dev"])
    trainer = Trainer(refitted, corpus_info, ProcessGroup())
    for epoch in range(after.refit_epochs):
        trainer.train_epoch(ResidentLoader.of(refitted, both), Progress(next_epoch=epoch))
    kept = read_bundle(RunDirectory.of(refitted, "refitted").bundle.uri)
    for name, value in trainer.evaluated.state_dict().items():
        torch.testing.assert_close(kept.model.state_dict()[name], value)
    assert after.test is not None
    assert after.test.values == evaluate_bundle(kept.location.uri, tiny(), device="cpu").values
    assert after.test != before.test


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.long
def test_two_workers_refit_to_the_same_weights(tiny: Callable[..., str], tmp_path: Path, local_ray: None) -> None:
    here = job_of(tiny, tmp_path, refit=True)
    there = here.model_copy(update={"cluster": here.cluster.model_copy(update={"workers": 2})})
    one, two = train(here, name="one"), train(there, name="two")
    assert two.refit_epochs == one.refit_epochs
    assert one.test is not None
    assert two.test is not None
    assert two.test.loss == pytest.approx(one.test.loss, rel=1e-4)


def test_a_schedule_that_follows_dev_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"train.refit has no dev loss to follow"):
        resolve({"train": {"refit": True, "schedule": "plateau"}})
