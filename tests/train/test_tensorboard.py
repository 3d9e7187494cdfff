from __future__ import annotations

from pathlib import Path

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from joyful_ray.records import EpochMetrics, Scores
from joyful_ray.storage import open_location
from joyful_ray.train.tensorboard import CELL, MARGIN, TensorBoardWriter, confusion_image

SCORES = Scores(
    task="single-label",
    utterances=4,
    loss=0.5,
    values={"weighted_f1": 0.75},
    labels=["joy", "anger"],
    per_label={"joy": {"f1": 0.5}, "anger": {"f1": 1.0}},
    confusion=[[1, 1], [0, 2]],
)


def epoch(number: int, rate: float) -> EpochMetrics:
    return EpochMetrics(
        epoch=number,
        losses={"total": 1.0, "contrast": 0.5},
        conversations=5,
        dev=SCORES,
        seconds=1.0,
        train_seconds=0.5,
        waiting_share=0.1,
        utterances_per_second=9.0,
        learning_rate=rate,
        gradient_norm=1.0,
        is_best=True,
        diagnostics={"alignment": 0.25},
    )


def read(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def test_every_number_of_an_epoch_is_written_with_epochs_counted_from_1(tmp_path: Path) -> None:
    with TensorBoardWriter(open_location(str(tmp_path)), first_epoch=0) as writer:
        writer.epoch(epoch(0, 0.25))
        writer.epoch(epoch(1, 0.5))
    events = read(tmp_path)
    names = {"loss/total", "loss/contrast", "dev/weighted_f1", "dev/loss", "dev_f1/joy", "diagnostics/alignment"}
    assert names <= set(events.Tags()["scalars"])
    assert [(event.step, event.value) for event in events.Scalars("optimizer/learning_rate")] == [(1, 0.25), (2, 0.5)]
    assert [event.step for event in events.Images("dev/confusion")] == [1, 2]


def test_a_resumed_run_replaces_the_epochs_that_run_again(tmp_path: Path) -> None:
    with TensorBoardWriter(open_location(str(tmp_path)), first_epoch=0) as writer:
        for number in range(3):
            writer.epoch(epoch(number, 0.25))
    with TensorBoardWriter(open_location(str(tmp_path)), first_epoch=1) as writer:
        writer.epoch(epoch(1, 0.5))
    rates = [(event.step, event.value) for event in read(tmp_path).Scalars("optimizer/learning_rate")]
    assert rates == [(1, 0.25), (2, 0.5)]


def test_a_larger_share_of_its_row_is_a_darker_cell() -> None:
    image = confusion_image(SCORES)
    assert image.shape == (MARGIN + 2 * CELL, MARGIN + 2 * CELL, 3)
    corners = [[image[MARGIN + row * CELL + 2, MARGIN + column * CELL + 2] for column in (0, 1)] for row in (0, 1)]
    darkness = -np.array(corners, dtype=int).sum(axis=2)
    assert darkness[1][1] > darkness[0][0] == darkness[0][1] > darkness[1][0]
