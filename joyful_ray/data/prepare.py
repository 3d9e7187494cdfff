"""Prepares a corpus: how it is encoded, scaling from train alone, and a dev split cut from train if there is none."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add

import pyarrow as pa

from joyful_ray.config import JobConfig
from joyful_ray.corpora.shards import Corpus
from joyful_ray.data.encode import Encoding, Scaling, SplitStatistics
from joyful_ray.data.ngrams import NgramHasher
from joyful_ray.data.split_rows import SplitRows, read_shard, split_rows
from joyful_ray.data.store import SplitStore
from joyful_ray.errors import ConfigError, CorpusError
from joyful_ray.schema import SPLITS, FeatureContract, Manifest, Modality, Split, Task

TRAIN_SCALED = ("train", "both")
"""Values of `data.normalise` under which features are scaled with the statistics of `train`."""


@dataclass(frozen=True)
class CorpusInfo:
    """Information about a prepared corpus for workers, record and bundle.

    Attributes:
        label_counts: number of labeled training utterances per label.
        conversations, utterances: size of the training split.
        speakers: largest number of speakers in a training conversation.
        label_histogram: number of training labels by their nearest multiple of `LABEL_BIN` (regression).
        dev_cut: conversations of train that became dev; empty if the corpus has a dev split.
    """

    encoding: Encoding
    contracts: Mapping[Modality, FeatureContract]
    corpus: Mapping[str, object]
    label_counts: Sequence[int] = ()
    conversations: int = 0
    utterances: int = 0
    speakers: int = 1
    label_histogram: Mapping[int, int] = field(default_factory=dict)
    dev_cut: frozenset[str] = field(default=frozenset(), repr=False)


def task_of(manifest: Manifest, job: JobConfig) -> Task:
    """Task of the corpus.

    Raises:
        ConfigError: the job names another task.
    """
    if job.task is not None and job.task != manifest.task:
        raise ConfigError(f"task is {job.task}, but the corpus {manifest.name} is labeled for {manifest.task}")
    return manifest.task


def widths_of(manifest: Manifest, job: JobConfig) -> dict[Modality, int]:
    """Widths of the modalities that the job uses.

    Raises:
        ConfigError: the job names a modality that the corpus does not have.
    """
    widths = manifest.widths
    missing = [name for name in job.data.modalities or [] if name not in widths]
    if missing:
        raise ConfigError(f"data.modalities names {missing[0]}, but the corpus {manifest.name} has {', '.join(widths)}")
    return {name: width for name, width in widths.items() if job.data.modalities is None or name in job.data.modalities}


def corpus_info_of(
    corpus: Corpus, job: JobConfig, reading: Mapping[Split, SplitRows], statistics: SplitStatistics
) -> CorpusInfo:
    """Information about a corpus from the statistics of its training split.

    Raises:
        CorpusError: no training utterance is labeled.
    """
    if statistics.label_counts.sum() == 0:
        raise CorpusError(f"{corpus.location.uri}: no utterance of train is labeled")
    scaling = {name: Scaling.from_moments(found) for name, found in statistics.moments.items()}
    encoding = replace(
        unscaled_encoding(corpus.manifest, job), scaling=scaling if job.data.normalise in TRAIN_SCALED else {}
    )
    return CorpusInfo(
        encoding=encoding,
        contracts={name: corpus.manifest.modalities[name] for name in encoding.widths},
        corpus={"name": corpus.manifest.name, "uri": corpus.location.uri, "hash": corpus.hash},
        label_counts=statistics.label_counts.tolist(),
        label_histogram=dict(statistics.label_histogram),
        conversations=statistics.conversations,
        utterances=statistics.utterances,
        speakers=statistics.speakers,
        dev_cut=reading["dev"].keep or frozenset(),
    )


def unscaled_encoding(manifest: Manifest, job: JobConfig) -> Encoding:
    """The encoding without scaling, which needs the statistics of the training split.

    Raises:
        ConfigError: the job names another task, or settings that need other modalities.
    """
    reads_texts = manifest.has_texts and (job.data.modalities is None or "text" in job.data.modalities)
    ngrams = words_of(job) if reads_texts else None
    labels, order, widths = tuple(manifest.labels), tuple(job.data.speaker_order), widths_of(manifest, job)
    read = {*widths, "text"} if ngrams else {*widths}
    task = task_of(manifest, job)
    _check_objective(job, task, read)
    return Encoding(task, labels, widths, {}, ngrams, order)


def _check_objective(job: JobConfig, task: Task, read: Collection[str]) -> None:
    """Refuse terms that would do nothing on this corpus."""
    if job.objective.alignment_weight and len(read) < 2:
        raise ConfigError(f"objective.alignment_weight compares modalities, and the job reads only {', '.join(read)}")
    for name in ("ordinal_weight", "correlation_weight", "density_weighting"):
        if getattr(job.objective, name) and task != "regression":
            raise ConfigError(f"objective.{name} is for numbers, and the corpus is {task}; leave it at 0")


def words_of(job: JobConfig) -> NgramHasher | None:
    """How a job reads texts; None if it does not."""
    return NgramHasher(job.data.word_ngrams, job.data.word_buckets) if job.data.word_ngrams else None


def survey_here(
    corpus: Corpus, job: JobConfig, splits: Sequence[Split] = SPLITS
) -> tuple[CorpusInfo, dict[Split, SplitRows]]:
    """Compute statistics of the training split in this process, and say which rows belong to each split."""
    reading = {split: rows for split, rows in split_rows(corpus, job).items() if split in splits}
    plain = unscaled_encoding(corpus.manifest, job)
    statistics = reduce(add, (SplitStatistics.of(table, plain) for table in _tables(reading["train"])))
    return corpus_info_of(corpus, job, reading, statistics), reading


def prepare_here(
    corpus: Corpus, job: JobConfig, splits: Sequence[Split] = SPLITS
) -> tuple[CorpusInfo, dict[Split, SplitStore]]:
    """Read, scale and encode splits in this process, without Ray."""
    corpus_info, reading = survey_here(corpus, job, splits)
    stores = {
        split: SplitStore([corpus_info.encoding.table(table) for table in _tables(rows)], corpus_info.encoding)
        for split, rows in reading.items()
    }
    pa.default_memory_pool().release_unused()
    return corpus_info, stores


def _tables(reading: SplitRows) -> Iterator[pa.Table]:
    """The rows of a split, one shard in memory at a time."""
    for uri in reading.uris:
        rows = reading.choose(read_shard(uri))
        if rows.num_rows:
            yield rows
