"""Prints what a retrieval found, and how well one modality finds another."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from joyful_ray.console.predictions import shortened
from joyful_ray.console.screen import Screen

if TYPE_CHECKING:
    import pyarrow

    from joyful_ray.records import RetrievalScores

MEASURES = {
    "recall@1": "recall@1",
    "recall@5": "recall@5",
    "recall@10": "recall@10",
    "mean_reciprocal_rank": "mean reciprocal rank",
}


def show_matches(screen: Screen, matches: pyarrow.Table) -> None:
    """Print one table per query."""
    for query, rows in itertools.groupby(matches.to_pylist(), key=lambda row: row["query"]):
        cells = [
            [
                row["utterance_id"],
                row["speaker"],
                shortened(row["text"] or ""),
                row["label"] or row["prediction"],
                f"{row['similarity']:.3f}",
            ]
            for row in rows
        ]
        screen.table(
            ["utterance", "speaker", "text", "label", "similarity"], cells, title=f"nearest to {query}", left=4
        )
        screen.say()
    if matches["label"].null_count:
        screen.say("an utterance without a label shows the predicted one")


def show_retrieval_scores(screen: Screen, scores: RetrievalScores) -> None:
    """Print recall and mean reciprocal rank beside those of a random order."""
    rows = []
    for name, title in MEASURES.items():
        interval = scores.intervals.get(name)
        bounds = "" if interval is None else f"{interval.low:.4f} to {interval.high:.4f}"
        value, chance = scores.values[name], scores.chance[name]
        rows.append([title, f"{value:.4f}", bounds, f"{chance:.4f}", f"{value / chance:.1f}"])
    screen.table(
        ["", "found", "95 % interval", "by chance", "times chance"],
        rows,
        title=f"{scores.source} finds {scores.target} among {scores.utterances:,} utterances",
    )
