"""A run on disk: what is where, and whether a run of that name may go on."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

import yaml

from joyful_ray.config import NAME_PATTERN, NOT_YAML, JobConfig, differences, resolve, to_yaml
from joyful_ray.errors import CheckpointError, ConfigError
from joyful_ray.records import EpochMetrics, RunRecord, read_as, read_lines_as
from joyful_ray.storage import Location, open_location

CONFIG, METRICS, RECORD, FAILURE = "config.yaml", "metrics.jsonl", "record.json", "failure.json"
MAY_DIFFER = ("name", "storage", "corpus", "cluster.", "search")


@dataclass(frozen=True)
class RunDirectory:
    """`<storage>/<run name>/`; picklable, so that workers find it too."""

    location: Location

    @classmethod
    def of(cls, job: JobConfig, name: str | None = None) -> RunDirectory:
        """Where a job's run of this name lies.

        Raises:
            ConfigError: the name is none that a run may have.
        """
        name = job.name if name is None else name
        if not re.fullmatch(NAME_PATTERN, name):
            raise ConfigError(f"{name!r} names no run; use letters, digits and . _ -, the first a letter or digit")
        return cls(open_location(job.storage).join(name))

    @property
    def checkpoints(self) -> Location:
        """`checkpoints/<epoch>/`."""
        return self.location.join("checkpoints")

    @property
    def bundle(self) -> Location:
        """The selected model."""
        return self.location.join("bundle")

    def checkpoint(self, epoch: int) -> Location:
        """The checkpoint behind an epoch."""
        return self.checkpoints.join(f"{epoch:05d}")

    def begin(self, job: JobConfig, *, corpus_hash: str) -> bool:
        """Write the config of a new run, or see that an unfinished one is the same.

        Returns:
            Whether it continues an earlier run.

        Raises:
            CheckpointError: the run is finished, or is another one; the message names the setting that differs.
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
        text = place.read_text()
        try:
            content = yaml.safe_load(text)
            earlier = resolve(content if isinstance(content, dict) else {"config": content})
        except (*NOT_YAML, ConfigError):
            raise CheckpointError(
                f"{place.uri} is damaged, or of another version; remove {self.location.uri} or give another --name"
            ) from None
        changed = [line for line in differences(earlier, job) if not line.startswith(MAY_DIFFER)]
        if changed:
            raise CheckpointError(
                f"run {name} was started with other settings ({'; '.join(changed)}); give this one another --name"
            )
        known = re.search(r"^# corpus: (\w+)$", text, re.MULTILINE)
        if known and known[1] != corpus_hash:
            raise CheckpointError(f"run {name} was started on another corpus; give this one another --name")
        if self.location.join(FAILURE).exists():
            self.location.join(FAILURE).remove()
        return True

    def metrics(self) -> list[EpochMetrics]:
        """The epochs so far; a last line that was cut off is left out.

        Raises:
            CheckpointError: a line is damaged.
        """
        place = self.location.join(METRICS)
        return read_lines_as(EpochMetrics, place.read_text(), place=place.uri) if place.exists() else []

    def forget_from(self, epoch: int) -> None:
        """Drop metrics of this epoch and later ones, which are about to be made again."""
        kept = [line for line in self.metrics() if line.epoch < epoch]
        self.location.join(METRICS).write_text("".join(line.model_dump_json() + "\n" for line in kept))

    def add_metrics(self, metrics: EpochMetrics) -> None:
        """Add one epoch's line."""
        self.location.join(METRICS).append_text(metrics.model_dump_json() + "\n")

    def write_record(self, record: RunRecord) -> None:
        """Write the record: from now on the run is finished."""
        self.location.join(RECORD).write_text(record.model_dump_json(indent=1))

    def read_record(self) -> RunRecord | None:
        """The record, or None of a run that is not finished.

        Raises:
            CheckpointError: it is damaged.
        """
        place = self.location.join(RECORD)
        return read_as(RunRecord, place.read_text(), place=place.uri) if place.exists() else None

    def write_failure(self, message: str) -> None:
        """Leave word of why the workers stopped."""
        self.location.join(FAILURE).write_text(json.dumps({"message": message}))

    def read_failure(self) -> str | None:
        """Why the workers stopped, if they said so."""
        place = self.location.join(FAILURE)
        return json.loads(place.read_text())["message"] if place.exists() else None
