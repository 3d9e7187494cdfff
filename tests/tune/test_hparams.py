from __future__ import annotations

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from joyful_ray.storage import open_location
from joyful_ray.tune.goals import Goal
from joyful_ray.tune.hparams import write_hparams


def test_a_trials_settings_are_in_tensorboards_hparams_tab(tmp_path: Path) -> None:
    settings = {
        "train.learning_rate": 0.5,
        "data.modalities": ["text", "audio"],
        "seed": 3,
        "objective.smoothing": True,
    }
    write_hparams(open_location(tmp_path), settings, Goal("weighted_f1", 1))
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"train.learning_rate" in content
    assert b"['text', 'audio']" in content
    experiment = events.summary_metadata["_hparams_/experiment"].plugin_data.content
    assert b"dev/weighted_f1" in experiment, "the tab takes its metric from the run's own curve of this name"
