"""One worker's share of a prediction: reads a shard while the model answers the one before, and writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa

from joyful_ray.corpora.shards import Corpus
from joyful_ray.predict.output_shards import Origin, OutputShard, write_part
from joyful_ray.predict.predictor import Predictor
from joyful_ray.storage import Location


@dataclass(frozen=True)
class ShardTask:
    """What every worker needs to know; picklable, and free of weights and secrets."""

    bundle: str
    corpus: Corpus
    out: Location
    origin: Origin

    def work(self, predictor: Predictor, pieces: Sequence[OutputShard]) -> Iterator[OutputShard]:
        """Predict these shards one after the other; two are in memory at most.

        Raises:
            CorpusError: a shard is not what the manifest says.
            TrainingError: a score is not finite.
        """
        with ThreadPoolExecutor(1) as ahead:
            upcoming: Future[pa.Table] = ahead.submit(self._read, pieces[0])
            for place, piece in enumerate(pieces):
                rows = upcoming.result()
                if place + 1 < len(pieces):
                    upcoming = ahead.submit(self._read, pieces[place + 1])
                write_part(self.out, piece, predictor.table(rows, embedding=self.origin.embedding), self.origin)
                yield piece

    def _read(self, piece: OutputShard) -> pa.Table:
        return self.corpus.read_checked(piece.shard)
