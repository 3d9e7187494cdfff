"""A Ray Data job: shards in, an actor pool that predicts and writes them, one small row a shard back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import ray.data
from ray import cloudpickle

from joyful_ray.errors import TrainingError, UserError
from joyful_ray.predict.output_shards import OutputShard, runs_of
from joyful_ray.predict.predictor import Predictor
from joyful_ray.predict.shard_task import ShardTask
from joyful_ray.settings import ClusterConfig
from joyful_ray.train.process_group import use_cores

SHARDS_A_CALL = 4


def predict_on_ray(errand: ShardTask, pieces: list[OutputShard], cluster: ClusterConfig) -> Iterator[OutputShard]:
    """Give the shards to `cluster.workers` actors; each reads, predicts and writes, so that no data passes through Ray.

    Raises:
        UserError, TrainingError: what a worker raised; the other workers are stopped.
    """
    ray.data.DataContext.get_current().enable_progress_bars = False
    workers = min(cluster.workers, len(pieces))
    runs = list(runs_of(pieces, max(1, min(SHARDS_A_CALL, len(pieces) // workers))))
    items = [{"pieces": cloudpickle.dumps(run)} for run in runs]
    done = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        ShardWorker,
        fn_constructor_kwargs={"errand": errand, "cluster": cluster},
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=cluster.cpus_per_worker,
        num_gpus=cluster.gpus_per_worker or None,
    )
    for row in done.iter_rows():
        answer: Any = cloudpickle.loads(row["answer"])
        if isinstance(answer, Exception):
            raise answer
        yield answer


class ShardWorker:
    """An actor that holds the model."""

    def __init__(self, errand: ShardTask, cluster: ClusterConfig) -> None:
        self.errand = errand
        self.predictor = Predictor.open(errand.bundle, device="cuda" if cluster.gpus_per_worker else "cpu")
        use_cores(cluster.cpus_per_worker, self.predictor.device)

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        """Predict runs of shards; an error that would come again is handed over, so that Ray does not try again."""
        for run in batch["pieces"].to_pylist():
            try:
                for done in self.errand.work(self.predictor, cloudpickle.loads(run)):
                    yield _answer(done)
            except (UserError, TrainingError) as error:
                yield _answer(error)
                return


def _answer(value: OutputShard | Exception) -> pa.Table:
    return pa.table({"answer": pa.array([cloudpickle.dumps(value)], pa.binary())})
