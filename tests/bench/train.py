"""What training costs, at IEMOCAP's size: `python tests/bench/train.py [--only PART] [--preset NAME]`.

120 conversations of 10 to 110 utterances, 5,810 in all, widths 100/768/512 (audio, text, vision), one thread. Every
preset runs in a process of its own, so that its peak memory is its own. Beside the figures stands what the same process
needs for 30 products of 512 x 512 matrices, because this machine is shared.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from joyful_ray.config import JobConfig, load_job
from joyful_ray.corpora.shards import open_corpus, write_corpus
from joyful_ray.data.loader import ResidentLoader
from joyful_ray.data.prepare import prepare_here
from joyful_ray.schema import Conversation, FeatureContract
from joyful_ray.train.process_group import ProcessGroup, pick_device
from joyful_ray.train.schedule import Progress
from joyful_ray.train.trainer import Trainer

WIDTHS = {"text": 768, "audio": 100, "vision": 512}
CONVERSATIONS, UTTERANCES, SHORTEST, LONGEST = 120, 5810, 10, 110
LABELS = ["happy", "sad", "neutral", "angry"]
PRESETS = ("released", "paper", "joyful")


def lengths(times: int) -> list[int]:
    """Lengths between 10 and 110 that add up to 5,810 for every 120 conversations."""
    rng = np.random.default_rng(0)
    found = rng.integers(SHORTEST, LONGEST + 1, CONVERSATIONS)
    found[:2] = SHORTEST, LONGEST
    while found.sum() != UTTERANCES:
        place = int(rng.integers(2, CONVERSATIONS))
        found[place] = np.clip(found[place] + np.sign(UTTERANCES - found.sum()), SHORTEST, LONGEST)
    return found.tolist() * times


def write_random_corpus(folder: Path, times: int) -> None:
    """Features without meaning, which cost what real ones do."""
    rng = np.random.default_rng(1)

    def conversation(number: int, length: int) -> Conversation:
        return Conversation(
            conversation_id=f"c{number:05d}",
            utterance_ids=[f"u{place}" for place in range(length)],
            speakers=[["M", "F"][int(s)] for s in rng.integers(0, 2, length)],
            labels=[LABELS[int(label)] for label in rng.integers(0, 4, length)],
            features={name: rng.standard_normal((length, width), np.float32) for name, width in WIDTHS.items()},
            present={name: np.ones(length, bool) for name in WIDTHS},
        )

    sizes = lengths(times)
    contracts = {n: FeatureContract(extractor="random", version="1", width=w) for n, w in WIDTHS.items()}
    write_corpus(
        str(folder),
        name="iemocap-size",
        task="single-label",
        labels=LABELS,
        modalities=contracts,
        splits={
            "train": (conversation(number, size) for number, size in enumerate(sizes)),
            "dev": (conversation(number, 20) for number in range(90000, 90002)),
        },
    )


def matrix_rate() -> tuple[float, float]:
    """Milliseconds for 30 products of 512 x 512 matrices, best of five, and the rate that is, in FLOP/s."""
    left = torch.randn(512, 512)
    best = float("inf")
    for _ in range(5):
        began = time.process_time()
        for _ in range(30):
            left @ left
        best = min(best, time.process_time() - began)
    return best * 1e3, 30 * 2 * 512**3 / best


class Stages:
    """CPU seconds by stage, from methods that are wrapped while this measures."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._open: list[str] = []

    def wrap(self, owner: Any, method: str, stage: str) -> None:
        """Count the time in a method as a stage; of nested stages the innermost counts."""
        inner: Callable[..., Any] = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.process_time()
            try:
                return inner(*args, **kwargs)
            finally:
                spent = time.process_time() - began
                self.seconds[stage] += spent
                if self._open[:-1]:
                    self.seconds[self._open[-2]] -= spent
                self._open.pop()

        def opened(*args: Any, **kwargs: Any) -> Any:
            self._open.append(stage)
            return timed(*args, **kwargs)

        object.__setattr__(owner, method, opened) if not isinstance(owner, type) else setattr(owner, method, opened)


def measure(job: JobConfig, epochs: int) -> dict[str, Any]:
    """Train some epochs in this process and count."""
    torch.set_num_threads(1)
    corpus_info, stores = prepare_here(open_corpus(str(job.corpus)), job)
    process_group = ProcessGroup(device=pick_device(job.train.device))
    trainer = Trainer(job, corpus_info, process_group)
    source = ResidentLoader.of(job, stores["train"])
    trainer.train_epoch(source, Progress())
    calibration_ms, rate = matrix_rate()
    cpu, wall = [], []
    for epoch in range(1, epochs + 1):
        began, clock = time.process_time(), time.perf_counter()
        trainer.train_epoch(source, Progress(next_epoch=epoch))
        if process_group.device.type == "cuda":
            torch.cuda.synchronize()
        cpu.append(time.process_time() - began)
        wall.append(time.perf_counter() - clock)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    with FlopCounterMode(display=False) as counter:
        trainer.train_epoch(source, Progress(next_epoch=epochs + 1))
    return {
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "utterances": corpus_info.utterances,
        "cpu_s": min(cpu),
        "wall_s": min(wall),
        "utterances_per_cpu_s": corpus_info.utterances / min(cpu),
        "utterances_per_s": corpus_info.utterances / min(wall),
        "peak_bytes": torch.cuda.max_memory_allocated() if process_group.device.type == "cuda" else peak,
        "flop": counter.get_total_flops(),
        "share_of_matrix_rate": counter.get_total_flops() / min(cpu) / rate,
        "calibration_ms": calibration_ms,
        "stages": stages_of(trainer, source, epochs + 2),
    }


