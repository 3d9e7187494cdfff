"""Where a command's words go: lines, tables, and one JSON object for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

PLAIN_WIDTH = 160


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


def metric_name(name: str) -> str:
    """`weighted_f1` as a person writes it."""
    return name.replace("_", " ").replace("f1", "F1")


def show_locations(screen: Screen, locations: Mapping[str, str]) -> None:
    """Names and the places where their owners lie, one a line."""
    width = max(map(len, locations), default=0)
    for name, place in locations.items():
        screen.say(f"{name:<{width}}  {place}")
