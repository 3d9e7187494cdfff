"""What a step costs one worker and several: `python tests/bench/steps.py [CORPUS …]`.

A step has 64 conversations of IEMOCAP's size, and each process one thread. `passes` cuts the step of one worker into
several passes. `shares` runs the shares of more workers than this machine has cores for one after the other, so that
the largest says how long a step of theirs would take without the exchange of gradients. `idle` plans steps, also of the
given corpora. `processes` compares one process with two, which exchange gradients by gloo.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from joyful_ray.config import JobConfig, load_job
from joyful_ray.corpora.shards import open_corpus
from joyful_ray.data.loader import ResidentLoader, Work
from joyful_ray.data.plan import StepRules, plan_epoch
from joyful_ray.data.prepare import prepare_here
from joyful_ray.train.process_group import ProcessGroup
from joyful_ray.train.step import train_step
from joyful_ray.train.trainer import Trainer

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.bench.train import write_random_corpus
from tests.ranks import on_ranks

BATCH, ROUNDS = 64, 7


class Bench:
    """A trainer of one process, and the work of steps."""

    def __init__(self, corpus: str, process_group: ProcessGroup, *settings: str) -> None:
        torch.set_num_threads(1)
        self.job: JobConfig = load_job(
            None,
            [f"corpus={corpus}", "train.diagnostics=false", f"train.batch_conversations={BATCH}", *settings],
        )
        corpus_info, stores = prepare_here(open_corpus(corpus), self.job)
        self.trainer = Trainer(self.job, corpus_info, process_group)
        self.loader = ResidentLoader.of(self.job, stores["train"])
        self.trainer.model.train()
        self.state = self.trainer.state_of(self.trainer.stage_of(0))

    def work(self, rank: int, workers: int) -> Work:
        """A rank's share of a full step."""
        return next(self.loader.epoch(0, rank=rank, world_size=workers))

    def seconds(self, work: Work) -> float:
        """Wall time of one step."""
        began = time.perf_counter()
        train_step(self.state, work, place="")
        return time.perf_counter() - began


def passes(corpus: str) -> None:
    """One pass against several."""
    utterances = sum(batch.utterances for _, batch in Bench(corpus, ProcessGroup()).work(0, 1))
    benches = {
        count: Bench(corpus, ProcessGroup(), f"cluster.utterances_per_pass={-(-utterances // count)}")
        for count in (1, 2, 4, 16)
    }
    works = {count: bench.work(0, 1) for count, bench in benches.items()}
    times = {
        count: statistics.median(benches[count].seconds(work) for _ in range(ROUNDS)) for count, work in works.items()
    }
    for count, seconds in times.items():
        print(f"{len(works[count]):>3} passes: {seconds / times[1]:.2f} of the time of one")


def shares(corpus: str) -> None:
    """The largest share of a step, by the number of workers."""
    bench = Bench(corpus, ProcessGroup())
    whole = statistics.median(bench.seconds(bench.work(0, 1)) for _ in range(ROUNDS))
    for workers in (2, 4, 8, 16):
        mine = [bench.work(rank, workers) for rank in range(workers)]
        largest = max(mine, key=lambda work: sum(batch.utterances for _, batch in work))
        seconds = statistics.median(bench.seconds(largest) for _ in range(ROUNDS))
        print(f"{workers:>3} workers: {seconds / whole:.2f} of the time of one; evenly it would be {1 / workers:.2f}")


def on_one_rank(process_group: ProcessGroup, corpus: str) -> float:
    """Median seconds of a step on a rank."""
    bench = Bench(corpus, process_group)
    work = bench.work(process_group.rank, process_group.size)
    bench.seconds(work)
    return statistics.median(bench.seconds(work) for _ in range(ROUNDS))


def processes(corpus: str, folder: Path) -> None:
    """One process against two, in turn."""
    ratios = []
    for place in range(5):
        found = {}
        for count in (1, 2):
            target = folder / f"{place}-{count}"
            target.mkdir()
            found[count] = max(on_ranks(on_one_rank, count, target, corpus))
        ratios.append(found[2] / found[1])
        print(f"two processes take {ratios[-1]:.2f} of the time of one", flush=True)
    print(f"median {statistics.median(ratios):.2f}")


def idle(corpora: list[str]) -> None:
    """How much of a step workers are idle, by how many conversations each has, if a pass takes as long as it is."""
    for corpus in corpora:
        tables = open_corpus(corpus).tables("train")
        lengths = np.array([len(ids) for table in tables for ids in table["utterance_ids"].to_pylist()])
        for each in (1, 2, 4):
            found = []
            for workers in (2, 4, 8, 16):
                steps = plan_epoch(lengths, StepRules(each * workers), seed=0, epoch=0)
                full = [step for step in steps if len(step.units) == each * workers]
                shares = [
                    [
                        sum(lengths[list(micro.conversations)].sum() for micro in step.of_rank(rank, workers, lengths))
                        for rank in range(workers)
                    ]
                    for step in full
                ]
                found.append(np.mean([1 - np.mean(share) / max(share) for share in shares]) if shares else np.nan)
            row = ", ".join("too few" if np.isnan(value) else f"{value:.0%}" for value in found)
            print(f"{Path(corpus).name}, {each} for each of 2, 4, 8, 16 workers: idle {row}")


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpora", nargs="*", help="corpora for the part idle, besides the random one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_random_corpus(folder / "corpus", 1)
        corpus = str(folder / "corpus")
        for part in (passes, shares):
            print(part.__name__)
            part(corpus)
        print("idle")
        idle([corpus, *arguments.corpora])
        print("processes")
        processes(corpus, folder)


if __name__ == "__main__":
    main()
