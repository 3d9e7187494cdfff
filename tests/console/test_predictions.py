"""What `joyful predict` prints."""

from __future__ import annotations

import pyarrow as pa

from joyful_ray.console.predictions import show_jsonl_predictions, show_prediction
from joyful_ray.predict.jsonl import JsonlPredictions
from joyful_ray.records import PredictionCard
from tests.narrow_screen import assert_fits, lines_of, narrow_screen


def test_the_result_says_what_was_written_and_how_to_read_it() -> None:
    screen = narrow_screen()
    card = PredictionCard(
        bundle={"uri": "b", "hash": "h", "fingerprint": "f"},
        corpus={"uri": "c", "name": "n", "hash": "h"},
        splits={"test": {"conversations": 1, "utterances": 12_345}},
        columns={"conversation_id": "string", "prediction": "string"},
        has_embedding=False,
        temperature=1.0,
        shards=1,
        kept_shards=0,
        workers=0,
        seconds=1.0,
        utterances_per_second=12_345.0,
        versions={},
    )
    show_prediction(screen, card, "predictions")
    lines = assert_fits(screen)
    assert "1 shard predicted; 12,345 utterances per second" in lines
    assert 'to read them in pandas: pandas.read_parquet("predictions")' in lines


def test_new_conversations_fit_80_columns_one_line_per_utterance() -> None:
    table = pa.table(
        {
            "utterance_id": ["conversation-12_0", "conversation-12_1"],
            "speaker": ["Ann", "Bartholomew"],
            "text": ["What a wonderful and very long day this was!", "No."],
            "prediction": ["joy", "anger"],
            "probability_joy": [0.9, 0.2],
            "probability_anger": [0.1, 0.8],
        }
    )
    screen = narrow_screen()
    show_jsonl_predictions(screen, JsonlPredictions(1, 2, table, None))
    lines = assert_fits(screen)
    assert len(lines) == 3
    assert lines[1].split()[-2:] == ["joy", "0.90"]
    screen = narrow_screen()
    show_jsonl_predictions(screen, JsonlPredictions(1, 1, None, "out.csv"))
    assert lines_of(screen) == ["wrote 1 prediction for 1 conversation to out.csv"]


def test_long_lists_wrap_between_words() -> None:
    screen = narrow_screen()
    screen.paragraph("columns: " + ", ".join(f"probability_label_{number}" for number in range(12)))
    lines = assert_fits(screen)
    assert len(lines) > 1
    assert " ".join(lines).count("probability_label_") == 12
