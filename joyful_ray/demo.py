"""The demo: makes a small synthetic corpus, trains on it, and scores the resulting bundle."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from joyful_ray.config import JobConfig, load_job
from joyful_ray.records import EpochMetrics, RunRecord, Scores
from joyful_ray.schema import MANIFEST_NAME
from joyful_ray.storage import open_location
from joyful_ray.wording import counted

CONVERSATIONS = 300
SEED = 0


class DemoResult(BaseModel):
    """The results of the demo.

    Attributes:
        corpus: path of the corpus.
        record: record of the run.
        bundle_scores: dev scores of the bundle, evaluated again.
        best_possible: scores on test of a model that knows how the corpus was generated.
        next_commands: commands to try next.
    """

    model_config = ConfigDict(frozen=True)

    corpus: str
    record: RunRecord
    bundle_scores: Scores
    best_possible: dict[str, float]
    next_commands: list[str]


def demo_job(folder: Path, *, workers: int) -> JobConfig:
    """The settings of the demo in a folder; the run gets the next free name, so that finished runs are kept."""
    with resources.as_file(resources.files("joyful_ray").joinpath("demo.yaml")) as settings:
        job = load_job(
            settings, [f"corpus={folder / 'corpus'}", f"storage={folder / 'runs'}", f"cluster.workers={workers}"]
        )
    runs = open_location(job.storage)
    number = 1
    while runs.join(_run_name(job, number), "record.json").exists():
        number += 1
    return job.model_copy(update={"name": _run_name(job, number)})


def _run_name(job: JobConfig, number: int) -> str:
    return job.name if number == 1 else f"{job.name}-{number}"


def run_demo(job: JobConfig, *, stage: Callable[[str], None], watch: Callable[[EpochMetrics], None]) -> DemoResult:
    """Make the corpus if there is none, train, and score the bundle.

    Args:
        job: from `demo_job`.
        stage: called with a line of text at the start of each stage.
        watch: called with each epoch's metrics.
    """
    from joyful_ray.corpora.shards import open_corpus
    from joyful_ray.corpora.synthetic import synthesize
    from joyful_ray.train.evaluate import evaluate_bundle
    from joyful_ray.train.launch import train

    assert job.corpus is not None
    if not open_location(job.corpus).join(MANIFEST_NAME).exists():
        stage(f"making a corpus of {CONVERSATIONS} conversations at {job.corpus}")
        synthesize(job.corpus, conversations=CONVERSATIONS, seed=SEED)
    workers = job.cluster.workers
    if workers:
        stage(f"starting {counted(workers, 'Ray worker')}")
    else:
        stage("training in this process, without Ray")
    record = train(job, watch=watch)
    run = open_location(job.storage).join(job.name)
    bundle = run.join("bundle").uri
    stage(f"scoring {bundle}")
    optimum = open_corpus(job.corpus).manifest.notes["optimum"]
    return DemoResult(
        corpus=job.corpus,
        record=record,
        bundle_scores=evaluate_bundle(bundle, job.corpus, split="dev", device="cpu"),
        best_possible={name: optimum[name] for name in record.dev.values if name in optimum},
        next_commands=[
            f"{program('joyful')} inspect {job.corpus}",
            f"{program('joyful')} evaluate {bundle} --corpus {job.corpus}",
            f"{program('tensorboard')} --logdir {run.join('tensorboard').uri}",
        ],
    )


def program(name: str) -> str:
    """How to call a program of this environment: by its name if it is on the PATH, else by its full path."""
    return name if shutil.which(name) else str(Path(sys.executable).with_name(name))
