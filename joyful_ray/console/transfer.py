"""Transfer tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from joyful_ray.console.assessments import bounded
from joyful_ray.console.screen import Screen

if TYPE_CHECKING:
    from joyful_ray.records import TransferCell, TransferRecord


def show_transfer(screen: Screen, record: TransferRecord) -> None:
    """`trained on` x `tested on`, then the same without conversations that repeat a line of training."""
    columns = list(dict.fromkeys(cell.tested_on for cell in record.cells))
    rows: dict[str, dict[str, TransferCell]] = {}
    for cell in record.cells:
        rows.setdefault(" + ".join(cell.trained_on), {})[cell.tested_on] = cell
    header = ["trained on \\ tested on", *columns]
    screen.table(
        header,
        [
            [name, *(bounded(row[column].score, row[column].interval) for column in columns)]
            for name, row in rows.items()
        ],
        title=f"Weighted F1 over {', '.join(record.labels)}",
    )
    if any(cell.repeating is not None for cell in record.cells):
        screen.say()
        screen.table(
            header,
            [[name, *(_unseen(row[column]) for column in columns)] for name, row in rows.items()],
            title="Without repeated lines",
        )
        screen.say("in brackets: conversations that repeat a line of five words or more of training, left out here")
    screen.say()
    screen.table(
        header,
        [[name, *(f"{row[column].raw:.3f}" for column in columns)] for name, row in rows.items()],
        title="Raw",
    )
    screen.say("raw: over all labels of the corpus; those without a counterpart are always missed")
    screen.say("intervals: 95 %, by resampling whole conversations of the test split; one training run a row")


def _score(cell: TransferCell) -> str:
    return bounded(cell.score, cell.interval)


def _unseen(cell: TransferCell) -> str:
    if cell.repeating is None:
        return "no texts"
    score = bounded(cell.score_unseen, cell.interval_unseen) if cell.score_unseen is not None else "none left"
    return f"{score} ({cell.repeating} of {cell.conversations})"
