"""Predictions as they go on, and what they came to."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from joyful_ray.console.screen import Screen

if TYPE_CHECKING:
    from joyful_ray.predict.jsonl import JsonlPredictions
    from joyful_ray.records import PredictionCard

TEXT_WIDTH = 30
"""Characters of an utterance's text that are shown."""
LINES = 20
"""Lines at most where there is no terminal."""


class ShardDisplay:
    """Finished shards: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=screen.console,
            transient=True,
            disable=not screen.console.is_terminal,
        )
        self._task = self._bar.add_task("shards", total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def shard(self, done: int, total: int) -> None:
        """One more shard is written."""
        self._bar.update(self._task, completed=done, total=total)
        if not self._screen.console.is_terminal and (done == total or done % max(total // LINES, 1) == 0):
            self._screen.say(f"{done} of {total} shards")


def show_prediction(screen: Screen, card: PredictionCard, out: str) -> None:
    """What was written, and how to read it."""
    rows = [
        [split, f"{counts['conversations']:,}", f"{counts['utterances']:,}"] for split, counts in card.splits.items()
    ]
    screen.table(["split", "conversations", "utterances"], rows)
    kept = f", {card.kept_shards} of them by an earlier command" if card.kept_shards else ""
    screen.say(f"{card.shards} shards{kept}; {card.utterances_per_second:,.0f} utterances/s")
    screen.say(f"columns: {', '.join(card.columns)}")
    screen.say(f"read them: pandas.read_parquet(\"{out}\"), or in DuckDB: FROM read_parquet('{out}/*/*.parquet')")


def show_jsonl_predictions(screen: Screen, found: JsonlPredictions) -> None:
    """Print the predictions, or where they were written."""
    if found.table is None:
        screen.say(f"{found.utterances:,} predictions for {found.conversations:,} conversations: {found.out}")
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
                text if len(text) <= TEXT_WIDTH else text[: TEXT_WIDTH - 1] + "…",
                shown,
                "" if probability is None else f"{probability:.2f}",
            ]
        )
    screen.table(["utterance", "speaker", "text", "prediction", "probability"], rows, left=4)