def stages_of(trainer: Trainer, source: ResidentLoader, epoch: int) -> dict[str, float]:
    """Share of an epoch's CPU time by stage."""
    stages = Stages()
    model = trainer.model
    stages.wrap(model.fusion, "forward", "fusion")
    stages.wrap(model.context, "forward", "context")
    stages.wrap(type(model.graphs), "whole", "graph")
    stages.wrap(type(model.graphs), "views", "graph")
    for method in ("embed", "refine"):
        stages.wrap(model.encoder, method, "encoder and views")
    stages.wrap(type(trainer._objective), "sums", "objective and contrast")
    stages.wrap(torch.Tensor, "backward", "backward")
    stages.wrap(trainer.optimizer, "step", "optimizer")
    began = time.process_time()
    trainer.train_epoch(source, Progress(next_epoch=epoch))
    total = time.process_time() - began
    found = {stage: seconds / total for stage, seconds in stages.seconds.items()}
    return found | {"rest": 1.0 - sum(found.values())}


def in_process(corpus: Path, *settings: str, epochs: int = 2) -> dict[str, Any]:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, "--child", str(corpus), "--epochs", str(epochs), *settings]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.strip().splitlines()[-1])


def line(name: str, row: dict[str, Any]) -> str:
    """One row of a table."""
    return (
        f"{name:<34} {row['parameters']:>11,} {row['cpu_s']:>8.2f} {row['utterances_per_cpu_s']:>10.0f} "
        f"{row['peak_bytes'] / 2**30:>7.2f} {row['flop'] / 1e12:>8.2f} {row['share_of_matrix_rate']:>6.0%} "
        f"{row['calibration_ms']:>8.0f}"
    )


HEAD = f"{'':<34} {'parameters':>11} {'CPU s':>8} {'utt/CPU s':>10} {'GiB':>7} {'TFLOP':>8} {'rate':>6} {'30mm ms':>8}"


def presets(corpus: Path, chosen: list[str]) -> None:
    """The chosen presets, and where their time goes."""
    print(HEAD)
    for preset in chosen:
        row = in_process(corpus, f"model.preset={preset}")
        print(line(preset, row))
        print("    " + ", ".join(f"{stage} {share:.0%}" for stage, share in row["stages"].items()), flush=True)


def growth(corpus: Path, larger: Path) -> None:
    """Four times the conversations."""
    for preset in ("joyful",):
        one, four = (in_process(place, f"model.preset={preset}", epochs=1) for place in (corpus, larger))
        time_ratio, memory_ratio = four["cpu_s"] / one["cpu_s"], four["peak_bytes"] / one["peak_bytes"]
        print(f"{preset}: 4x the conversations cost {time_ratio:.2f}x the CPU time and {memory_ratio:.2f}x the memory")


def windows(corpus: Path) -> None:
    """Windows of the graph."""
    print(HEAD)
    for window in ("4", "8", "16", "null"):
        row = in_process(corpus, f"graph.window_past={window}", f"graph.window_future={window}", epochs=1)
        print(line(f"joyful, window {'unbounded' if window == 'null' else window}", row), flush=True)


def workers(corpus: Path, folder: Path) -> None:
    """One worker against two, and Ray against none, by the seconds of the training part of an epoch."""
    from joyful_ray.train.launch import train
    from joyful_ray.train.run_directory import RunDirectory

    found = {}
    for count in (0, 1, 2):
        job = load_job(None, [f"corpus={corpus}", f"storage={folder}", "train.epochs=3", f"cluster.workers={count}"])
        if count == 0:
            torch.set_num_threads(1)
        train(job, name=f"workers-{count}")
        found[count] = min(metrics.train_seconds for metrics in RunDirectory.of(job, f"workers-{count}").metrics())
    print(
        f"training seconds per epoch: without Ray {found[0]:.2f}, one worker {found[1]:.2f}, two workers {found[2]:.2f}"
    )
    print(f"one worker under Ray / without: {found[1] / found[0]:.2f}; two workers / one: {found[2] / found[1]:.2f}")


def device(corpus: Path) -> None:
    """The GPU, where there is one."""
    if not torch.cuda.is_available():
        print("no NVIDIA GPU at hand")
        return
    for preset in PRESETS:
        for precision in ("fp32", "bf16"):
            row = in_process(corpus, f"model.preset={preset}", "train.device=cuda", f"train.precision={precision}")
            print(
                f"{preset} {precision}: {row['utterances_per_s']:.0f} utterances/s, {row['peak_bytes'] / 2**30:.2f} GiB"
            )


def main() -> None:
    """Run the chosen parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("presets", "growth", "windows", "workers", "device"))
    parser.add_argument("--preset", choices=PRESETS, action="append")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--epochs", type=int, default=2, help=argparse.SUPPRESS)
    parser.add_argument("settings", nargs="*")
    arguments = parser.parse_args()
    if arguments.child:
        job = load_job(
            None, [f"corpus={arguments.child}", "cluster.workers=0", "train.diagnostics=false", *arguments.settings]
        )
        print(json.dumps(measure(job, arguments.epochs)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_random_corpus(folder / "one", 1)
        parts = {
            "presets": lambda: presets(folder / "one", arguments.preset or list(PRESETS)),
            "growth": lambda: (write_random_corpus(folder / "four", 4), growth(folder / "one", folder / "four")),
            "windows": lambda: windows(folder / "one"),
            "workers": lambda: workers(folder / "one", folder / "runs"),
            "device": lambda: device(folder / "one"),
        }
        for part, run in parts.items():
            if arguments.only in (None, part):
                print(f"\n{part}")
                run()


if __name__ == "__main__":
    main()
