"""Whole runs over several processes without Ray, whose report would synchronise the ranks."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from joyful_ray.config import JobConfig
from joyful_ray.corpora.shards import open_corpus
from joyful_ray.data.loader import ResidentLoader
from joyful_ray.data.prepare import prepare_here
from joyful_ray.train import saving
from joyful_ray.train.loop import run
from joyful_ray.train.loop_spec import RunSpec
from joyful_ray.train.process_group import ProcessGroup
from joyful_ray.train.run_directory import RunDirectory
from tests.ranks import on_ranks
from tests.tiny_corpus import small_job
from tests.train.conftest import Tiny

CHECKPOINT_S = 1.0


def a_run_whose_checkpoints_take_long(process_group: ProcessGroup, job: JobConfig) -> dict[str, Any]:
    write = saving.write_checkpoint

    def slow(*args: Any) -> None:
        time.sleep(CHECKPOINT_S)
        write(*args)

    saving.write_checkpoint = slow
    corpus_info, stores = prepare_here(open_corpus(str(job.corpus)), job)
    sources = {split: partial(ResidentLoader.of, job, store) for split, store in stores.items()}
    directory = RunDirectory.of(job, "slow")
    record = run(RunSpec(job, corpus_info, sources, directory, process_group.size, time.time()), process_group)
    return record.model_dump(include={"dev", "test", "selected_epoch"})


@pytest.mark.slow
def test_ranks_wait_for_the_last_checkpoint(tiny: Tiny, tmp_path: Path) -> None:
    job = small_job({"corpus": tiny(), "storage": str(tmp_path), "train": {"epochs": 2, "learning_rate": 0.01}})
    first, second = on_ranks(a_run_whose_checkpoints_take_long, 2, tmp_path, job)
    assert first == second
    assert first["dev"]["utterances"] > 0
