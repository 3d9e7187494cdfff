"""A screen of 80 columns whose output tests can read."""

from __future__ import annotations

import io

from rich.console import Console

from joyful_ray.console.screen import Screen

WIDTH = 80


def narrow_screen() -> Screen:
    """A screen like a terminal of 80 columns, which keeps what it prints."""
    screen = Screen()
    screen.console = Console(width=WIDTH, file=io.StringIO(), highlight=False)
    return screen


def lines_of(screen: Screen) -> list[str]:
    """Everything that was printed, line by line."""
    assert isinstance(screen.console.file, io.StringIO)
    return screen.console.file.getvalue().splitlines()


def assert_fits(screen: Screen) -> list[str]:
    """All lines, after checking that none is wider than the screen."""
    lines = lines_of(screen)
    assert not [line for line in lines if len(line) > WIDTH]
    return lines
