"""Shows the result of a search."""

from __future__ import annotations

from typing import TYPE_CHECKING

from joyful_ray.console.progress import clock
from joyful_ray.console.runs import show_scores
from joyful_ray.console.screen import Screen, show_locations
from joyful_ray.report.tables import candidate_settings, confirmed, word
from joyful_ray.wording import counted

if TYPE_CHECKING:
    from joyful_ray.records import SearchRecord


def show_search(screen: Screen, record: SearchRecord) -> None:
    """Print the confirmed configs, the test scores, what the search cost, and the chosen config."""
    screen.say()
    if record.candidates:
        for table in (confirmed(record.metric, record.candidates), candidate_settings(record.candidates)):
            screen.wide_table(table.header, table.rows, title=table.title, left=table.left)
            screen.say()
    if record.test is not None:
        show_scores(screen, {"test": record.test})
        screen.say()
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in record.trials.items())
    screen.say(f"search {record.name}", style="bold")
    trials = counted(sum(record.trials.values()), "trial")
    screen.say(
        f"  {trials} ({outcomes}): {counted(record.epochs, 'epoch')} in {clock(record.wall_seconds)}, "
        f"{record.slots} at a time"
    )
    if record.confirmation_runs:
        runs = counted(record.confirmation_runs, "confirmation run")
        screen.say(f"  {runs}: {counted(record.confirmation_epochs, 'epoch')}")
    reads = "once" if record.test_reads == 1 else counted(record.test_reads, "time")
    screen.say(f"  test was read {reads}" if record.test_reads else "  test was not read")
    screen.say(f"chosen by {record.chosen_by}: {record.chosen}", style="bold")
    screen.say(f"  {record.verdict}")
    for path, value in record.settings.items():
        screen.say(f"  {path}: {word(value)}")
    for warning in record.warnings:
        screen.say(f"warning: {warning}", style="yellow")
    show_locations(screen, record.locations)
