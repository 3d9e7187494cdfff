"""Predicts with a Ray Data job: an actor pool reads, predicts and writes shards.

Only small messages pass through Ray, because each actor reads from storage and writes to storage itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import ray.data
from ray import cloudpickle

from joyful_ray.errors import TrainingError, UserError
from joyful_ray.predict.output_shards import OutputShard, groups_of
from joyful_ray.predict.predictor import Predictor
from joyful_ray.predict.shard_task import ShardTask
from joyful_ray.settings import ClusterConfig
from joyful_ray.train.process_group import use_cores

MAX_SHARDS_PER_CALL = 4


def predict_on_ray(task: ShardTask, shards: list[OutputShard], cluster: ClusterConfig) -> Iterator[OutputShard]:
    """Distribute the shards over `cluster.workers` actors, and yield each shard when it is written.

    Raises:
        UserError, TrainingError: the error of a worker; the other workers are stopped.
    """
    ray.data.DataContext.get_current().enable_progress_bars = False
    workers = min(cluster.workers, len(shards))
    groups = list(groups_of(shards, max(1, min(MAX_SHARDS_PER_CALL, len(shards) // workers))))
    items = [{"shards": cloudpickle.dumps(group)} for group in groups]
    results = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        ShardWorker,
        fn_constructor_kwargs={"task": task, "cluster": cluster},
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=cluster.cpus_per_worker,
        num_gpus=cluster.gpus_per_worker or None,
    )
    for row in results.iter_rows():
        result: Any = cloudpickle.loads(row["result"])
        if isinstance(result, Exception):
            raise result
        yield result


class ShardWorker:
    """An actor that holds the model."""

    def __init__(self, task: ShardTask, cluster: ClusterConfig) -> None:
        self.task = task
        self.predictor = Predictor.open(task.bundles, device="cuda" if cluster.gpus_per_worker else "cpu")
        use_cores(cluster.cpus_per_worker, self.predictor.device)

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        """Predict groups of shards.

        An error that a retry would repeat is returned instead of raised, so that Ray does not retry.
        """
        for group in batch["shards"].to_pylist():
            try:
                for shard in self.task.run(self.predictor, cloudpickle.loads(group)):
                    yield _result_table(shard)
            except (UserError, TrainingError) as error:
                yield _result_table(error)
                return


def _result_table(value: OutputShard | Exception) -> pa.Table:
    return pa.table({"result": pa.array([cloudpickle.dumps(value)], pa.binary())})
