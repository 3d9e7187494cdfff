"""Shows the results of runs: scores, records, the demo."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from joyful_ray.console.screen import Screen, show_locations
from joyful_ray.wording import counted, listed, metric_name

if TYPE_CHECKING:
    from joyful_ray.demo import DemoResult
    from joyful_ray.records import RunRecord, Scores, StepReport


def show_scores(screen: Screen, scores: Mapping[str, Scores]) -> None:
    """Print scores side by side, then the labels and the confusion of the last.

    Args:
        screen: where to print.
        scores: by split, such as dev and test; all of one corpus and task.
    """
    last_split, last = list(scores.items())[-1]
    rows = [[metric_name(name), *(_number(each.values.get(name)) for each in scores.values())] for name in last.values]
    rows.append(["loss", *(_number(each.loss) for each in scores.values())])
    rows.append(["utterances", *(f"{each.utterances:,}" for each in scores.values())])
    screen.table(["", *scores], rows, title="Scores")
    if last.per_label:
        columns = list(next(iter(last.per_label.values())))
        rows = [
            [label, *(f"{cells[name]:,.0f}" if name == "support" else _number(cells[name]) for name in columns)]
            for label, cells in last.per_label.items()
        ]
        screen.say()
        screen.table(["", *map(metric_name, columns)], rows, title=f"Labels, {last_split}")
    if last.confusion is not None:
        screen.say()
        _show_confusion(screen, last, title=f"Confusion, {last_split}")


def _show_confusion(screen: Screen, scores: Scores, *, title: str) -> None:
    """Print the confusion; columns are numbered if their labels are too wide."""
    assert scores.confusion is not None
    counts = [list(map(str, row)) for row in scores.confusion]
    labels = scores.labels
    named = ["true \\ predicted", *labels], [[label, *row] for label, row in zip(labels, counts, strict=True)]
    numbers = [str(place) for place in range(1, len(labels) + 1)]
    width = len(numbers[-1]) if numbers else 0
    numbered = (
        ["true \\ predicted", *numbers],
        [[f"{n:>{width}} {label}", *row] for n, label, row in zip(numbers, labels, counts, strict=True)],
    )
    for header, rows in (named, numbered):
        if screen.fits(header, rows):
            screen.table(header, rows, title=title)
            return
    screen.say(f"{title}: too wide for this screen with {counted(len(labels), 'label')}; --json prints it")


def show_failed_step(screen: Screen, report: StepReport) -> None:
    """Print what was not finite in a step, and where it comes from."""
    screen.table(["", report.place], [[name, f"{value:g}"] for name, value in report.losses.items()])
    screen.say()
    if report.is_finite:
        screen.say("every loss and every gradient is finite here: the same step was not on the machine of the run")
    if report.first_part is not None:
        given = (
            "" if report.first_part_input is None else f"; the largest number it was given: {report.first_part_input:g}"
        )
        screen.say(f"first output that is not finite: {report.first_part}{given}")
    if report.parameters:
        screen.say(f"gradients that are not finite: {listed(report.parameters, most=3)}")
    if report.alone:
        count = f"{len(report.alone)} of {counted(len(report.conversations), 'conversation')}"
        screen.say(f"not finite also alone: {count}: {listed(report.alone, most=5)}")
    if report.largest_weight is not None:
        screen.say(f"largest weight: {report.largest_weight[1]:g} in {report.largest_weight[0]}")
    if report.largest_feature is not None:
        screen.say(f"largest feature: {report.largest_feature[1]:g} in {report.largest_feature[0]}")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def show_run(screen: Screen, record: RunRecord) -> None:
    """Print the scores of a run, which epoch was selected, and where the results are."""
    splits = {"dev": record.dev} | ({"test": record.test} if record.test is not None else {})
    show_scores(screen, splits)
    screen.say()
    workers = f"with {counted(record.workers, 'worker')}" if record.workers else "without Ray"
    outcome = record.outcome.replace("-", " ")
    screen.say(f"{record.name}: {outcome} after {counted(record.epochs, 'epoch')} {workers}")
    screen.say(
        f"epoch {record.selected_epoch + 1} of {record.epochs} was selected by {record.selected_by}; "
        f"test was {_times(record.test_reads)}"
    )
    screen.say("time: " + ", ".join(f"{name} {value:.1f} s" for name, value in record.seconds.items()))
    for warning in record.warnings:
        screen.say(f"warning: {warning}", style="yellow")
    show_locations(screen, record.locations)


def _times(count: int) -> str:
    return {0: "not read", 1: "read once"}.get(count, f"read {count} times")


def show_demo(screen: Screen, result: DemoResult) -> None:
    """Print the results of the demo, and what to try next."""
    show_run(screen, result.record)
    screen.say()
    found, possible = result.bundle_scores.values["weighted_f1"], result.best_possible["weighted_f1"]
    screen.say(f"the bundle, opened again from disk, scores weighted F1 {found:.4f} on dev")
    screen.say(f"a model that knows how this corpus was made scores {possible:.4f} on test")
    show_locations(screen, {"corpus": result.corpus})
    screen.say()
    screen.say("next:", style="bold")
    for command in result.next_commands:
        screen.say(f"  {command}")
