"""Prints lines and tables for people, and one JSON object for programs."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any, Literal

from pydantic import BaseModel
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

PLAIN_WIDTH, PLAIN_TABLE_WIDTH = 160, 80
"""Columns without a terminal: of a line, and of a table whose cells can be wrapped to that width."""
GAP = 2


class Screen:
    """Prints to stdout; with `--json`, prints to stderr and leaves stdout to the JSON object.

    Args:
        as_json: whether the user asked for JSON.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self.console = Console(stderr=as_json, highlight=False)
        if not self.console.is_terminal:
            self.console.width = PLAIN_WIDTH

    @property
    def table_width(self) -> int:
        """The columns that a table should fit."""
        width = self.console.width
        return width if self.console.is_terminal else min(width, PLAIN_TABLE_WIDTH)

    def say(self, text: str = "", *, style: str | None = None) -> None:
        """Print one line, without wrapping and without reading markup in it."""
        self.console.print(text, style=style, markup=False, soft_wrap=True)

    def paragraph(self, text: str) -> None:
        """Print a text that wraps between words at the width of tables."""
        self.say(textwrap.fill(text, self.table_width, break_long_words=False, break_on_hyphens=False))

    def fits(self, header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> bool:
        """Whether a table fits without breaking a word or a number."""
        smallest = [
            _smallest_width(column, is_text=place < left) for place, column in enumerate(_columns(header, rows))
        ]
        return sum(smallest) + GAP * (len(smallest) - 1) <= self.table_width

    def table(
        self,
        header: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        title: str | None = None,
        left: int = 1,
        styles: Sequence[str | None] = (),
    ) -> None:
        """Print a table; cells wrap between words if it is too wide.

        Args:
            header: one name per column.
            rows: cells of each row.
            title: a line above the table.
            left: number of text columns, which come first; the others hold numbers and are aligned right.
            styles: style of each row; rows without one are plain.
        """
        if title is not None:
            self.say(title, style="bold")
        table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
        columns = _columns(header, rows)
        for place, width in enumerate(_widths(columns, left=left, total=self.table_width)):
            justify: Literal["left", "right"] = "left" if place < left else "right"
            table.add_column(Text(columns[place][0]), width=width, justify=justify, overflow="fold")
        for place, row in enumerate(rows):
            table.add_row(*map(Text, row), style=styles[place] if place < len(styles) else None)
        self.console.print(table)

    def wide_table(
        self,
        header: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        title: str,
        left: int = 1,
        fixed: int = 1,
    ) -> None:
        """Print a table, in parts with some of the columns each if it is too wide.

        Args:
            header, rows, title, left: as in `table`.
            fixed: number of first columns that every part repeats.
        """
        start, fixed = min(fixed, len(header) - 1), min(fixed, len(header) - 1)
        while start < len(header):
            end = start + 1
            while end < len(header) and self.fits(*_part(header, rows, fixed, start, end + 1), left=left):
                end += 1
            is_first = start == fixed
            if not is_first:
                self.say()
            heading = title if is_first else f"{title}, continued"
            self.table(*_part(header, rows, fixed, start, end), title=heading, left=left if is_first else fixed)
            start = end

    def result(self, value: BaseModel | Mapping[str, Any]) -> None:
        """Print the JSON object if the user asked for it."""
        if self.as_json:
            print(json_line(value), flush=True)


def _columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """The cells of each column, the header first; cells that a row lacks are empty."""
    return list(map(list, zip_longest(header, *rows, fillvalue="")))


def _part(
    header: Sequence[str], rows: Sequence[Sequence[str]], fixed: int, start: int, end: int
) -> tuple[list[str], list[list[str]]]:
    """A table of the first columns and those from `start` to `end`."""
    return [*header[:fixed], *header[start:end]], [[*row[:fixed], *row[start:end]] for row in rows]


def _smallest_width(column: Sequence[str], *, is_text: bool) -> int:
    """The width at which no word breaks, and in a column of numbers no cell wraps."""
    header, *cells = column
    words = header.split() + [word for cell in cells for word in (cell.split() if is_text else cell.splitlines())]
    return max(map(cell_len, words), default=0)


def _widths(columns: Sequence[Sequence[str]], *, left: int, total: int) -> list[int]:
    """The width of each column: as wide as its widest cell, less where the table would be too wide."""
    widths = [max(cell_len(line) for cell in column for line in cell.splitlines() or [""]) for column in columns]
    smallest = [_smallest_width(column, is_text=place < left) for place, column in enumerate(columns)]
    while sum(widths) + GAP * (len(widths) - 1) > total:
        spare = [place for place in range(len(widths)) if widths[place] > smallest[place]]
        if not spare:
            break
        widths[max(spare, key=lambda place: widths[place])] -= 1
    return widths


def json_line(value: BaseModel | Mapping[str, Any]) -> str:
    """One line of JSON; numbers that are not finite become null, because JSON has none."""
    if isinstance(value, BaseModel):
        return value.model_dump_json()
    return json.dumps(value, allow_nan=False, ensure_ascii=False)


def show_locations(screen: Screen, locations: Mapping[str, str]) -> None:
    """Print where things are, one line each: a name and its path or URI."""
    width = max(map(len, locations), default=0)
    for name, place in locations.items():
        screen.say(f"{name:<{width}}  {place}")
