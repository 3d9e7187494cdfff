"""Shows a study: one table and one sentence per variant for each corpus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from joyful_ray.console.screen import Screen, show_locations
from joyful_ray.wording import counted, metric_name

if TYPE_CHECKING:
    from joyful_ray.records import StudyRecord


def show_study(screen: Screen, record: StudyRecord, locations: dict[str, str]) -> None:
    """Print the tables of a study."""
    from joyful_ray.report.studies import study_tables

    if record.question:
        screen.say()
        screen.paragraph(record.question)
    for table in study_tables(record):
        screen.say()
        screen.wide_table(table.header, table.rows, title=table.title, left=table.left, fixed=table.left)
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
