"""What `joyful predict` costs: `python tests/bench/predict.py [--conversations N] [--widths 384 8] [--workers 0 1]`.

A corpus of made-up conversations, a bundle of the default preset that was never trained, one thread a process. `bare`
is the model alone on tensors that lie in memory; a job reads shards, checks and encodes them, predicts, and writes
Parquet. Its rate is taken over the whole job, and from the first finished shard on, which leaves out the start of Ray.
Memory is that of all the processes of the job (USS), sampled once a second while the second and the last quarter of the
shards were done.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from pathlib import Path

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
from joyful_ray.schema import Modality
from joyful_ray.settings import ClusterConfig
from joyful_ray.storage import open_location
from joyful_ray.train.build import build_model
from joyful_ray.train.bundle import write_bundle
from joyful_ray.train.evaluate import forward

MIB = 2**20


def make_bundle(folder: Path, corpus: str) -> str:
    """The default preset, with the weights that the seed gives."""
    job = load_job(None, [f"corpus={corpus}"])
    facts, _ = prepare_here(open_corpus(corpus), job)
    dev = Scores(task="single-label", utterances=1, loss=0.0, values={})
    weights = build_model(job, facts).state_dict()
    write_bundle(open_location(str(folder)), job=job, facts=facts, weights=weights, dev=dev, epoch=0)
    return str(folder)


@torch.inference_mode()
def bare_rate(bundle: str, corpus: str) -> float:
    """Utterances a second of the model alone, over a split that lies in memory as tensors; best of three."""
    predictor = Predictor.open(bundle, device="cpu")
    read, encoding = predictor.bundle, predictor.bundle.encoding
    store = SplitStore([encoding.table(table) for table in open_corpus(corpus).tables("test")], encoding)
    size = read.job.train.evaluation_utterances
    batches = [store.batch(chosen) for chosen in plan_evaluation(store.lengths, utterances=size)]
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        for batch in batches:
            forward(read.model, batch, precision=read.job.train.precision)
        seconds.append(time.perf_counter() - began)
    return store.utterances / min(seconds)


class Memory:
    """Memory of this process and all below it, once a second, with the shards that were done by then."""

    def __init__(self) -> None:
        self.samples: list[tuple[int, float]] = []
        self.first_shard: tuple[float, int] | None = None
        self._done, self.total = 0, 1
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def shard(self, done: int, total: int) -> None:
        self._done, self.total = done, total
        if self.first_shard is None:
            self.first_shard = (time.perf_counter(), done)

    def _sample(self) -> None:
        while not self._over.wait(1.0):
            used = 0.0
            for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
                try:
                    used += process.memory_full_info().uss
                except psutil.Error:
                    continue
            self.samples.append((self._done, used / MIB))

    def between(self, low: float, high: float) -> float:
        """The median MiB while this share of the shards was done."""
        found = [used for done, used in self.samples if low <= done / self.total < high]
        return statistics.median(found) if found else float("nan")


def main() -> None:
    """Make, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conversations", type=int, default=6000)
    parser.add_argument("--widths", type=int, nargs="+", default=[384, 8], help="of text, audio, vision")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--folder", type=Path, help="kept, and used again")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    names: tuple[Modality, ...] = ("text", "audio", "vision")
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        corpus = str(folder / "corpus")
        if not Path(corpus).exists():
            widths = dict(zip(names, arguments.widths, strict=False))
            synthesize(corpus, conversations=arguments.conversations, seed=0, widths=widths)
        bundle = make_bundle(folder / "bundle", corpus)
        entries = open_corpus(corpus, verify=False).manifest.splits.values()
        utterances, shards = sum(e.utterances for e in entries), sum(len(e.shards) for e in entries)
        print(f"{sum(e.conversations for e in entries):,} conversations, {utterances:,} utterances, {shards} shards")
        bare = bare_rate(bundle, corpus)
        print(f"bare model, one thread: {bare:,.0f} utterances/s")
        print("| workers | s | utterances/s | of bare | after the first shard | of bare | MiB, 2nd quarter | last |")
        print("|---" * 8 + "|")
        for workers in arguments.workers:
            out = folder / f"out-{workers}"
            with Memory() as memory:
                cluster = ClusterConfig(workers=workers)
                card = predict_corpus(bundle, corpus, str(out), cluster=cluster, watch=memory.shard, device="cpu")
                ended = time.perf_counter()
            assert memory.first_shard is not None
            began, first = memory.first_shard
            later = utterances * (shards - first) / shards / (ended - began)
            each = max(workers, 1) * bare
            print(
                f"| {workers} | {card.seconds:.1f} | {card.utterances_per_second:,.0f} "
                f"| {card.utterances_per_second / each:.2f} | {later:,.0f} | {later / each:.2f} "
                f"| {memory.between(0.25, 0.5):,.0f} | {memory.between(0.75, 1.01):,.0f} |"
            )


if __name__ == "__main__":
    main()
