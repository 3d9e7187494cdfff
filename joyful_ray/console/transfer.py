"""Prints transfer tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from joyful_ray.console.assessments import bounded
from joyful_ray.console.screen import Screen

if TYPE_CHECKING:
    from joyful_ray.records import TransferCell, TransferRecord

CORNER = "trained on \\ tested on"
COLUMN_GAP = 2
MAX_NAME_CHARACTERS = 30
"""Longer names of merged corpora take one line per corpus."""


def show_transfer(screen: Screen, record: TransferRecord) -> None:
    """Print scores by training and test corpus, then without repeated lines, then over all labels."""
    rows: dict[str, dict[str, TransferCell]] = {}
    for cell in record.cells:
        rows.setdefault(_row_name(cell.trained_on), {})[cell.tested_on] = cell
    _show_table(screen, rows, _score, title=f"Weighted F1 over {', '.join(record.labels)}")
    if any(cell.repeating is not None for cell in record.cells):
        _show_table(screen, rows, _unseen_score, title="Weighted F1 without repeated lines")
        screen.say("In brackets: test conversations that are left out because they repeat a line of")
        screen.say("five words or more from the training corpus.")
        screen.say()
    _show_table(screen, rows, _raw_score, title="Weighted F1 over all labels of the test corpus")
    screen.say("A label without a counterpart in the training corpus is always missed.")
    screen.say("Intervals: 95 %, by resampling whole test conversations.")
    screen.say("Each row is one training run.")


def _show_table(
    screen: Screen,
    rows: Mapping[str, Mapping[str, TransferCell]],
    text_of: Callable[[TransferCell], str],
    *,
    title: str,
) -> None:
    texts = {name: {column: text_of(cell) for column, cell in row.items()} for name, row in rows.items()}
    for place, columns in enumerate(_column_groups(texts, screen.table_width)):
        cells = [[name, *(row[column] for column in columns)] for name, row in texts.items()]
        screen.table([CORNER, *columns], cells, title=title if place == 0 else f"{title}, continued")
        screen.say()


def _column_groups(texts: Mapping[str, Mapping[str, str]], width: int) -> Iterator[list[str]]:
    """Divide the columns into tables that fit the width of the screen."""
    first_width = _width([CORNER, *texts])
    group: list[str] = []
    used = first_width
    for column in next(iter(texts.values())):
        needed = COLUMN_GAP + _width([column, *(row[column] for row in texts.values())])
        if group and used + needed > width:
            yield group
            group, used = [], first_width
        group.append(column)
        used += needed
    yield group


def _width(texts: Sequence[str]) -> int:
    return max(len(line) for text in texts for line in text.splitlines())


def _row_name(trained_on: Sequence[str]) -> str:
    name = " + ".join(trained_on)
    return name if len(name) <= MAX_NAME_CHARACTERS else "\n+ ".join(trained_on)


def _score(cell: TransferCell) -> str:
    return bounded(cell.score, cell.interval)


def _unseen_score(cell: TransferCell) -> str:
    if cell.repeating is None:
        return "no texts"
    score = bounded(cell.score_unseen, cell.interval_unseen) if cell.score_unseen is not None else "none left"
    return f"{score}\n({cell.repeating} of {cell.conversations})"


def _raw_score(cell: TransferCell) -> str:
    return f"{cell.raw:.3f}"
