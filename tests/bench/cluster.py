"""What a large cluster would do: `python tests/bench/cluster.py [--only traffic|nodes|driver|search]`.

This machine has few cores, so that what depends on many machines is counted, and what depends on one is measured.

`traffic` runs up to 64 real ranks (processes with gloo, far more than cores) for some epochs with checkpoints by steps,
and then continues the run: calls and bytes of the first rank and of the others, to storage and between ranks.
`nodes` runs the largest share of a step of so many workers alone, adds the time in which the gradients cross a network
(`--gbit`, `--latency-us`), and writes the table of 1 to 64 workers.
`driver` trains on Ray and counts what the command itself asks of storage.
`search` runs `--trials` trials of one epoch on Ray: seconds, calls and memory of the command, by hundreds of trials.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import torch
from torch import Tensor, nn
from torch.distributed import GradBucket
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

from joyful_ray.config import JobConfig, resolve
from joyful_ray.corpora.shards import open_corpus
from joyful_ray.data.loader import ResidentLoader
from joyful_ray.data.prepare import prepare_here
from joyful_ray.train.checkpoint import CheckpointContent
from joyful_ray.train.launch import train
from joyful_ray.train.loop import run
from joyful_ray.train.loop_spec import RunSpec
from joyful_ray.train.process_group import ProcessGroup
from joyful_ray.train.run_directory import RunDirectory
from joyful_ray.tune.search import search

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.bench.steps import ROUNDS, Bench
from tests.bench.train import write_random_corpus
from tests.counted_storage import StorageTraffic, counting_storage
from tests.ranks import on_ranks
from tests.tiny_corpus import SMALL, write_tiny

RANKS = (1, 2, 16, 64)
EPOCHS, STEPS = 3, 4
PER_RANK = 2
"""Conversations of a step for each of the most ranks."""
MIB = 2**20


@dataclass(frozen=True)
class CountingGroup(ProcessGroup):
    """A process group that counts what this rank gives to the others.

    Attributes:
        calls: by kind.
        sent: bytes by kind, of this rank's own contribution; what a network carries of it depends on the algorithm.
    """

    calls: Counter[str] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)

    def all_reduce(self, values: Tensor) -> Tensor:
        """Counted."""
        self._count("sums", values.nbytes)
        return super().all_reduce(values)

    def all_gather(self, value: object) -> list[object]:
        """Counted without its size, which is small."""
        self._count("gathered", 0)
        return super().all_gather(value)

    def from_first(self, read: Callable[[], CheckpointContent | None]) -> CheckpointContent | None:
        """Counted."""
        content = super().from_first(read)
        self._count("checkpoint", sum(map(len, content.files.values())) if content is not None else 0)
        return content

    def distribute(self, model: nn.Module) -> nn.Module:
        """With a hook that counts gradients."""
        wrapped = super().distribute(model)
        if isinstance(wrapped, DistributedDataParallel):
            wrapped.register_comm_hook(None, lambda state, bucket: self._reduced(bucket))
        return wrapped

    def _reduced(self, bucket: GradBucket) -> Future[Tensor]:
        self._count("gradients", bucket.buffer().nbytes)
        return allreduce_hook(None, bucket)  # type: ignore[arg-type]  # None is the whole process group

    def _count(self, kind: str, size: int) -> None:
        self.calls[kind] += 1
        self.sent[kind] += size


@dataclass(frozen=True)
class RankTraffic:
    """What one rank did in one command."""

    storage: StorageTraffic
    calls: Counter[str]
    sent: Counter[str]


def traffic_of_rank(process_group: ProcessGroup, settings: dict[str, Any]) -> RankTraffic:
    """Train on this rank, and count."""
    job = resolve(settings)
    corpus_info, stores = prepare_here(open_corpus(str(job.corpus)), job)
    counting = CountingGroup(process_group.rank, process_group.size)
    spec = RunSpec(
        job=job,
        corpus_info=corpus_info,
        sources={name: lambda store=store: ResidentLoader.of(job, store) for name, store in stores.items()},
        directory=RunDirectory.of(job, None),
        workers=process_group.size,
        started=time.time(),
    )
    with counting_storage() as storage:
        run(spec, counting)
    return RankTraffic(storage, counting.calls, counting.sent)


def traffic(folder: Path) -> None:
    """What ranks ask of storage and of each other, by their number."""
    batch = PER_RANK * RANKS[-1]
    corpus = write_tiny(folder / "corpus", counts={"train": STEPS * batch, "dev": batch, "test": 8})
    print(f"{EPOCHS} epochs of {STEPS} steps, a checkpoint every two steps; then {EPOCHS} more\n")
    print("| ranks | command | storage calls, first rank | others | read MiB, first | others | written MiB | "
          "gradients MiB a step and rank | other sums a step | checkpoint MiB to each rank |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|")
    for ranks in RANKS:
        settings = SMALL | {
            "corpus": corpus,
            "storage": str(folder / "runs"),
            "name": f"of-{ranks}",
            "train": SMALL["train"] | {"batch_conversations": batch, "checkpoint_every_steps": 2, "patience": 100},
        }
        for command, epochs in (("first", EPOCHS), ("continued", 2 * EPOCHS)):
            settings["train"]["epochs"] = epochs
            target = folder / f"{ranks}-{command}"
            target.mkdir()
            first, *others = on_ranks(traffic_of_rank, ranks, target, settings)
            steps = EPOCHS * STEPS
            print(
                f"| {ranks} | {command} | {first.storage.total} | {max((o.storage.total for o in others), default=0)} "
                f"| {first.storage.read / MIB:.2f} | {max((o.storage.read for o in others), default=0) / MIB:.2f} "
                f"| {first.storage.written / MIB:.2f} | {first.sent['gradients'] / steps / MIB:.3f} "
                f"| {first.calls['sums'] / steps:.1f} | {first.sent['checkpoint'] / MIB:.2f} |",
                flush=True,
            )


def nodes(folder: Path, *, batch: int, gbit: float, latency_us: float) -> None:
    """What a step would take on many workers with a core each."""
    write_random_corpus(folder / "corpus", max(1, -(-batch // 64)))
    bench = Bench(str(folder / "corpus"), ProcessGroup(), f"train.batch_conversations={batch}")
    size = sum(parameter.nbytes for parameter in bench.trainer.model.parameters() if parameter.requires_grad)
    print(
        f"a step of {batch} conversations of IEMOCAP's size; {size / MIB:.1f} MiB of gradients over {gbit:g} Gbit/s\n"
    )
    print("| workers | largest share, s | exchange, s | step, s | times faster | efficiency |")
    print("|---|---|---|---|---|---|")
    whole = 0.0
    for workers in (1, 2, 4, 8, 16, 32, 64):
        if workers > batch:
            break
        shares = [bench.work(rank, workers) for rank in range(workers)]
        largest = max(shares, key=lambda work: sum(one.utterances for _, one in work))
        seconds = statistics.median(bench.seconds(largest) for _ in range(ROUNDS))
        # A ring sends each rank's share of the gradients around twice.
        rounds = 2 * (workers - 1)
        exchange = rounds / workers * size * 8 / (gbit * 1e9) + rounds * latency_us * 1e-6
        step = seconds + exchange
        whole = whole or step
        print(
            f"| {workers} | {seconds:.3f} | {exchange:.4f} | {step:.3f} | {whole / step:.1f} "
            f"| {whole / step / workers:.0%} |",
            flush=True,
        )


def driver(folder: Path) -> None:
    """What the command itself asks of storage while workers train."""
    corpus = write_tiny(folder / "corpus", counts={"train": 60, "dev": 7, "test": 5})
    print("| workers | epochs | seconds | calls of the command | a second | read MiB | peak MiB of the command |")
    print("|---|---|---|---|---|---|---|")
    for workers in (1, 2):
        changes = {"epochs": 60, "patience": 100}
        settings = SMALL | {"corpus": corpus, "storage": str(folder / "runs"), "name": f"driver-{workers}"}
        settings |= {"train": SMALL["train"] | changes, "cluster": {"workers": workers}}
        began = time.perf_counter()
        with counting_storage() as found:
            record = train(resolve(settings))
        seconds = time.perf_counter() - began
        print(
            f"| {workers} | {record.epochs} | {seconds:.0f} | {found.total} | {found.total / seconds:.1f} "
            f"| {found.read / MIB:.2f} | {peak_mib():.0f} |",
            flush=True,
        )


def searched(folder: Path, *, trials: int, at_a_time: int) -> None:
    """What many short trials cost the command of a search."""
    job = small_search(folder, trials=trials, at_a_time=at_a_time)
    print(f"{trials} trials of one epoch, {at_a_time} at a time\n")
    print("| trials | seconds of the last hundred | calls of the last hundred | memory MiB |")
    print("|---|---|---|---|")
    before = [0, 0, time.perf_counter()]

    with counting_storage() as found:

        def watch(state: Any) -> None:
            done = sum(trial.outcome is not None for trial in state.own)
            if done >= before[0] + 100:
                now = time.perf_counter()
                memory = psutil.Process().memory_info().rss / MIB
                print(f"| {done} | {now - before[2]:.0f} | {found.total - before[1]} | {memory:.0f} |", flush=True)
                before[:] = [done, found.total, now]

        began = time.perf_counter()
        record = search(job, watch=watch)
    print(
        f"\n{record.trials}, {time.perf_counter() - began:.0f} s, {found.total / trials:.1f} calls a trial, "
        f"peak {peak_mib():.0f} MiB"
    )


def small_search(folder: Path, *, trials: int, at_a_time: int) -> JobConfig:
    """A search of so many trials of one epoch of a tiny corpus."""
    corpus = write_tiny(folder / "corpus")
    how = {
        "space": {"train.learning_rate": {"log": [1e-4, 1e-2]}},
        "algorithm": "random",
        "scheduler": "none",
        "max_trials": trials,
        "max_concurrent": at_a_time,
        "confirm": None,
    }
    changes = {"corpus": corpus, "storage": str(folder / "runs"), "search": how}
    return resolve(SMALL | changes | {"train": SMALL["train"] | {"epochs": 1, "diagnostics": False}})


def peak_mib() -> float:
    """The largest resident memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Run the parts, and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["traffic", "nodes", "driver", "search"])
    parser.add_argument("--batch", type=int, default=64, help="conversations of a step, for nodes")
    parser.add_argument("--gbit", type=float, default=10.0, help="bandwidth of a worker's network")
    parser.add_argument("--latency-us", type=float, default=50.0, help="of one message")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--at-a-time", type=int, default=2)
    arguments = parser.parse_args()
    parts: dict[str, Callable[[Path], None]] = {
        "traffic": traffic,
        "nodes": lambda folder: nodes(
            folder, batch=arguments.batch, gbit=arguments.gbit, latency_us=arguments.latency_us
        ),
        "driver": driver,
        "search": lambda folder: searched(folder, trials=arguments.trials, at_a_time=arguments.at_a_time),
    }
    torch.set_num_threads(1)
    for name, part in parts.items():
        if arguments.only in (None, name):
            print(f"\n{name}\n")
            with tempfile.TemporaryDirectory() as folder, suppress(KeyboardInterrupt):
                part(Path(folder))


if __name__ == "__main__":
    main()
