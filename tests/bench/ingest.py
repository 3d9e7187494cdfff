"""How a corpus reaches the model: `python tests/bench/ingest.py [--conversations N …] [--corpus FOLDER]`.

For synthetic corpora of several sizes (text of 384 and audio of 128 values) and both ways of ingest, without Ray: the
seconds from opening the corpus to the end of the first step, conversations a second into tensors, relative to a bare
loop of pyarrow over the same shards and columns, and the peak memory of the process. Every figure is of a process of
its own, with one thread for torch.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import torch

from joyful_ray.config import JobConfig, load_job
from joyful_ray.corpora.shards import Corpus, open_corpus
from joyful_ray.corpora.synthetic import synthesize
from joyful_ray.data.here import loaders_here
from joyful_ray.train.process_group import ProcessGroup
from joyful_ray.train.step import train_step
from joyful_ray.train.trainer import Trainer

WIDTHS = {"text": 384, "audio": 128}
SIZES = (1_000, 10_000)
AT_A_TIME = 128


def job_of(corpus: str, ingest: str) -> JobConfig:
    """The default settings, with one way of ingest."""
    return load_job(None, [f"corpus={corpus}", f"data.ingest={ingest}", "cluster.workers=0", "train.diagnostics=false"])


def start(corpus: str, ingest: str) -> dict[str, float]:
    """Open the corpus, prepare it, and make one step."""
    began, job = time.perf_counter(), job_of(corpus, ingest)
    info, sources, _ = loaders_here(open_corpus(corpus), job, ("train", "dev"))
    prepared = time.perf_counter()
    trainer = Trainer(job, info, ProcessGroup())
    trainer.model.train()
    work = next(iter(sources["train"]().epoch(0, rank=0, world_size=1)))
    train_step(trainer.state_of(trainer.stage_of(0)), work, place="")
    return {"start_s": time.perf_counter() - began, "prepare_s": prepared - began}


def epoch(corpus: str, ingest: str) -> dict[str, float]:
    """Read an epoch into tensors, the second of two, without training on it."""
    job = job_of(corpus, ingest)
    _, sources, _ = loaders_here(open_corpus(corpus), job, ("train", "dev"))
    loader, seconds = sources["train"](), 0.0
    for number in range(2):
        began = time.perf_counter()
        count = sum(len(batch.lengths_C) for work in loader.epoch(number, rank=0, world_size=1) for _, batch in work)
        seconds = time.perf_counter() - began
    return {"conversations_per_s": count / seconds, "peak_mib": peak_mib()}


def bare(corpus: str, ingest: str) -> dict[str, float]:
    """Read the same columns with pyarrow alone, into tensors."""
    opened, columns = open_corpus(corpus), ["utterance_ids", "labels", *WIDTHS]
    seconds = 0.0
    for _ in range(2):
        began, count = time.perf_counter(), 0
        for shard in opened.shards("train"):
            with pq.ParquetFile(opened.location.join(shard.name).path) as file:
                for rows in file.iter_batches(batch_size=AT_A_TIME, columns=columns, use_threads=False):
                    for name, width in WIDTHS.items():
                        values = rows[name].flatten().to_numpy(zero_copy_only=False)
                        torch.from_numpy(values.copy()).view(-1, width)
                    count += rows.num_rows
        seconds = time.perf_counter() - began
    return {"conversations_per_s": count / seconds, "peak_mib": peak_mib()}


def read_bytes(corpus: str, ingest: str) -> dict[str, float]:
    """Read the bytes of all shards that a run reads before its first step, and nothing else."""
    began, opened = time.perf_counter(), open_corpus(corpus)
    for split in ("train", "dev"):
        for shard in opened.shards(split):  # type: ignore[arg-type]
            opened.location.join(shard.name).read_bytes()
    return {"start_s": time.perf_counter() - began}


MEASURES: dict[str, Callable[[str, str], dict[str, float]]] = {
    "start": start,
    "epoch": epoch,
    "bare": bare,
    "bytes": read_bytes,
}


def peak_mib() -> float:
    """Largest memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def apart(measure: str, corpus: str, ingest: str) -> dict[str, float]:
    """A measurement in a process of its own."""
    command = [sys.executable, str(Path(__file__)), "--one", measure, corpus, ingest]
    return dict(json.loads(subprocess.check_output(command, text=True)))


def size_of(corpus: Corpus) -> float:
    """MiB of the shards of train."""
    return sum(shard.bytes for shard in corpus.shards("train")) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--conversations", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--corpus", help="a folder that keeps the corpora")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        torch.set_num_threads(1)
        measure, corpus, ingest = arguments.one
        print(json.dumps(MEASURES[measure](corpus, ingest)))
        return
    print("| conversations | MiB | ingest | first step, s | preparing, s | conversations/s | of bare | peak MiB |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        for conversations in arguments.conversations:
            folder = Path(arguments.corpus or temporary, str(conversations))
            if not (folder / "manifest.json").exists():
                synthesize(str(folder), conversations=conversations, seed=0, widths=WIDTHS)  # type: ignore[arg-type]
            head = f"| {conversations:,} | {size_of(open_corpus(str(folder))):,.0f} "
            loop, read = apart("bare", str(folder), ""), apart("bytes", str(folder), "")
            row = f"| {read['start_s']:.2f} (bytes alone) | | {loop['conversations_per_s']:,.0f} | 1 "
            print(f"{head}| bare {row}| {loop['peak_mib']:,.0f} |", flush=True)
            for ingest in ("resident", "streaming"):
                first, second = apart("start", str(folder), ingest), apart("epoch", str(folder), ingest)
                share = second["conversations_per_s"] / loop["conversations_per_s"]
                print(
                    f"{head}| {ingest} | {first['start_s']:.2f} | {first['prepare_s']:.2f} "
                    f"| {second['conversations_per_s']:,.0f} | {share:.2f} | {second['peak_mib']:,.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
