"""What a search costs beside its trials, and what early stopping saves.

python tests/bench/search.py                          the overhead of a search of trials of 60 seconds
python tests/bench/search.py --trial-seconds 20 --trials 8 --slots 2
python tests/bench/search.py --replay runs/full       a search without early stopping (search.scheduler=none), with
                                                      asha over the same curves: epochs to the same best dev score
"""

from __future__ import annotations

import argparse
import heapq
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from joyful_ray.config import JobConfig, load_job, merge, resolve
from joyful_ray.corpora.synthetic import synthesize
from joyful_ray.report.read_runs import read_search
from joyful_ray.storage import open_location
from joyful_ray.train.launch import train
from joyful_ray.tune.goals import Goal
from joyful_ray.tune.schedulers import EPOCHS, SCORE, NoOthers, scheduler_of
from joyful_ray.tune.search import search
from joyful_ray.tune.search_directory import SearchDirectory
from joyful_ray.tune.search_state import SearchState, Trial
from joyful_ray.tune.space import Space

CONTROLLER: Any = NoOthers()


def small_search(folder: Path, *, trials: int, slots: int, epochs: int) -> JobConfig:
    """A search over a synthetic corpus, on one core a trial, of which none is stopped early."""
    corpus = folder / "corpus"
    if not corpus.exists():
        synthesize(str(corpus), conversations=300, seed=0)
    settings = load_job(Path(__file__).parents[2] / "joyful_ray" / "demo.yaml").model_dump(mode="json")
    space = {"objective.contrast_weight": {"log": [0.01, 1.0]}}
    how = {"space": space, "scheduler": "none", "max_trials": trials, "max_concurrent": slots, "confirm": None}
    changes = {"corpus": str(corpus), "storage": str(folder / "runs"), "search": how}
    changes["train"] = {"epochs": epochs, "patience": epochs, "diagnostics": False}
    return resolve(merge(settings, changes))


def epoch_seconds(job: JobConfig) -> float:
    """Seconds of an epoch on one core."""
    alone = job.model_dump(mode="json") | {"search": None, "name": "alone"}
    probe = resolve(merge(alone, {"cluster": {"workers": 0}, "train": {"epochs": 3}}))
    lines: list[float] = []
    train(probe, watch=lambda metrics: lines.append(metrics.seconds))
    return min(lines)


def overhead(*, trials: int, slots: int, trial_seconds: float) -> None:
    """Wall time of a search against its trials' own training time over the slots."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        each = epoch_seconds(small_search(folder, trials=trials, slots=slots, epochs=2))
        epochs = max(round(trial_seconds / each), 1)
        job = small_search(folder, trials=trials, slots=slots, epochs=epochs)
        began = time.perf_counter()
        record = search(job, name="bench")
        wall = time.perf_counter() - began
        state = SearchState.of(SearchDirectory.of(job, "bench").ledger.events())
    own = sum(trial.seconds for trial in state.own)
    ideal = own / record.slots
    print("| trials | at a time | epochs each | own s a trial | trials' own s / slots | wall s | overhead |")
    print("|---|---|---|---|---|---|---|")
    print(
        f"| {trials} | {record.slots} | {epochs} | {own / trials:.1f} | {ideal:.1f} | {wall:.1f} "
        f"| {wall / ideal - 1:.1%} |"
    )


@dataclass(frozen=True)
class Spent:
    """One way through the configs.

    Attributes:
        best: greatest dev score.
        until: epochs over all trials when it was first reached.
        epochs: over all trials in the end.
    """

    best: float
    until: int
    epochs: int
    stopped: int


class _Replayed:
    """What schedulers look at in a trial."""

    def __init__(self, name: str) -> None:
        self.trial_id = name


def replay(trials: list[Trial], space: Space, goal: Goal, *, epochs: int, slots: int) -> Spent:
    """Run the search's scheduler over full curves, with so many trials at a time, each epoch as long as it was."""
    scheduler = scheduler_of(space, epochs=epochs)
    waiting, clock = list(reversed(trials)), 0.0
    running: list[tuple[float, int, int]] = []  # when its next epoch ends, which trial, which epoch
    submission = {trial.name: place for place, trial in enumerate(trials)}
    shadows: list[Any] = [_Replayed(trial.name) for trial in trials]
    spent, until, best, stopped = 0, 0, -float("inf"), 0
    curves = [trial.curve(goal) for trial in trials]

    def begin() -> None:
        if waiting:
            place = submission[waiting.pop().name]
            scheduler.on_trial_add(CONTROLLER, shadows[place])
            heapq.heappush(running, (clock + trials[place].epochs[0].seconds, place, 0))

    for _ in range(slots):
        begin()
    while running:
        clock, place, epoch = heapq.heappop(running)
        spent += 1
        done, score = curves[place][epoch]
        if score > best:
            best, until = score, spent
        decision = scheduler.on_trial_result(CONTROLLER, shadows[place], {EPOCHS: done, SCORE: score})
        is_last = epoch + 1 == len(curves[place])
        if is_last or decision == "STOP":
            stopped += not is_last
            scheduler.on_trial_complete(CONTROLLER, shadows[place], {EPOCHS: done, SCORE: score})
            begin()
        else:
            heapq.heappush(running, (clock + trials[place].epochs[epoch + 1].seconds, place, epoch + 1))
    return Spent(best, until, spent, stopped)


