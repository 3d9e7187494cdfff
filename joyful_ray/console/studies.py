"""Shows a study: its runs while they train, then one table and one sentence per variant for each corpus."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from joyful_ray.console.screen import Screen, show_locations
from joyful_ray.wording import counted, metric_name

if TYPE_CHECKING:
    from joyful_ray.records import EpochMetrics, StudyRecord

BAR_WIDTH = 20


class StudyDisplay:
    """Shows a line per run that ends, and on a terminal a bar over the runs.

    Args:
        screen: where to print.
        runs: number of runs.
    """

    def __init__(self, screen: Screen, *, runs: int) -> None:
        self._screen = screen
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=BAR_WIDTH),
            MofNCompleteColumn(),
            TextColumn("runs"),
            TimeElapsedColumn(),
            console=screen.console,
            transient=True,
            disable=not screen.console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=runs)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def stage(self, text: str) -> None:
        """Print what happens now."""
        self._screen.say(text)

    def epoch(self, run: str, metrics: EpochMetrics) -> None:
        """Show which run has ended an epoch."""
        self._bar.update(self._task, description=f"{run}, epoch {metrics.epoch + 1}")

    def run_ended(self, run: str) -> None:
        """Count a run."""
        self._bar.advance(self._task)


def show_study(screen: Screen, record: StudyRecord, locations: dict[str, str]) -> None:
    """Print the tables of a study."""
    from joyful_ray.report.studies import study_tables

    if record.question:
        screen.say()
        screen.paragraph(record.question)
    for table in study_tables(record):
        screen.say()
        screen.wide_table(table.header, table.rows, title=table.title, left=table.left)
        screen.say()
        for note in table.notes:
            screen.paragraph(note)
    for run, reason in record.failures.items():
        screen.say(f"{run} failed: {reason}", style="red")
    if record.failures:
        screen.paragraph(
            f"Test was not read, because {counted(len(record.failures), 'run')} did not finish; the same command "
            f"continues. The tables show {metric_name(record.metric)} on dev."
        )
    screen.say()
    show_locations(screen, locations)
