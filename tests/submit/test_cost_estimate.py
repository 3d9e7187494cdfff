"""What a run needs: exact sums from made-up timings, and a real dry run compared with a real run."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from joyful_ray.cli import main
from joyful_ray.config import JobConfig
from joyful_ray.corpora.shards import Corpus, open_corpus
from joyful_ray.errors import ConfigError
from joyful_ray.submit.cost_estimate import CostEstimate, cost_from_dry_run, estimate_cost
from joyful_ray.submit.resources import Resources
from joyful_ray.train.dry_run import DryRun
from joyful_ray.train.launch import train
from joyful_ray.train.run_directory import RunDirectory
from tests.tiny_corpus import small_job, write_tiny

HERE = Resources(where="this machine", nodes=1, cpus=4, gpus=0)
ELSEWHERE = {"where": "http://head:8265", "is_local": False}
MEASURED = DryRun(
    processes=2,
    device="cpu",
    parameters=1000,
    steps=10,
    step_s=2.0,
    step_error_s=0.0,
    dev_s=3.0,
    diagnose_s=1.0,
    save_s=0.5,
    start_s=1.0,
    prepare_s=5.0,
    checkpoint_bytes=12_000,
    weights_bytes=4_000,
    peak_memory_bytes=10**9,
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """20 conversations to train on, and a separate dev split."""
    return open_corpus(write_tiny(tmp_path_factory.mktemp("c") / "tiny", counts={"train": 20, "dev": 4, "test": 3}))


def job_of(**settings: Any) -> JobConfig:
    train = {"epochs": 10, "patience": 3, "batch_conversations": 8, "micro_batches": 4, "keep_checkpoints": 1}
    return small_job({"train": train | settings.pop("train", {})}, {"cluster": {"workers": 2}}, settings)


def estimated(corpus: Corpus, job: JobConfig, measured: DryRun = MEASURED, **more: Any) -> CostEstimate:
    return cost_from_dry_run(job, corpus, measured, more.pop("resources", HERE), **more)


def test_the_estimate_adds_up_the_timings(corpus: Corpus) -> None:
    plan = estimated(corpus, job_of())
    assert plan.steps_per_epoch == 3
    assert plan.epoch_s == pytest.approx(3 * 2.0 + 3.0 + 1.0 + 0.5 + 0.3)
    assert plan.hours == pytest.approx((plan.setup_s + 10 * plan.epoch_s) / 3600)
    assert plan.earliest_hours == pytest.approx((plan.setup_s + 4 * plan.epoch_s) / 3600)
    assert plan.model_bytes == 4 * 4_000
    assert plan.storage_bytes == 2 * 12_000 + 4_000
    assert plan.gpu_hours == 0.0
    assert plan.error == pytest.approx(0.15)
    assert estimated(corpus, job_of(train={"ema_decay": 0.9})).model_bytes == 5 * 4_000
    assert estimated(corpus, job_of(cluster={"workers": 0})).setup_s == 5.0


def test_cost_is_gpus_times_hours_times_price(corpus: Corpus) -> None:
    resources = Resources(where="this machine", nodes=1, cpus=8, gpus=2)
    plan = estimated(corpus, job_of(cluster={"gpus_per_worker": 0.5}), resources=resources, price=3.0)
    assert plan.gpu_hours == pytest.approx(plan.hours)
    assert plan.cost == pytest.approx(3.0 * plan.hours)


def test_uncertainty_grows_with_scattered_steps_and_with_what_was_not_measured(corpus: Corpus) -> None:
    scattered = estimated(corpus, job_of(), replace(MEASURED, step_error_s=0.4))
    assert scattered.error == pytest.approx(math.hypot(0.15, 0.4))
    elsewhere = estimated(corpus, job_of(), resources=HERE.model_copy(update=ELSEWHERE))
    assert elsewhere.error == pytest.approx(math.hypot(0.15, 0.5))
    many = estimated(corpus, job_of(cluster={"workers": 4}))
    assert many.error == pytest.approx(math.hypot(0.15, 0.5))


FIXED = {"objective": {"negatives": "micro-batch"}}


@pytest.mark.parametrize(
    ("settings", "resources", "expected"),
    [
        (
            {"cluster": {"workers": 6}} | FIXED,
            HERE,
            "2 of 6 workers are idle, because objective.negatives: micro-batch needs fixed parts and a step has 4 "
            "micro-batches; use 4 workers",
        ),
        (
            {"cluster": {"workers": 3}} | FIXED,
            HERE,
            "workers are idle 33% of the time, because 4 micro-batches cannot be divided evenly among 3 workers",
        ),
        (
            {"train": {"batch_conversations": 2}} | FIXED,
            HERE,
            "2 conversations, enough for 2 micro-batches instead of the 4",
        ),
        ({"cluster": {"workers": 6}}, HERE, "a step has 8 conversations for 6 workers, so that some are idle"),
        ({}, HERE, "a worker has only about"),
        ({"cluster": {"workers": 4, "cpus_per_worker": 2.0}}, HERE, "4 workers need 8 CPUs, but this machine has 4"),
        ({"cluster": {"gpus_per_worker": 1.0}}, HERE, "2 workers need 2 GPUs, but this machine has 0"),
        ({"cluster": {"gpus_per_worker": 1.0}}, HERE, "measured on a CPU because this machine has no GPU"),
        ({}, HERE.model_copy(update={"gpus": 2}), "has 2 GPUs, but cluster.gpus_per_worker is 0"),
        ({"cluster": {"max_hours": 0.001}}, HERE, "cluster.max_hours (0.001) is less than all epochs take"),
        ({"cluster": {"workers": 4}}, HERE, "measured with 2 processes instead of 4"),
        ({}, HERE.model_copy(update=ELSEWHERE), "joyful submit plan"),
    ],
)
def test_idle_waiting_or_stopped_workers_give_a_warning(
    corpus: Corpus, settings: dict[str, Any], resources: Resources, expected: str
) -> None:
    warnings = estimated(corpus, job_of(**settings), resources=resources).warnings
    assert [line for line in warnings if expected in line], warnings


def test_a_job_that_fits_gives_no_warning(corpus: Corpus) -> None:
    entry = corpus.manifest.splits["train"]
    dense = corpus.manifest.model_copy(
        update={"splits": {"train": entry.model_copy(update={"utterances": 100 * entry.conversations})}}
    )
    assert estimated(Corpus(dense, corpus.location), job_of()).warnings == []


def test_a_job_without_a_corpus_is_refused() -> None:
    with pytest.raises(ConfigError, match="corpus is not set"):
        estimate_cost(JobConfig())


@pytest.mark.slow
def test_a_dry_run_predicts_the_real_run(corpus: Corpus, tmp_path: Path) -> None:
    job = job_of(corpus=corpus.location.uri, storage=str(tmp_path), name="real", cluster={"workers": 0})
    plan = estimate_cost(job)
    record = train(job)
    directory = RunDirectory.of(job)
    assert plan.parameters == record.parameters
    assert plan.conversations == directory.metrics()[0].conversations
    sizes = {path: path.stat().st_size for path in tmp_path.rglob("*.safetensors") if path.parent.name.isdigit()}
    latest = directory.checkpoint(record.epochs - 1).path
    one = sum(size for path, size in sizes.items() if str(path.parent) == latest)
    assert plan.storage_bytes == pytest.approx(2 * one + plan.model_bytes / 4, rel=0.05)
    assert plan.worker_bytes > 50 * 2**20
    assert 0 < plan.step_s < plan.epoch_s < 3600 * plan.hours


@pytest.mark.slow
def test_a_dry_run_of_two_workers_runs_them_side_by_side(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import json
    import os

    words = ["plan", "jobs/demo.yaml", "--workers", "2", "--set", f"corpus={corpus.location.uri}", "--json"]
    assert main([*words, "--price-per-gpu-hour", "2", "--set", "train.diagnostics=false"]) == 0
    plan = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert ("2 processes side by side" if (os.cpu_count() or 1) > 1 else "1 process") in plan["measured"]
    assert plan["workers"] == 2
    assert plan["cost"] == 0.0
