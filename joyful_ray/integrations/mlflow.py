"""Logs runs to MLflow. Needs the extra `mlflow`: `pip install 'joyful-ray[mlflow]'`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from joyful_ray.config import setting, setting_paths
from joyful_ray.errors import ConfigError
from joyful_ray.storage import open_location
from joyful_ray.train.callbacks import Callback, RunInfo

if TYPE_CHECKING:
    from joyful_ray.records import EpochMetrics, RunRecord, Scores

PARAMETER_CHARACTERS = 6000
"""MLflow refuses longer values of parameters."""
RUN_TAG = "joyful_ray.run"


class MLflowCallback(Callback):
    """Logs the settings, the metrics of each epoch, the final scores and the trained model of a run.

    A resumed run continues its MLflow run, found by the tag `joyful_ray.run`. Steps are epochs, counted from 1.

    Args:
        experiment: name of the MLflow experiment; it is created if it does not exist.
        tracking_uri: MLflow server or store; None takes the one that MLFLOW_TRACKING_URI names.
        log_model: whether to upload the bundle as the artifact folder `bundle`.

    Raises:
        ConfigError: MLflow is not installed.

    Example:
        from joyful_ray.integrations.mlflow import MLflowCallback

        joyful_ray.train("jobs/meld.yaml", callbacks=[MLflowCallback("meld")])
    """

    def __init__(
        self, experiment: str = "joyful_ray", *, tracking_uri: str | None = None, log_model: bool = True
    ) -> None:
        try:
            from mlflow.tracking import MlflowClient
        except ImportError:
            raise ConfigError("MLflow is not installed; run: pip install 'joyful-ray[mlflow]'") from None
        self._client: Any = MlflowClient(tracking_uri=tracking_uri)
        self._experiment, self._log_model = experiment, log_model
        self._run_id = ""

    def on_train_begin(self, run: RunInfo) -> None:
        """Create the MLflow run, or find that of an interrupted run, and log all settings."""
        found = self._client.get_experiment_by_name(self._experiment)
        experiment_id = found.experiment_id if found else self._client.create_experiment(self._experiment)
        earlier = self._client.search_runs([experiment_id], f"tags.`{RUN_TAG}` = '{run.uri}'") if run.is_resumed else []
        if earlier:
            self._run_id = earlier[0].info.run_id
            self._client.update_run(self._run_id, status="RUNNING")
            return
        created = self._client.create_run(experiment_id, run_name=run.name, tags={RUN_TAG: run.uri})
        self._run_id = created.info.run_id
        for path in setting_paths():
            self._client.log_param(self._run_id, path, str(setting(run.job, path))[:PARAMETER_CHARACTERS])

    def on_epoch_end(self, run: RunInfo, metrics: EpochMetrics) -> None:
        """Log losses, dev scores and speed."""
        values = {f"loss/{name}": value for name, value in metrics.losses.items()}
        values |= {"dev/loss": metrics.dev.loss} | _prefixed("dev", metrics.dev)
        values |= {"learning_rate": metrics.learning_rate, "utterances_per_second": metrics.utterances_per_second}
        for name, value in values.items():
            self._client.log_metric(self._run_id, name, value, step=metrics.epoch + 1)

    def on_train_end(self, run: RunInfo, record: RunRecord) -> None:
        """Log the scores of the selected epoch and the model, and close the MLflow run."""
        finals = _prefixed("selected/dev", record.dev) | (
            _prefixed("selected/test", record.test) if record.test else {}
        )
        for name, value in finals.items():
            self._client.log_metric(self._run_id, name, value)
        tags = {"selected_epoch": record.selected_epoch + 1, "corpus": record.corpus["name"], "outcome": record.outcome}
        for name, tag in tags.items():
            self._client.set_tag(self._run_id, name, tag)
        if self._log_model:
            self._upload(record.locations["bundle"])
        self._client.set_terminated(self._run_id, status="FINISHED")

    def on_exception(self, run: RunInfo, error: BaseException) -> None:
        """Close the MLflow run as failed, or as killed after Ctrl-C."""
        if self._run_id:
            status = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
            self._client.set_terminated(self._run_id, status=status)

    def _upload(self, bundle: str) -> None:
        place = open_location(bundle)
        with tempfile.TemporaryDirectory() as folder:
            for name in place.list():
                Path(folder, name).write_bytes(place.join(name).read_bytes())
            self._client.log_artifacts(self._run_id, folder, "bundle")


def _prefixed(prefix: str, scores: Scores) -> dict[str, float]:
    return {f"{prefix}/{name}": value for name, value in scores.values.items()}
