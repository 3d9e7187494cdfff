"""What checkpoints by steps and by time cost the training loop: `python tests/bench/checkpoints.py [--preset NAME]`.

Some steps of 16 conversations of IEMOCAP's size without a checkpoint, and as many with one after the first of them: the
loop waits while the state is copied, and then shares its core with the thread that writes. The last column is the share
of its time that the loop waits with one checkpoint a minute.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from joyful_ray.config import resolve
from joyful_ray.train.checkpoint import latest_checkpoint
from joyful_ray.train.process_group import ProcessGroup
from joyful_ray.train.run_directory import RunDirectory
from joyful_ray.train.saving import Saving
from joyful_ray.train.schedule import PartialEpoch, Progress

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.bench.steps import Bench
from tests.bench.train import PRESETS, write_random_corpus

STEPS, ROUNDS = 8, 5
MIB = 2**20


def measure(preset: str, folder: Path) -> None:
    """Print a row for one preset."""
    bench = Bench(str(folder / "corpus"), ProcessGroup(), f"model.preset={preset}", "train.batch_conversations=16")
    work = bench.work(0, 1)
    job = resolve(bench.job.model_dump(mode="json") | {"storage": str(folder), "name": preset})
    saving = Saving(RunDirectory.of(job), job.train, is_first=True)
    progress = Progress(partial=PartialEpoch(step=1))
    copies, plain, beside = [], [], []
    bench.seconds(work)
    for place in range(ROUNDS):
        plain.append(sum(bench.seconds(work) for _ in range(STEPS)))
        began = time.perf_counter()
        saving.write(bench.trainer.snapshot(is_copy=True), progress, step=place)
        copies.append(time.perf_counter() - began)
        beside.append(sum(bench.seconds(work) for _ in range(STEPS)))
        saving.wait()
    saving.close()
    newest = latest_checkpoint(RunDirectory.of(job).checkpoints)
    assert newest is not None
    size = sum(len(newest.join(file).read_bytes()) for file in newest.list())
    copy, slower = statistics.median(copies), statistics.median(beside) / statistics.median(plain)
    print(
        f"| `{preset}` | {size / MIB:.0f} | {statistics.median(plain) / STEPS:.2f} | {copy:.3f} | {slower:.2f} "
        f"| {copy / 60:.2%} |",
        flush=True,
    )


def main() -> None:
    """Measure, and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, action="append")
    arguments = parser.parse_args()
    print(
        f"| preset | MiB | s a step | the loop waits, s | {STEPS} steps beside the writing | waiting, once a minute |"
    )
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        write_random_corpus(Path(name) / "corpus", 1)
        for preset in arguments.preset or PRESETS:
            measure(preset, Path(name))


if __name__ == "__main__":
    main()
