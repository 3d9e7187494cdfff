"""Prints the results of predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from joyful_ray.console.screen import Screen
from joyful_ray.wording import counted

if TYPE_CHECKING:
    from joyful_ray.predict.jsonl import JsonlPredictions
    from joyful_ray.records import PredictionCard

MAX_TEXT_CHARACTERS = 22
"""Longer texts of utterances are shortened, so that the table fits 80 columns."""


def show_prediction(screen: Screen, card: PredictionCard, out: str) -> None:
    """Print what was written, and how to read it."""
    rows = [
        [split, f"{counts['conversations']:,}", f"{counts['utterances']:,}"] for split, counts in card.splits.items()
    ]
    screen.table(["split", "conversations", "utterances"], rows)
    kept = f", {card.kept_shards:,} of them by an earlier command" if card.kept_shards else ""
    shards = counted(card.shards, "shard")
    screen.say(f"{shards} predicted{kept}; {card.utterances_per_second:,.0f} utterances per second")
    if card.depends_on_batch:
        screen.paragraph(
            "note: this model attends to padding (model.context.padding_mask: false), so a score depends on which "
            "conversations are scored together: those of a shard here, those of a split in joyful evaluate"
        )
    screen.paragraph(f"columns: {', '.join(card.columns)}")
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
                shortened(text),
                shown,
                "" if probability is None else f"{probability:.2f}",
            ]
        )
    screen.table(["utterance", "speaker", "text", "prediction", "probability"], rows, left=4)


def shortened(text: str) -> str:
    """A text that fits its column."""
    return text if len(text) <= MAX_TEXT_CHARACTERS else text[: MAX_TEXT_CHARACTERS - 1] + "…"
