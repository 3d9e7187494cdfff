"""What a person sees: tables, and progress as a bar on a terminal and as plain lines elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from joyful_ray.corpora.audit import CorpusCard
    from joyful_ray.demo import DemoResult
    from joyful_ray.doctor import Checkup
    from joyful_ray.records import EpochMetrics, RunRecord, Scores
    from joyful_ray.schema import Manifest

PLAIN_WIDTH = 160
STATUS_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}
SELECTED_BY = {"single-label": "weighted_f1", "multi-label": "weighted_f1", "regression": "mae"}


class Screen:
    """Where a command's words go: to stdout, or to stderr where a program reads one JSON object from stdout."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self.console = Console(stderr=as_json, highlight=False)
        if not self.console.is_terminal:
            self.console.width = PLAIN_WIDTH

    def say(self, text: str = "", *, style: str | None = None) -> None:
        """A line, never broken or coloured by what it holds."""
        self.console.print(text, style=style, markup=False, soft_wrap=True)

    def table(
        self,
        header: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        title: str | None = None,
        left: int = 1,
        styles: Sequence[str | None] = (),
    ) -> None:
        """A table; the first `left` columns are words, the others numbers."""
        table = Table(
            title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0)
        )
        for place, name in enumerate(header):
            table.add_column(Text(name), justify="left" if place < left else "right", overflow="fold")
        for place, row in enumerate(rows):
            table.add_row(*map(Text, row), style=styles[place] if place < len(styles) else None)
        self.console.print(table)

    def result(self, value: BaseModel | Mapping[str, Any]) -> None:
        """The one JSON object for programs; nothing where a person reads."""
        if self.as_json:
            print(json_line(value), flush=True)


def json_line(value: BaseModel | Mapping[str, Any]) -> str:
    """One line of JSON; numbers that are not finite become null, as JSON has none."""
    if isinstance(value, BaseModel):
        return value.model_dump_json()
    return json.dumps(value, allow_nan=False, ensure_ascii=False)


class TrainingDisplay:
    """A run as it goes on: a growing table with a line an epoch, and below it a bar where there is a terminal.

    Args:
        epochs: how many there may be.
    """

    def __init__(self, screen: Screen, *, epochs: int) -> None:
        self._screen = screen
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=screen.console,
            transient=True,
            disable=not screen.console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=epochs)
        self._has_header = False

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def stage(self, text: str) -> None:
        """What is being done now, before the first epoch and after the last."""
        self._bar.update(self._task, description=text)
        if not self._screen.console.is_terminal:
            self._screen.say(text)

    def epoch(self, metrics: EpochMetrics) -> None:
        """One epoch is over."""
        score = SELECTED_BY[metrics.dev.task]
        if not self._has_header:
            self._has_header = True
            self._screen.say(_epoch_line("epoch", "loss", "dev loss", f"dev {metric_name(score)}", "s", "utterances/s"))
        line = _epoch_line(
            str(metrics.epoch),
            f"{metrics.losses['total']:.4f}",
            f"{metrics.dev.loss:.4f}",
            f"{metrics.dev.values[score]:.4f}",
            f"{metrics.seconds:.1f}",
            f"{metrics.utterances_per_second:,.0f}",
        )
        self._screen.say(line + ("  best" if metrics.is_best else ""), style="green" if metrics.is_best else None)
        self._bar.update(self._task, description="training", completed=metrics.epoch + 1)


def _epoch_line(epoch: str, loss: str, dev_loss: str, score: str, seconds: str, rate: str) -> str:
    return f"{epoch:>5}  {loss:>9}  {dev_loss:>9}  {score:>15}  {seconds:>6}  {rate:>12}"


def metric_name(name: str) -> str:
    """`weighted_f1` as a person writes it."""
    return name.replace("_", " ").replace("f1", "F1")


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


def show_locations(screen: Screen, locations: Mapping[str, str]) -> None:
    """Names and the places where their owners lie, one a line."""
    width = max(map(len, locations), default=0)
    for name, place in locations.items():
        screen.say(f"{name:<{width}}  {place}")


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


def show_manifest(screen: Screen, manifest: Manifest, out: str) -> None:
    """What a new corpus holds."""
    rows = [[split, f"{entry.conversations:,}", f"{entry.utterances:,}"] for split, entry in manifest.splits.items()]
    screen.table(["split", "conversations", "utterances"], rows)
    screen.say(f"{manifest.name} is at {out}; see it: joyful inspect {out}")


def show_checkup(screen: Screen, checkup: Checkup) -> None:
    """What the doctor found: a line a check, and under it what to do."""
    width = max(len(check.name) for check in checkup.checks)
    for check in checkup.checks:
        screen.say(f"{check.status:<4}  {check.name:<{width}}  {check.found}", style=STATUS_STYLES[check.status])
        if check.advice:
            screen.say(f"{'':<{width + 8}}{check.advice}")
    screen.say("fit to train" if checkup.is_healthy else "not fit to train; mend what fails", style="bold")


def show_corpus(screen: Screen, card: CorpusCard) -> None:
    """The corpus card."""
    screen.say(f"{card.name}: {card.task}, {len(card.labels)} labels; {card.uri}", style="bold")
    header, *rows = card.as_rows()
    screen.table(header, rows)
    screen.say()
    rows = [
        [
            name,
            str(contract.width),
            contract.extractor,
            contract.version,
            contract.licence,
            _parameters(contract.parameters),
        ]
        for name, contract in card.modalities.items()
    ]
    screen.table(["modality", "width", "extractor", "version", "licence", "parameters"], rows, title="Features", left=6)
    for key, value in card.notes.items():
        screen.say(f"{metric_name(key)}: {_note(value)}")
    for warning in card.warnings:
        screen.say(f"warning: {warning}", style="yellow")


def _note(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{metric_name(str(key))} {_note(part)}" for key, part in value.items())
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _parameters(parameters: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in parameters.items())
