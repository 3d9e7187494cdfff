"""What is to run on a cluster, checked before anything is sent: its files travel, and its results stay."""

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

KEEPS_RUNS = ("train", "search")
LOOPBACK = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])")


@dataclass(frozen=True)
class Submission:
    """A command for a cluster.

    Attributes:
        words: the command, from its verb on.
        run: name of the run or study that it goes on with; of other commands, the verb.
        job: its job file, resolved.
        notes: what the user should know before it runs.
    """

    words: tuple[str, ...]
    run: str
    job: JobConfig | None = None
    notes: tuple[str, ...] = ()

    @property
    def goes_on(self) -> bool:
        """Whether it works in a run's directory, in which one command at a time may be."""
        return self.words[0] in KEEPS_RUNS

    @property
    def uses_bucket(self) -> bool:
        """Whether it reads from or writes to a bucket."""
        places = [self.job.corpus, self.job.storage] if self.job is not None else []
        return any("s3://" in text or "s3a://" in text for text in (*self.words, *filter(None, places)))

    def entrypoint(self, python: str) -> str:
        """What the cluster's shell runs."""
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
    """Check a command whose words the command line has already understood.

    Args:
        packing: what travels with it.
        job_file, overrides, name: what the command says of its job, where it has one.
        reads, writes: places that it names itself, such as a bundle, or where results go.

    Raises:
        ConfigError: the job is wrong, its files do not travel, its results would be lost, or a word is a secret.
    """
    refuse_secrets(words)
    verb = words[0]
    for place in reads:
        _refuse_absent(place, packing)
    for place in writes:
        _refuse_lost(place, f"{verb} writes to {place}")
    if job_file is None:
        return Submission(tuple(words), verb, notes=_notes(verb, words))
    inside = _inside(job_file, packing)
    job = load_job(packing.folder / inside, list(overrides))
    run = (name or job.name) if verb in KEEPS_RUNS else verb
    _refuse_other_cluster(job)
    if verb in KEEPS_RUNS:
        _refuse_lost(job.storage, f"storage is {job.storage}", remedy="--set storage=")
    if job.corpus is not None:
        _refuse_absent(job.corpus, packing, remedy="--set corpus=")
    return Submission(tuple(words), run, job, _notes(verb, (job.storage,) if verb in KEEPS_RUNS else ()))


def _inside(job_file: Path, packing: Packing) -> str:
    if job_file.is_absolute():
        raise ConfigError(f"{job_file} is a path of this machine; name the job file relative to {packing.folder}")
    name = os.path.normpath(job_file).replace(os.sep, "/")
    if name.startswith("../"):
        raise ConfigError(f"{job_file} lies outside {packing.folder}, which travels; see --working-dir")
    if name not in packing.files and (packing.folder / name).is_file():
        raise ConfigError(f"{job_file} does not travel with the job ({_why(name, packing)})")
    return name


def _why(name: str, packing: Packing) -> str:
    reasons = {"ignored": ".gitignore leaves it out", "data": "runs, corpora and data stay at home"}
    for left, reason in packing.left_out.items():
        if name == left.rstrip("/") or name.startswith(left.rstrip("/") + "/"):
            return reasons.get(reason, f"{left} stays at home")
    return "it is not there"


def _refuse_other_cluster(job: JobConfig) -> None:
    if job.cluster.address not in (None, "auto"):
        raise ConfigError(
            f"cluster.address is {job.cluster.address}, but a submitted job joins the cluster it runs on; unset it"
        )


def _refuse_lost(place: str, what: str, *, remedy: str = "") -> None:
    if "://" not in place and not os.path.isabs(place):
        raise ConfigError(
            f"{what}, a folder that the cluster removes with the job; name {remedy}s3://BUCKET/PREFIX, or an absolute "
            "path that all nodes share"
        )
    open_location(place)


def _refuse_absent(place: str, packing: Packing, *, remedy: str = "") -> None:
    if "://" in place or os.path.isabs(place):
        open_location(place)
        return
    name = os.path.normpath(place).replace(os.sep, "/")
    if not packing.holds(name):
        raise ConfigError(
            f"{place} does not travel with the job ({_why(name, packing)}); put it in a bucket and name "
            f"{remedy}s3://BUCKET/PREFIX, or name an absolute path that all nodes share"
        )


def _notes(verb: str, places: Sequence[str]) -> tuple[str, ...]:
    notes = []
    if verb == "demo":
        notes.append("the demo's corpus and run stay on the cluster, in a folder that goes with the job")
    for place in places:
        if LOOPBACK.search(place) and "://" in place:
            notes.append(f"{place} names this machine; a cluster of other machines would not find it")
        elif os.path.isabs(place) and verb in KEEPS_RUNS:
            notes.append(f"{place} must be a folder that all nodes of the cluster share")
    return tuple(notes)