def replay_search(place: str, *, slots: int, orders: int, grace: int | None, factor: float | None) -> None:
    """Early stopping against none, over the configs of a search that ran them all to the end, in many orders."""
    found = read_search(open_location(place))
    trials = [trial for trial in found.state.own if trial.outcome == "finished"]
    job = found.job
    assert job.search is not None
    changes: dict[str, Any] = {} if grace is None else {"grace_epochs": grace}
    changes |= {} if factor is None else {"reduction_factor": factor}
    print(f"{len(trials)} configs, {slots} at a time, dev {found.goal.name}, means over {orders} orders\n")
    print("| early stopping | stopped | epochs in all | until its best | best dev | same best | times fewer in all |")
    print("|---|---|---|---|---|---|---|")
    rows: dict[str, list[Spent]] = {}
    for name in ("none", "median", "asha"):
        changed = job.search.model_copy(update={"scheduler": name, **changes})
        space = Space.of(job.model_copy(update={"search": changed}))
        rows[name] = [
            replay(
                random.Random(submission).sample(trials, len(trials)),
                space,
                found.goal,
                epochs=job.train.epochs,
                slots=slots,
            )
            for submission in range(orders)
        ]
        none, row = rows["none"], rows[name]
        same = fmean(one.best == other.best for one, other in zip(row, none, strict=True))
        print(
            f"| {name} | {fmean(one.stopped for one in row):.1f} | {fmean(one.epochs for one in row):.0f} "
            f"| {fmean(one.until for one in row):.0f} | {found.goal.sign * fmean(one.best for one in row):.4f} "
            f"| {same:.0%} | {fmean(one.epochs for one in none) / fmean(one.epochs for one in row):.1f} |"
        )


def main() -> None:
    """Measure, and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--trial-seconds", type=float, default=60.0)
    parser.add_argument("--replay", metavar="SEARCH")
    parser.add_argument("--orders", type=int, default=50)
    parser.add_argument("--grace", type=int)
    parser.add_argument("--factor", type=float)
    arguments = parser.parse_args()
    if arguments.replay:
        replay_search(
            arguments.replay,
            slots=arguments.slots,
            orders=arguments.orders,
            grace=arguments.grace,
            factor=arguments.factor,
        )
    else:
        overhead(trials=arguments.trials, slots=arguments.slots, trial_seconds=arguments.trial_seconds)


if __name__ == "__main__":
    main()
