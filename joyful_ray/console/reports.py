"""Prints the tables of a report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from joyful_ray.console.screen import Screen

if TYPE_CHECKING:
    from joyful_ray.records import StudyRecord
    from joyful_ray.report.read_runs import Run, Search
    from joyful_ray.report.tables import TextTable

SETTINGS = 4
"""Number of settings that are shown beside the scores of a trial."""


def show_report(
    screen: Screen, runs: Sequence[Run], searches: Sequence[Search], studies: Sequence[StudyRecord] = ()
) -> None:
    """Print studies, then searches, then runs."""
    from joyful_ray.report import tables
    from joyful_ray.report.comparison import compare, score_table, settings_table
    from joyful_ray.report.studies import study_tables

    for study in studies:
        for table in study_tables(study):
            _show(screen, table)
    for search in searches:
        screen.say(f"search {search.name}", style="bold")
        screen.say(", ".join(f"{name} {value}" for name, value in tables.facts(search)))
        if search.record is not None:
            screen.say(f"chosen by {search.record.chosen_by}: {search.record.chosen}; {search.record.verdict}")
        candidates = search.record.candidates if search.record is not None else []
        for found in (
            tables.confirmed(search.goal.name, candidates),
            tables.candidate_settings(candidates),
            tables.best_trials(search, settings=SETTINGS),
            tables.importances(search),
            tables.failures(search),
        ):
            _show(screen, found)
    if runs:
        for comparison in compare(runs):
            _show(screen, score_table(comparison))
        _show(screen, settings_table(runs))


def _show(screen: Screen, table: TextTable) -> None:
    if table.rows:
        screen.say()
        fixed = 3 if table.header[1:2] == ["seed"] else 1
        screen.wide_table(table.header, table.rows, title=table.title, left=table.left, fixed=fixed)
        for note in table.notes:
            screen.paragraph(note)
