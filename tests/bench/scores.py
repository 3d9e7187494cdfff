"""A job over several seeds, as the README's tables show it.

    python tests/bench/scores.py JOB.yaml --seeds 0 1 2 [--set a.b=c]... [--storage runs] [--name NAME]

Every run is selected on dev and reads test once. Runs that are finished are not run again.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from joyful_ray.config import JobConfig, load_job
from joyful_ray.records import RunRecord
from joyful_ray.train.launch import ray_cluster, train
from joyful_ray.train.run_directory import RunDirectory


def run(job: JobConfig, name: str) -> tuple[RunRecord, float]:
    """The record of one run, and its seconds an epoch."""
    directory = RunDirectory.of(job, name)
    record = directory.read_record() or train(job, name=name)
    return record, statistics.median(metrics.seconds for metrics in directory.metrics())


def spread(values: list[float]) -> str:
    """Mean and standard deviation over the seeds."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.4f} ± {deviation:.4f}"


def print_table(records: list[RunRecord], seconds: list[float]) -> None:
    """One row a seed, then means; Markdown."""
    tests = [record.test for record in records if record.test is not None]
    names = list(tests[0].values) + [f"F1 {name}" for name in tests[0].per_label]
    rows = [list(test.values.values()) + [values["f1"] for values in test.per_label.values()] for test in tests]
    selection = [record.dev.selection for record in records]
    print("| seed | selected epoch | dev | " + " | ".join(names) + " | s an epoch |")
    print("|---" * (len(names) + 4) + "|")
    for record, dev, row, second in zip(records, selection, rows, seconds, strict=True):
        cells = " | ".join(f"{value:.3f}" for value in row)
        seed, epoch = record.config["seed"], f"{record.selected_epoch} of {record.epochs}"
        print(f"| {seed} | {epoch} | {dev:.3f} | {cells} | {second:.1f} |")
    cells = " | ".join(f"{statistics.mean(column):.3f}" for column in zip(*rows, strict=True))
    print(f"| mean | | {statistics.mean(selection):.3f} | {cells} | {statistics.mean(seconds):.1f} |")
    first = next(iter(tests[0].values)) if tests[0].task == "regression" else "weighted_f1"
    print(f"\n{first}: test {spread([test.values[first] for test in tests])}, dev {spread(selection)}")


def main() -> None:
    """Run the seeds and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--storage", default="runs")
    parser.add_argument("--name")
    arguments = parser.parse_args()
    fixed = [f"storage={arguments.storage}", *arguments.settings]
    jobs = [load_job(arguments.job, [*fixed, f"seed={seed}"]) for seed in arguments.seeds]
    name = arguments.name or jobs[0].name
    if jobs[0].cluster.workers == 0:
        found = [run(job, f"{name}-{job.seed}") for job in jobs]
    else:
        with ray_cluster(jobs[0]):
            found = [run(job, f"{name}-{job.seed}") for job in jobs]
    print_table([record for record, _ in found], [seconds for _, seconds in found])


if __name__ == "__main__":
    main()
