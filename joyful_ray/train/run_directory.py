"""The directory of a run: the files in it, and whether an existing run may continue."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

import yaml

from joyful_ray.config import HOW_OFTEN_SAVED, NAME_PATTERN, NOT_YAML, JobConfig, differences, resolve, to_yaml
from joyful_ray.errors import CheckpointError, ConfigError
from joyful_ray.records import EpochMetrics, RunRecord, read_as, read_lines_as
from joyful_ray.storage import Location, open_location

CONFIG, METRICS, RECORD, FAILURE = "config.yaml", "metrics.jsonl", "record.json", "failure.json"
POSITION, STOP, STOPPED = "checkpoints/position.json", ".ray/stop", ".ray/stopped"
MAY_DIFFER = ("name", "storage", "corpus", "cluster.", "search", "study", *HOW_OFTEN_SAVED)


@dataclass(frozen=True)
class RunDirectory:
    """`<storage>/<run name>/`; it can be pickled, so that workers can use it too."""

    location: Location

    @classmethod
    def of(cls, job: JobConfig, name: str | None = None) -> RunDirectory:
        """The directory of a job's run.

        Args:
            job: its `storage` is used.
            name: name of the run; None takes the job's name.

        Raises:
            ConfigError: the name is not valid for a run.
        """
        name = job.name if name is None else name
        if not re.fullmatch(NAME_PATTERN, name):
            raise ConfigError(
                f"{name!r} is not a valid name of a run; use letters, digits and . _ - after a letter or digit"
            )
        return cls(open_location(job.storage).join(name))

    @property
    def checkpoints(self) -> Location:
        """The folder of the checkpoints, `checkpoints/<epoch>/` and `checkpoints/<epoch>-<step>/`."""
        return self.location.join("checkpoints")

    @property
    def logs(self) -> Location:
        """The folder of the logs of the command and of the workers."""
        return self.location.join("logs")

    @property
    def bundle(self) -> Location:
        """The folder of the selected model."""
        return self.location.join("bundle")

    def checkpoint(self, epoch: int, step: int | None = None) -> Location:
        """The folder of the checkpoint after an epoch, or after some of its steps.

        Args:
            epoch: counted from 0, as in the name of the folder.
            step: number of steps of the epoch; None is the whole epoch.
        """
        return self.checkpoints.join(f"{epoch:05d}" if step is None else f"{epoch:05d}-{step:06d}")

    def begin(self, job: JobConfig, *, corpus_hash: str) -> bool:
        """Write the config of a new run, or check that an unfinished run has the same settings and corpus.

        Args:
            job: the settings.
            corpus_hash: hash of the corpus.

        Returns:
            Whether an earlier run continues.

        Raises:
            CheckpointError: the run is finished, or has other settings; the message names the settings that differ.
        """
        name = self.location.name
        if self.location.join(RECORD).exists():
            raise CheckpointError(
                f"run {name} in {job.storage} is finished; give this one another --name, or remove {self.location.uri}"
            )
        place = self.location.join(CONFIG)
        if not place.exists():
            place.write_text(f"# fingerprint: {job.fingerprint}\n# corpus: {corpus_hash}\n{to_yaml(job)}")
            return False
        self.check_same(job, corpus_hash=corpus_hash)
        if self.location.join(FAILURE).exists():
            self.location.join(FAILURE).remove()
        return True

    def check_same(self, job: JobConfig, *, corpus_hash: str) -> None:
        """Check that this run was started with the same settings on the same corpus.

        Raises:
            CheckpointError: it was not; the message names the settings that differ.
        """
        name, place = self.location.name, self.location.join(CONFIG)
        text = place.read_text()
        try:
            content = yaml.safe_load(text)
            earlier = resolve(content if isinstance(content, dict) else {"config": content})
        except (*NOT_YAML, ConfigError):
            raise CheckpointError(
                f"{place.uri} is damaged, or was written by another version; "
                f"remove {self.location.uri}, or give another --name"
            ) from None
        changed = [line for line in differences(earlier, job) if not line.startswith(MAY_DIFFER)]
        if changed:
            raise CheckpointError(
                f"run {name} was started with other settings ({'; '.join(changed)}); give this one another --name"
            )
        known = re.search(r"^# corpus: (\w+)$", text, re.MULTILINE)
        if known and known[1] != corpus_hash:
            raise CheckpointError(f"run {name} was started on another corpus; give this one another --name")

    def metrics(self) -> list[EpochMetrics]:
        """The metrics of all epochs so far; an incomplete last line is skipped.

        Raises:
            CheckpointError: a line is damaged.
        """
        place = self.location.join(METRICS)
        return read_lines_as(EpochMetrics, place.read_text(), place=place.uri) if place.exists() else []

    def drop_metrics_from(self, epoch: int) -> None:
        """Drop the metrics of this epoch and of later ones, which are about to run again."""
        kept = [line for line in self.metrics() if line.epoch < epoch]
        self.location.join(METRICS).write_text("".join(line.model_dump_json() + "\n" for line in kept))

    def add_metrics(self, metrics: EpochMetrics) -> None:
        """Append the line of one epoch."""
        self.location.join(METRICS).append_text(metrics.model_dump_json() + "\n")

    def write_record(self, record: RunRecord) -> None:
        """Write the record, which marks the run as finished."""
        self.location.join(RECORD).write_text(record.model_dump_json(indent=1))

    def read_record(self) -> RunRecord | None:
        """The record; None if the run is not finished.

        Raises:
            CheckpointError: the record is damaged.
        """
        place = self.location.join(RECORD)
        return read_as(RunRecord, place.read_text(), place=place.uri) if place.exists() else None

    def note_steps(self, steps: int) -> None:
        """Note how many steps have been trained."""
        self.location.join(POSITION).write_text(json.dumps({"steps": steps}))

    def noted_steps(self) -> int:
        """How many steps had been trained at the last note; 0 without one."""
        place = self.location.join(POSITION)
        return int(json.loads(place.read_text())["steps"]) if place.exists() else 0

    def request_stop(self) -> None:
        """Ask the workers to save and stop."""
        self.location.join(STOP).write_text("")

    def stop_is_requested(self) -> bool:
        """Whether the workers shall save and stop."""
        return self.location.join(STOP).exists()

    def write_stopped(self, message: str) -> None:
        """Say where the workers stopped."""
        self.location.join(STOPPED).write_text(message)

    def read_stopped(self) -> str | None:
        """Where the workers stopped; None if they have not."""
        place = self.location.join(STOPPED)
        return place.read_text() if place.exists() else None

    def forget_stop(self) -> None:
        """Remove what an earlier command asked of the workers, and their answer."""
        for name in (STOP, STOPPED):
            self.location.join(name).remove()

    def write_failure(self, message: str) -> None:
        """Write down why the workers stopped."""
        self.location.join(FAILURE).write_text(json.dumps({"message": message}))

    def read_failure(self) -> str | None:
        """Why the workers stopped; None if they did not fail."""
        place = self.location.join(FAILURE)
        return json.loads(place.read_text())["message"] if place.exists() else None
