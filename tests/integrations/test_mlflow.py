"""The MLflow callback against a local file store."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import joyful_ray
from joyful_ray.config import JobConfig
from joyful_ray.errors import ConfigError, TrainingError
from joyful_ray.integrations.mlflow import MLflowCallback
from joyful_ray.train import launch
from tests.tiny_corpus import small_job


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return (tmp_path / "mlruns").as_uri()


@pytest.fixture
def job(tiny: Callable[..., str], tmp_path: Path) -> JobConfig:
    return small_job(name="tiny", corpus=tiny("single-label"), storage=str(tmp_path / "runs"), train={"epochs": 3})


def runs_of(store: str) -> list[Any]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=store)
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def test_settings_epochs_scores_and_model_are_logged(job: JobConfig, store: str) -> None:
    from mlflow.tracking import MlflowClient

    result = joyful_ray.train(job, callbacks=[MLflowCallback("tiny", tracking_uri=store)])
    (run,) = runs_of(store)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "tiny"
    assert run.data.params["train.learning_rate"] == str(job.train.learning_rate)
    assert run.data.metrics["selected/test/accuracy"] == pytest.approx(result.test["accuracy"])
    assert run.data.tags["selected_epoch"] == str(result.selected_epoch)
    client = MlflowClient(tracking_uri=store)
    history = client.get_metric_history(run.info.run_id, "dev/weighted_f1")
    assert [point.step for point in history] == [1, 2, 3]
    assert [point.value for point in history] == pytest.approx(result.to_pandas()["dev/weighted_f1"].tolist())
    names = {artifact.path for artifact in client.list_artifacts(run.info.run_id, "bundle")}
    assert "bundle/model.safetensors" in names


def test_a_failed_run_is_closed_as_failed_and_its_continuation_continues_it(
    job: JobConfig, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: object) -> None:
        raise TrainingError("the loss is not finite")

    with monkeypatch.context() as patched:
        patched.setattr(launch, "_train_here", fails)
        with pytest.raises(TrainingError):
            joyful_ray.train(job, callbacks=[MLflowCallback("tiny", tracking_uri=store, log_model=False)])
    assert runs_of(store)[0].info.status == "FAILED"
    joyful_ray.train(job, callbacks=[MLflowCallback("tiny", tracking_uri=store, log_model=False)])
    (run,) = runs_of(store)
    assert run.info.status == "FINISHED"


def test_without_mlflow_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    with pytest.raises(ConfigError, match=r"pip install 'joyful-ray\[mlflow\]'"):
        MLflowCallback()
