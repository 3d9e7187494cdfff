"""Chooses how a run reads its corpus, once: the order of conversations depends on it."""

from __future__ import annotations

import json
from collections.abc import Callable

from joyful_ray.config import JobConfig
from joyful_ray.corpora.shards import Corpus
from joyful_ray.data.prepare import widths_of
from joyful_ray.errors import CheckpointError
from joyful_ray.memory import memory_bytes
from joyful_ray.storage import Location

INGEST = "ingest.json"
RESIDENT_SHARE = 0.3
"""Largest share of a memory that a corpus may fill."""


def decided(job: JobConfig, corpus: Corpus, directory: Location, memory: Callable[[], float]) -> JobConfig:
    """The job with `data.ingest` decided where it is `auto`: as it was for this run before, else by size.

    A run that trains once more on train and dev together stays with `auto`, which reads both into memory.

    Args:
        job: the settings.
        corpus: its corpus.
        directory: where the run or search remembers what was decided.
        memory: bytes of the memory that would hold the corpus.

    Raises:
        CheckpointError: what was decided cannot be read.
    """
    if job.data.ingest != "auto" or job.train.refit:  # to train on both splits together, both must be in memory
        return job
    place = directory.join(INGEST)
    if place.exists():
        try:
            way = json.loads(place.read_text())["ingest"]
        except (ValueError, KeyError, TypeError):
            raise CheckpointError(f"{place.uri} is damaged; set data.ingest to what the run began with") from None
    else:
        way = "resident" if resident_bytes(corpus, job) < RESIDENT_SHARE * memory() else "streaming"
        place.write_text(json.dumps({"ingest": way}) + "\n")
    return job.model_copy(update={"data": job.data.model_copy(update={"ingest": way})})


def resident_bytes(corpus: Corpus, job: JobConfig) -> int:
    """Bytes of the vectors that the job reads, in memory."""
    utterances = sum(entry.utterances for entry in corpus.manifest.splits.values())
    return 4 * utterances * sum(widths_of(corpus.manifest, job).values())


def free_memory() -> float:
    """Bytes of memory that are free on this machine; without end where that is unknown."""
    available = memory_bytes()[1]
    return float("inf") if available is None else float(available)
