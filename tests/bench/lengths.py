"""What a step costs whose conversations differ in length: `python tests/bench/lengths.py [--preset NAME …]`.

Every case has a process and one thread of its own. Text and audio have 100 values each, and no utterance lacks one.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch

from joyful_ray.config import load_job
from joyful_ray.data.batch import Batch
from joyful_ray.data.encode import Encoding
from joyful_ray.data.plan import MicroBatch
from joyful_ray.data.prepare import CorpusInfo
from joyful_ray.schema import Modality
from joyful_ray.train.process_group import ProcessGroup
from joyful_ray.train.step import train_step
from joyful_ray.train.trainer import Trainer

WIDTHS: dict[Modality, int] = {"text": 100, "audio": 100}
CASES = {"2,000 and 7 of 10": [2000, *[10] * 7], "130 of 16": [16] * 130, "8 of 10": [10] * 8}
STEPS = 3


def batch_of(lengths: list[int]) -> Batch:
    """Random utterances of two speakers, all with labels."""
    draw, count = torch.Generator().manual_seed(0), sum(lengths)
    return Batch(
        features={name: torch.randn(count, width, generator=draw) for name, width in WIDTHS.items()},
        present={name: torch.ones(count, dtype=torch.bool) for name in WIDTHS},
        speakers_N=torch.randint(0, 2, (count,), generator=draw),
        lengths_C=torch.tensor(lengths),
        labels=torch.randint(0, 3, (count,), generator=draw),
        conversations=tuple(range(len(lengths))),
        conversation_ids=tuple(map(str, range(len(lengths)))),
        keys_C=torch.arange(len(lengths)),
    )


def measure(preset: str, lengths: list[int]) -> tuple[float, float]:
    """CPU seconds of the quickest of a few steps, and by how many MiB the first ones raise the peak of the process."""
    torch.set_num_threads(1)
    job = load_job(None, [f"model.preset={preset}", "train.diagnostics=false"])
    encoding = Encoding("single-label", ("a", "b", "c"), WIDTHS, {})
    info = CorpusInfo(encoding, {}, {}, (50, 30, 20), conversations=8, speakers=2)
    trainer = Trainer(job, info, ProcessGroup())
    trainer.model.train()
    state, batch = trainer.state_of(trainer.stage_of(0)), batch_of(lengths)
    before, times = peak_mib(), []
    for _ in range(STEPS):
        began = time.process_time()
        train_step(state, [(MicroBatch(0, 0, batch.conversations, seed=0), batch)], place="")
        times.append(time.process_time() - began)
    return min(times), peak_mib() - before


def peak_mib() -> float:
    """Largest memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", action="append", choices=["joyful", "paper", "released"])
    parser.add_argument("--one", nargs=2, metavar=("PRESET", "LENGTHS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(*measure(arguments.one[0], json.loads(arguments.one[1])))
        return
    print("| preset | lengths | utterances | CPU seconds of a step | MiB of a step |\n|---|---|---|---|---|")
    for preset in arguments.preset or ["joyful", "paper", "released"]:
        for name, lengths in CASES.items():
            command = [sys.executable, str(Path(__file__)), "--one", preset, json.dumps(lengths)]
            seconds, mib = map(float, subprocess.check_output(command, text=True).split())
            print(f"| `{preset}` | {name} | {sum(lengths):,} | {seconds:.2f} | {mib:.0f} |", flush=True)


if __name__ == "__main__":
    main()
