"""Checks a command for a cluster before anything is sent: its files must be available, and its results must be kept."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from joyful_ray.config import JobConfig, load_job
from joyful_ray.errors import ConfigError
from joyful_ray.storage import open_location
from joyful_ray.submit.packing import Packing
from joyful_ray.submit.secrets import refuse_secrets

RUN_COMMANDS = ("train", "search", "study")
STORAGE_COMMANDS = (*RUN_COMMANDS, "transfer")
"""Commands that write to the `storage` of their job."""
LOOPBACK = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])")
EXCLUSION_REASONS = {"ignored": ".gitignore excludes it", "data": "runs, corpora and data are not sent"}


@dataclass(frozen=True)
class Submission:
    """A command for a cluster.

    Attributes:
        words: the command, beginning with its verb.
        run: name of the run or search that the command starts or continues; for other commands, the verb.
        job: the resolved job file, if the command has one.
        notes: what the user should know before it runs.
    """

    words: tuple[str, ...]
    run: str
    job: JobConfig | None = None
    notes: tuple[str, ...] = ()

    @property
    def uses_run_directory(self) -> bool:
        """Whether it writes to a run's directory, which only one command at a time may do."""
        return self.words[0] in RUN_COMMANDS

    @property
    def uses_bucket(self) -> bool:
        """Whether it reads from a bucket or writes to one."""
        places = [self.job.corpus, self.job.storage] if self.job is not None else []
        return any("s3://" in text or "s3a://" in text for text in (*self.words, *filter(None, places)))

    def entrypoint(self, python: str) -> str:
        """Return the command line for the cluster's shell."""
        return shlex.join([python, "-m", "joyful_ray", *self.words])


def read_submission(
    words: Sequence[str],
    packing: Packing,
    *,
    job_file: Path | None = None,
    overrides: Sequence[str] = (),
    name: str | None = None,
    reads: Sequence[str] = (),
    writes: Sequence[str] = (),
) -> Submission:
    """Check a command that the command line has already parsed.

    Args:
        words: the command, beginning with its verb.
        packing: the files that are sent with it.
        job_file, overrides, name: the job file, settings and run name that the command gives, if any.
        reads, writes: places that the command reads or writes, such as a bundle or a folder for results.

    Raises:
        ConfigError: the job is invalid, a file that it needs is not sent, its results would be lost, or a word is a
            secret.
    """
    refuse_secrets(words)
    verb = words[0]
    for place in reads:
        _check_readable(place, packing)
    for place in writes:
        _check_kept(place, f"{verb} writes to {place}")
    if job_file is None:
        return Submission(tuple(words), verb, notes=_notes(verb, words))
    packed_file = _packed_job_file(job_file, packing)
    job = load_job(packing.folder / packed_file, list(overrides))
    run = (name or job.name) if verb in RUN_COMMANDS else verb
    _refuse_other_cluster(job)
    if verb in STORAGE_COMMANDS:
        _check_kept(job.storage, f"storage is {job.storage}", option="--set storage=")
    if job.corpus is not None:
        _check_readable(job.corpus, packing, option="--set corpus=")
    for source in job.study.corpora.values() if verb == "study" and job.study is not None else ():
        if isinstance(source, str):
            _check_readable(source, packing, option="--set study.corpora.NAME=")
    for entry in job.transfer.corpora.values() if verb == "transfer" and job.transfer is not None else ():
        _check_readable(entry.corpus, packing)
        _check_readable(entry.label_map, packing)
    return Submission(tuple(words), run, job, _notes(verb, (job.storage,) if verb in STORAGE_COMMANDS else ()))


def _packed_job_file(job_file: Path, packing: Packing) -> str:
    if job_file.is_absolute():
        raise ConfigError(f"{job_file} is a path of this machine; name the job file relative to {packing.folder}")
    name = os.path.normpath(job_file).replace(os.sep, "/")
    if name.startswith("../"):
        raise ConfigError(f"{job_file} is outside of {packing.folder}, the folder that is sent; see --working-dir")
    if name not in packing.files and (packing.folder / name).is_file():
        raise ConfigError(f"{job_file} is not sent with the job ({_reason_not_sent(name, packing)})")
    return name


def _reason_not_sent(name: str, packing: Packing) -> str:
    for excluded, reason in packing.left_out.items():
        if name == excluded.rstrip("/") or name.startswith(excluded.rstrip("/") + "/"):
            return EXCLUSION_REASONS.get(reason, f"{excluded} is not sent")
    return "it does not exist"


def _refuse_other_cluster(job: JobConfig) -> None:
    if job.cluster.address not in (None, "auto"):
        raise ConfigError(
            f"cluster.address is {job.cluster.address}, but a submitted job joins the cluster it runs on; remove "
            "cluster.address"
        )


def _check_kept(place: str, what: str, *, option: str = "") -> None:
    if "://" not in place and not os.path.isabs(place):
        raise ConfigError(
            f"{what}, which the cluster removes with the job; use {option}s3://BUCKET/PREFIX, or an absolute "
            "path that all nodes share"
        )
    open_location(place)


def _check_readable(place: str, packing: Packing, *, option: str = "") -> None:
    if "://" in place or os.path.isabs(place):
        open_location(place)
        return
    name = os.path.normpath(place).replace(os.sep, "/")
    if not packing.contains(name):
        raise ConfigError(
            f"{place} is not sent with the job ({_reason_not_sent(name, packing)}); copy it to a bucket and use "
            f"{option}s3://BUCKET/PREFIX, or use an absolute path that all nodes share"
        )


def _notes(verb: str, places: Sequence[str]) -> tuple[str, ...]:
    notes = []
    if verb == "demo":
        notes.append("the demo's corpus and run are written to a folder that the cluster removes with the job")
    for place in places:
        if LOOPBACK.search(place) and "://" in place:
            notes.append(f"{place} names this machine; a cluster of other machines cannot reach it")
        elif os.path.isabs(place) and verb in STORAGE_COMMANDS:
            notes.append(f"{place} must be a folder that all nodes of the cluster share")
    return tuple(notes)
