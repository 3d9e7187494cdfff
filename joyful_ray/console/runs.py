"""What runs came to: scores, records, the demo."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from joyful_ray.console.screen import Screen, metric_name, show_locations

if TYPE_CHECKING:
    from joyful_ray.demo import DemoResult
    from joyful_ray.records import RunRecord, Scores


def show_scores(screen: Screen, scores: Mapping[str, Scores]) -> None:
    """Scores side by side, then what each label and each confusion was in the last of them.

    Args:
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
        rows = [[label, *map(str, row)] for label, row in zip(last.labels, last.confusion, strict=True)]
        screen.say()
        screen.table(["true \\ predicted", *last.labels], rows, title=f"Confusion, {last_split}")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def show_run(screen: Screen, record: RunRecord) -> None:
    """What a run came to, and where it lies."""
    splits = {"dev": record.dev} | ({"test": record.test} if record.test is not None else {})
    show_scores(screen, splits)
    screen.say()
    seconds = ", ".join(f"{name} {value:.1f} s" for name, value in record.seconds.items())
    workers = f"{record.workers} workers" if record.workers != 1 else "1 worker"
    screen.say(f"{record.name}: {record.outcome} after {record.epochs} epochs with {workers}; {seconds}")
    screen.say(
        f"epoch {record.selected_epoch} was selected by {record.selected_by}; test was read {_times(record.test_reads)}"
    )
    for warning in record.warnings:
        screen.say(f"warning: {warning}", style="yellow")
    show_locations(screen, record.locations)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def show_demo(screen: Screen, result: DemoResult) -> None:
    """What the demo came to, and what to try next."""
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
