"""The loaders of a run without Ray: of splits in memory, or of splits that stay on storage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from joyful_ray.config import JobConfig
from joyful_ray.corpora.shards import Corpus
from joyful_ray.data.loader import BatchLoader, ResidentLoader
from joyful_ray.data.prepare import CorpusInfo, prepare_here, survey_here
from joyful_ray.data.store import SplitStore
from joyful_ray.data.streaming import StreamedSplit
from joyful_ray.errors import ConfigError
from joyful_ray.schema import SPLITS, Split

REFIT_STREAMED = "train.refit needs train and dev in memory; set data.ingest: resident"


class Loaders(NamedTuple):
    """What a run reads.

    Attributes:
        sources: by split, a function that makes its loader when called.
        both: makes the loader of train and dev together; None if they stay on storage.
    """

    corpus_info: CorpusInfo
    sources: Mapping[Split, Callable[[], BatchLoader]]
    both: Callable[[], BatchLoader] | None


def loaders_here(corpus: Corpus, job: JobConfig, splits: Sequence[Split] = SPLITS) -> Loaders:
    """Prepare a corpus in this process: in memory, or with `data.ingest: streaming` on storage.

    Args:
        corpus: the opened corpus.
        job: the settings; its `data.ingest` is decided.
        splits: the splits to read.

    Raises:
        ConfigError: the job trains once more on train and dev together, and they stay on storage.
    """
    if job.data.ingest == "streaming":
        if job.train.refit:
            raise ConfigError(REFIT_STREAMED)
        corpus_info, reading = survey_here(corpus, job, splits)
        loaders = {
            split: partial(StreamedSplit(rows).source, job, corpus_info.encoding) for split, rows in reading.items()
        }
        return Loaders(corpus_info, loaders, None)
    corpus_info, stores = prepare_here(corpus, job, splits)

    def both() -> BatchLoader:
        return ResidentLoader.of(job, SplitStore(stores["train"].tables + stores["dev"].tables, corpus_info.encoding))

    return Loaders(
        corpus_info, {split: partial(ResidentLoader.of, job, store) for split, store in stores.items()}, both
    )
