"""Prints the tables of a report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from joyful_ray.console.screen import Screen

if TYPE_CHECKING:
    from joyful_ray.report.read_runs import Run, Search
    from joyful_ray.report.tables import TextTable

SETTINGS = 4
"""Number of settings that are shown beside the scores of a trial."""


def show_report(screen: Screen, runs: Sequence[Run], searches: Sequence[Search]) -> None:
    """Print searches, then runs."""
    from joyful_ray.report import tables
    from joyful_ray.report.comparison import compare, score_table, settings_table

    for search in searches:
        screen.say(f"search {search.name}", style="bold")
        screen.say(", ".join(f"{name} {value}" for name, value in tables.facts(search)))
        if search.record is not None:
            screen.say(f"chosen by {search.record.chosen_by}: {search.record.chosen}; {search.record.verdict}")
        candidates = search.record.candidates if search.record is not None else []
        for found in (
            tables.confirmed(search, candidates),
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
    """Print a table, in parts that fit the screen if it is too wide; each part repeats the first columns."""
    if not table.rows:
        return
    fixed = min(3 if table.header[1:2] == ["seed"] else 1, len(table.header) - 1)
    start, title = fixed, table.title
    while start < len(table.header):
        end = start + 1
        while end < len(table.header) and screen.fits(*_columns(table, fixed, start, end + 1), left=table.left):
            end += 1
        screen.say()
        left = table.left if start == fixed else fixed
        screen.table(*_columns(table, fixed, start, end), title=title, left=left)
        start, title = end, f"{table.title}, continued"


def _columns(table: TextTable, fixed: int, start: int, end: int) -> tuple[list[str], list[list[str]]]:
    header = [*table.header[:fixed], *table.header[start:end]]
    return header, [[*row[:fixed], *row[start:end]] for row in table.rows]
