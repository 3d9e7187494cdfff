"""What `joyful predict` costs: `python tests/bench/predict.py [--conversations N] [--widths 384 8] [--workers 0 1]`.

A corpus of made-up conversations, a bundle of the default preset that was never trained, one thread a process. `bare`
is the model alone on tensors that lie in memory; a job reads shards, checks and encodes them, predicts, and writes
Parquet. Rates are of wall seconds and, since this machine is shared, of CPU seconds of what works (this process, or
Ray's actors), both from the first written shard on, which leaves out the start of Ray and of the actors. Memory is
that of all the processes of the job (USS) while the second and the last quarter of the shards were done.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil  # type: ignore[import-untyped]
import torch

from joyful_ray.config import load_job
from joyful_ray.corpora.shards import open_corpus
from joyful_ray.corpora.synthetic import synthesize
from joyful_ray.data.plan import plan_evaluation
from joyful_ray.data.prepare import prepare_here
from joyful_ray.data.store import SplitStore
from joyful_ray.predict.job import predict_corpus
from joyful_ray.predict.predictor import Predictor
from joyful_ray.records import Scores
from joyful_ray.schema import MODALITIES, Modality
from joyful_ray.settings import ClusterConfig
from joyful_ray.storage import open_location
from joyful_ray.train.build import build_model
from joyful_ray.train.bundle import write_bundle
from joyful_ray.train.evaluate import forward


def make_bundle(folder: Path, widths: dict[Modality, int]) -> str:
    """The default preset for such vectors, with the weights that the seed gives."""
    small = str(folder / "small")
    synthesize(small, conversations=60, seed=1, widths=widths, overwrite=True)
    job = load_job(None, [f"corpus={small}"])
    corpus_info, _ = prepare_here(open_corpus(small), job)
    dev = Scores(task="single-label", utterances=1, loss=0.0, values={})
    weights = build_model(job, corpus_info).state_dict()
    write_bundle(
        open_location(str(folder / "bundle")), job=job, corpus_info=corpus_info, weights=weights, dev=dev, epoch=0
    )
    return str(folder / "bundle")


@torch.inference_mode()
def bare_rates(bundle: str, corpus: str) -> tuple[float, float]:
    """Utterances a second, of wall and of CPU, of the model alone over a shard that lies in memory; best of three."""
    predictor = Predictor.open(bundle, device="cpu")
    read, encoding = predictor.bundle, predictor.bundle.encoding
    store = SplitStore([encoding.table(next(open_corpus(corpus).tables("test")))], encoding)
    size = read.job.train.evaluation_utterances
    batches = [store.batch(chosen) for chosen in plan_evaluation(store.lengths, utterances=size)]
    wall, cpu = [], []
    for _ in range(3):
        began, spent = time.perf_counter(), time.process_time()
        for batch in batches:
            forward(read.model, batch, precision=read.job.train.precision)
        wall.append(time.perf_counter() - began)
        cpu.append(time.process_time() - spent)
    return store.utterances / min(wall), store.utterances / min(cpu)


@dataclass(frozen=True)
class Sample:
    """What was done by a moment, and used."""

    utterances: int
    wall_s: float
    cpu_s: float
    mib: float


class Meter:
    """Memory and CPU of a job's processes five times a second, and the utterances in the files that are written.

    The files tell what is done: Ray Data hands the driver several shards at once.
    """

    def __init__(self, corpus: str, out: str, *, workers: int) -> None:
        entries = open_corpus(corpus).manifest.splits
        self.total = sum(entry.utterances for entry in entries.values())
        self.shards = sum(len(entry.shards) for entry in entries.values())
        self.samples: list[Sample] = []
        self._workers, self._out = workers, Path(out)
        self._utterances = {
            f"split={split}/part-{place:05d}.parquet": shard.utterances
            for split, entry in entries.items()
            for place, shard in enumerate(entry.shards)
        }
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample_often, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def sample(self) -> None:
        """Add up all processes below this one; CPU is that of actors only, where there are some."""
        cpu = mib = 0.0
        for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
            try:
                mib += process.memory_full_info().uss / 2**20
                times = process.cpu_times()
                works = "ShardWorker" in " ".join(process.cmdline()) if self._workers else process.pid == os.getpid()
                cpu += (times.user + times.system) * works
            except psutil.Error:
                continue
        done = sum(count for name, count in self._utterances.items() if (self._out / name).exists())
        self.samples.append(Sample(done, time.perf_counter(), cpu, mib))

    def _sample_often(self) -> None:
        while not self._over.wait(0.2):
            self.sample()

    def rates(self) -> tuple[float, float]:
        """Utterances a second, of wall and of CPU, from the first written shard to the last that was seen written."""
        working = [one for one in self.samples if one.cpu_s and one.utterances]
        first, last = working[0], max(working, key=lambda one: (one.utterances, -one.wall_s))
        done = last.utterances - first.utterances
        return done / max(last.wall_s - first.wall_s, 1e-9), done / max(last.cpu_s - first.cpu_s, 1e-9)

    def between(self, low: float, high: float) -> float:
        """The median MiB while this share of the utterances was done."""
        found = [one.mib for one in self.samples if low <= one.utterances / self.total < high]
        return statistics.median(found) if found else float("nan")


def main() -> None:
    """Make, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conversations", type=int, default=20000)
    parser.add_argument("--widths", type=int, nargs="+", default=[384, 8], help="of text, audio, vision")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--folder", type=Path, help="kept, and used again")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        corpus, widths = str(folder / "corpus"), dict(zip(MODALITIES, arguments.widths, strict=False))
        if not Path(corpus).exists():
            synthesize(corpus, conversations=arguments.conversations, seed=0, widths=widths)
        bundle = make_bundle(folder, widths)
        bare, bare_cpu = bare_rates(bundle, corpus)
        print(f"bare model, one thread: {bare:,.0f} utterances a second, {bare_cpu:,.0f} a CPU second")
        print("| workers | utterances | shards | s | utterances/s | of bare | a CPU s | of bare | MiB | at the end |")
        print("|---" * 10 + "|")
        for workers in arguments.workers:
            out = str(folder / f"out-{workers}")
            with Meter(corpus, out, workers=workers) as meter:
                card = predict_corpus(bundle, corpus, out, cluster=ClusterConfig(workers=workers), device="cpu")
            wall, cpu = meter.rates()
            print(
                f"| {workers} | {meter.total:,} | {meter.shards} | {card.seconds:.1f} "
                f"| {wall:,.0f} | {wall / max(workers, 1) / bare:.2f} | {cpu:,.0f} | {cpu / bare_cpu:.2f} "
                f"| {meter.between(0.25, 0.5):,.0f} | {meter.between(0.75, 1.01):,.0f} |"
            )


if __name__ == "__main__":
    main()
