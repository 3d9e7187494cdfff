"""Prints the progress of predictions and their results."""

from __future__ import annotations

from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from joyful_ray.console.cost_estimate import duration
from joyful_ray.console.screen import Screen
from joyful_ray.wording import counted

if TYPE_CHECKING:
    from joyful_ray.predict.jsonl import JsonlPredictions
    from joyful_ray.records import PredictionCard

MAX_TEXT_CHARACTERS = 22
"""Longer texts of utterances are shortened, so that the table fits 80 columns."""
MAX_PROGRESS_LINES = 20
"""Printed at most, if there is no terminal for a progress bar."""


class ShardDisplay:
    """Shows how many shards are predicted and how much time is left: a bar on a terminal, otherwise a few lines."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("time left"),
            TimeRemainingColumn(),
            console=screen.console,
            transient=True,
            disable=not screen.console.is_terminal,
        )
        self._task = self._bar.add_task("predicted shards", total=None)
        self._start = perf_counter()
        self._kept: int | None = None

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def shard(self, done: int, total: int) -> None:
        """Show that one more shard is written.

        Args:
            done: shards that are written, including those of an earlier command.
            total: shards of the whole prediction.
        """
        if self._kept is None:
            self._kept = done - 1
        self._bar.update(self._task, completed=done, total=total)
        if not self._screen.console.is_terminal and (done == total or done % max(total // MAX_PROGRESS_LINES, 1) == 0):
            seconds_per_shard = (perf_counter() - self._start) / (done - self._kept)
            left = f", about {duration(seconds_per_shard * (total - done))} left" if done < total else ""
            self._screen.say(f"predicted {done:,} of {counted(total, 'shard')}{left}")


def show_prediction(screen: Screen, card: PredictionCard, out: str) -> None:
    """Print what was written, and how to read it."""
    rows = [
        [split, f"{counts['conversations']:,}", f"{counts['utterances']:,}"] for split, counts in card.splits.items()
    ]
    screen.table(["split", "conversations", "utterances"], rows)
    kept = f", {card.kept_shards:,} of them by an earlier command" if card.kept_shards else ""
    shards = counted(card.shards, "shard")
    screen.say(f"{shards} predicted{kept}; {card.utterances_per_second:,.0f} utterances per second")
    screen.say(f"columns: {', '.join(card.columns)}")
    screen.say(f'to read them in pandas: pandas.read_parquet("{out}")')
    screen.say(f"to read them in DuckDB: FROM read_parquet('{out}/*/*.parquet')")


def show_jsonl_predictions(screen: Screen, found: JsonlPredictions) -> None:
    """Print the predictions, or where they were written."""
    if found.table is None:
        conversations = counted(found.conversations, "conversation")
        screen.say(f"wrote {counted(found.utterances, 'prediction')} for {conversations} to {found.out}")
        return
    rows = []
    for row in found.table.to_pylist():
        text, prediction = row["text"] or "", row["prediction"]
        shown = ", ".join(prediction) if isinstance(prediction, list) else prediction
        shown = f"{shown:.4f}" if isinstance(shown, float) else str(shown)
        probability = row.get(f"probability_{prediction}") if isinstance(prediction, str) else None
        rows.append(
            [
                row["utterance_id"],
                row["speaker"],
                text if len(text) <= MAX_TEXT_CHARACTERS else text[: MAX_TEXT_CHARACTERS - 1] + "…",
                shown,
                "" if probability is None else f"{probability:.2f}",
            ]
        )
    screen.table(["utterance", "speaker", "text", "prediction", "probability"], rows, left=4)
