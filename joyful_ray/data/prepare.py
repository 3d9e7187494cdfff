"""Prepares a corpus: how it is encoded, scaling from train alone, and a dev split cut from train if there is none."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from joyful_ray.config import JobConfig
from joyful_ray.corpora.parallel import side_by_side
from joyful_ray.corpora.shards import Corpus
from joyful_ray.corpora.statistics import FeatureStatistics, Statistics, counts_in_order, feature_statistics
from joyful_ray.data.encode import Encoding, Scaling, numbered_speakers
from joyful_ray.data.ngrams import NgramHasher
from joyful_ray.data.split_rows import SplitRows, split_rows
from joyful_ray.data.store import SplitStore
from joyful_ray.errors import ConfigError, CorpusError
from joyful_ray.schema import SPLITS, FeatureContract, Manifest, Modality, Split, Task

TRAIN_SCALED = ("train", "both")
"""Values of `data.normalise` under which features are scaled with the statistics of `train`."""
SURVEYED_BYTES = 256 * 2**20
COUNTED_COLUMNS = ("conversation_id", "utterance_ids", "speakers", "labels")


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
    corpus: Corpus, job: JobConfig, reading: Mapping[Split, SplitRows], statistics: Statistics
) -> CorpusInfo:
    """Information about a corpus from the statistics of its training split.

    Raises:
        CorpusError: no training utterance is labeled.
    """
    labeled = statistics.utterances - statistics.unlabeled
    if labeled == 0:
        raise CorpusError(f"{corpus.location.uri}: no utterance of train is labeled")
    encoding = unscaled_encoding(corpus.manifest, job)
    if job.data.normalise in TRAIN_SCALED:
        scaling = {name: Scaling.of(statistics.features[name]) for name in encoding.widths}
        encoding = replace(encoding, scaling=scaling)
    counts = list(counts_in_order(encoding.labels, statistics.labels).values())
    return CorpusInfo(
        encoding=encoding,
        contracts={name: corpus.manifest.modalities[name] for name in encoding.widths},
        corpus={"name": corpus.manifest.name, "uri": corpus.location.uri, "hash": corpus.hash},
        label_counts=[labeled] if encoding.task == "regression" else counts,
        label_histogram=dict(statistics.label_histogram),
        conversations=statistics.conversations,
        utterances=statistics.utterances,
        speakers=_most_speakers(reading["train"], statistics, encoding.speaker_order),
        dev_cut=reading["dev"].keep or frozenset(),
    )


def _most_speakers(train: SplitRows, statistics: Statistics, order: Sequence[str]) -> int:
    """How many numbers the speakers of a training conversation need, at most."""
    if not order:
        return statistics.speakers
    names = statistics.speaker_names
    if names is not None and names <= set(order):
        return max(order.index(name) for name in names) + 1
    columns = ["conversation_id", "speakers"]
    rows = (train.choose(train.corpus.read_columns(shard, columns)) for shard in train.shards)
    return max(numbered_speakers(some, order) for some in rows)


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


def survey(corpus: Corpus, reading: Mapping[Split, SplitRows]) -> Statistics:
    """Statistics of the training split: those that the corpus has or, if dev has been cut from it, of what is left.

    Then all but the vectors is read. Of these, `SURVEYED_BYTES` are: evenly spaced shards, or all of a small corpus.
    """
    train = reading["train"]
    known = corpus.statistics("train") if train.has_all else None
    return known if known is not None else _read_survey(train)


def _read_survey(train: SplitRows) -> Statistics:
    manifest = train.corpus.manifest
    size = sum(shard.bytes for shard in train.shards)
    every = max(-(-size // SURVEYED_BYTES), 1)
    counted, features = Statistics(), dict[Modality, FeatureStatistics]()

    def of_shard(place: int) -> tuple[Statistics, dict[Modality, FeatureStatistics]]:
        whole, shard = place % every == 0, train.shards[place]
        rows = train.read(shard) if whole else train.choose(train.corpus.read_columns(shard, COUNTED_COLUMNS))
        of_features = feature_statistics(rows, manifest.widths) if whole else {}
        return Statistics.of(rows, task=manifest.task, widths={}), of_features

    for some, of_features in side_by_side(of_shard, range(len(train.shards))):
        counted += some
        for name, found in of_features.items():
            features[name] = features[name] + found if name in features else found
    return replace(counted, features=features)


def survey_here(
    corpus: Corpus, job: JobConfig, splits: Sequence[Split] = SPLITS
) -> tuple[CorpusInfo, dict[Split, SplitRows]]:
    """What is known of the training split, and which rows belong to each split."""
    reading = {split: rows for split, rows in split_rows(corpus, job).items() if split in splits}
    unscaled_encoding(corpus.manifest, job)  # refuses what does not fit before anything is read
    return corpus_info_of(corpus, job, reading, survey(corpus, reading)), reading


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
    """The rows of a split, with few shards in memory at a time."""
    for rows in side_by_side(reading.read, reading.shards):
        if rows.num_rows:
            yield rows
