"""The directory of a search: the files in it, and whether an existing search may continue."""

from __future__ import annotations

import re
from dataclasses import dataclass

import yaml

from joyful_ray.config import NAME_PATTERN, NOT_YAML, JobConfig, differences, resolve, to_yaml
from joyful_ray.errors import CheckpointError, ConfigError
from joyful_ray.records import SearchRecord, read_as
from joyful_ray.search_settings import SearchConfig
from joyful_ray.storage import Location, open_location
from joyful_ray.tune.ledger import Ledger

CONFIG, RECORD, BEST = "config.yaml", "record.json", "best.yaml"
MAY_DIFFER = ("name", "storage", "corpus", "cluster.", "search")
ALWAYS_FREE = (
    "max_trials",
    "max_concurrent",
    "time_budget_s",
    "cpus_per_trial",
    "gpus_per_trial",
    "trial_time_limit_s",
    "keep_best",
    "storage_limit_bytes",
    "confirm",
)
"""Settings of the search that change its size and speed, but not which trials are compared."""


@dataclass(frozen=True)
class SearchDirectory:
    """`<storage>/<search name>/`: `config.yaml`, the ledger, `trials/<trial>/`, `record.json` and `best.yaml`."""

    location: Location

    @classmethod
    def of(cls, job: JobConfig, name: str | None = None) -> SearchDirectory:
        """The directory of a job's search.

        Args:
            job: its `storage` is used.
            name: name of the search; None takes the job's name.

        Raises:
            ConfigError: the name is not valid for a search.
        """
        name = job.name if name is None else name
        if not re.fullmatch(NAME_PATTERN, name):
            raise ConfigError(
                f"{name!r} is not a valid name of a search; use letters, digits and . _ - after a letter or digit"
            )
        return cls(open_location(job.storage).join(name))

    @property
    def ledger(self) -> Ledger:
        """The ledger."""
        return Ledger(self.location)

    def begin(self, job: JobConfig, *, corpus_hash: str, is_extended: bool) -> bool:
        """Write the config of a new search, or check that an existing search may continue with this one.

        Args:
            job: the settings.
            corpus_hash: hash of the corpus.
            is_extended: whether trials are added, so that space and scheduler may have changed.

        Returns:
            Whether it continues an earlier search.

        Raises:
            CheckpointError: the existing search has other settings; the message names them.
        """
        place, name = self.location.join(CONFIG), self.location.name
        if not place.exists():
            if self.location.join("metrics.jsonl").exists() or self.location.join(RECORD).exists():
                raise CheckpointError(f"{self.location.uri} is a run, not a search; give this one another --name")
            self._write(job, corpus_hash)
            return False
        earlier, text = self.config(), place.read_text()
        if earlier.search is None or job.search is None:
            raise CheckpointError(f"{self.location.uri} is a run, not a search; give this one another --name")
        changed = [line for line in differences(earlier, job) if not line.startswith(MAY_DIFFER)]
        if changed:
            raise CheckpointError(
                f"search {name} was started with other settings ({'; '.join(changed)}), so its trials cannot be "
                "compared; give this one another --name"
            )
        parts = _changed_parts(earlier.search, job.search)
        if parts and not is_extended:
            raise CheckpointError(
                f"search {name} was started with another search.{parts[0]}; give this one another --name, or "
                "continue with --add-trials N"
            )
        known = re.search(r"^# corpus: (\w+)$", text, re.MULTILINE)
        if known and known[1] != corpus_hash:
            raise CheckpointError(f"search {name} was started on another corpus; give this one another --name")
        self._write(job, corpus_hash)
        return True

    def config(self) -> JobConfig:
        """The job of the last session.

        Raises:
            CheckpointError: there is none, or it is damaged.
        """
        place = self.location.join(CONFIG)
        if not place.exists():
            raise CheckpointError(f"there is no search at {self.location.uri} ({CONFIG} is missing)")
        try:
            content = yaml.safe_load(place.read_text())
            return resolve(content if isinstance(content, dict) else {"config": content})
        except (*NOT_YAML, ConfigError):
            raise CheckpointError(
                f"{place.uri} is damaged, or was written by another version; "
                f"remove {self.location.uri} or give another --name"
            ) from None

    def write_best(self, job: JobConfig, comment: str) -> Location:
        """Write the chosen settings as a job for `joyful train`; returns where it is."""
        place = self.location.join(BEST)
        place.write_text(f"# {comment}\n# fingerprint: {job.fingerprint}\n{to_yaml(job)}")
        return place

    def write_record(self, record: SearchRecord) -> None:
        """Write the record of the search."""
        self.location.join(RECORD).write_text(record.model_dump_json(indent=1))

    def read_record(self) -> SearchRecord | None:
        """The record of the search; None if it is not finished."""
        place = self.location.join(RECORD)
        return read_as(SearchRecord, place.read_text(), place=place.uri) if place.exists() else None

    def forget_record(self) -> None:
        """Remove the record, because the search continues."""
        self.location.join(RECORD).remove()

    def _write(self, job: JobConfig, corpus_hash: str) -> None:
        self.location.join(CONFIG).write_text(
            f"# fingerprint: {job.fingerprint}\n# corpus: {corpus_hash}\n{to_yaml(job)}"
        )


def _changed_parts(earlier: SearchConfig, now: SearchConfig) -> list[str]:
    return [
        name
        for name in SearchConfig.model_fields
        if name not in ALWAYS_FREE and getattr(earlier, name) != getattr(now, name)
    ]
