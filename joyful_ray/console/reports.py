"""A report's tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from joyful_ray.console.screen import Screen

if TYPE_CHECKING:
    from joyful_ray.report.read_runs import Run, Search
    from joyful_ray.report.tables import TextTable

SETTINGS = 4
"""Settings of a trial that fit beside its scores."""


def show_report(screen: Screen, runs: Sequence[Run], searches: Sequence[Search]) -> None:
    """Searches, then runs."""
    from joyful_ray.report import tables

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
        _show(screen, tables.run_scores(runs))


def _show(screen: Screen, table: TextTable) -> None:
    if table.rows:
        screen.say()
        screen.table(table.header, table.rows, title=table.title, left=table.left)
