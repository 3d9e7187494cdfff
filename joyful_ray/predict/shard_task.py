"""Predicts the shards of one worker: it reads the next shard while the model predicts the current one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa

from joyful_ray.corpora.shards import Corpus
from joyful_ray.predict.output_shards import Origin, OutputShard, write_shard
from joyful_ray.predict.predictor import Predictor
from joyful_ray.storage import Location


@dataclass(frozen=True)
class ShardTask:
    """What every worker needs; it can be pickled, and contains neither weights nor secrets.

    Attributes:
        bundles: URIs of the bundles.
        corpus: the corpus to read.
        out: where the predictions are written.
        origin: what is written into every file.
    """

    bundles: tuple[str, ...]
    corpus: Corpus
    out: Location
    origin: Origin

    def run(self, predictor: Predictor, shards: Sequence[OutputShard]) -> Iterator[OutputShard]:
        """Predict shards one after the other, with at most two in memory, and yield each when it is written.

        Raises:
            CorpusError: a shard differs from the manifest.
            TrainingError: a score is not finite.
        """
        with ThreadPoolExecutor(1) as reader:
            upcoming: Future[pa.Table] = reader.submit(self._read, shards[0])
            for index, shard in enumerate(shards):
                rows = upcoming.result()
                if index + 1 < len(shards):
                    upcoming = reader.submit(self._read, shards[index + 1])
                predictions = predictor.table(rows, self.origin.vectors)
                write_shard(self.out, shard, predictions, self.origin)
                yield shard

    def _read(self, shard: OutputShard) -> pa.Table:
        return self.corpus.read_checked(shard.source)
