"""What a person sees, with a terminal and without one."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from joyful_ray.console.progress import TrainingDisplay
from joyful_ray.console.runs import show_scores
from joyful_ray.console.screen import Screen, json_line
from joyful_ray.records import EpochMetrics, Scores

DEV = Scores(
    task="single-label",
    utterances=10,
    loss=1.25,
    values={"accuracy": 0.5, "weighted_f1": 0.4321, "macro_f1": 0.25},
    labels=["joy", "[anger]"],
    per_label={
        "joy": {"precision": 0.5, "recall": 1.0, "f1": 0.6667, "support": 5.0},
        "[anger]": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 5.0},
    },
    confusion=[[5, 0], [5, 0]],
)


def epoch(number: int, *, is_best: bool = False) -> EpochMetrics:
    return EpochMetrics(
        epoch=number,
        losses={"total": 2.5, "classification": 2.0},
        dev=DEV,
        seconds=1.5,
        train_seconds=1.0,
        waiting_share=0.0,
        utterances_per_second=1234.5,
        learning_rate=1e-3,
        gradient_norm=1.0,
        is_best=is_best,
        conversations=4,
    )


def screen_on(file: io.StringIO, *, terminal: bool) -> Screen:
    screen = Screen()
    screen.console = Console(file=file, force_terminal=terminal, width=100, highlight=False)
    return screen


def test_without_a_terminal_an_epoch_is_one_plain_line() -> None:
    file = io.StringIO()
    with TrainingDisplay(screen_on(file, terminal=False), epochs=2) as display:
        display.stage("training")
        display.epoch(epoch(0, is_best=True))
        display.epoch(epoch(1))
    stage, header, first, second = file.getvalue().splitlines()
    assert stage == "training"
    assert "dev weighted F1" in header
    assert first.split() == ["0", "2.5000", "1.2500", "0.4321", "1.5", "1,234", "best"]
    assert second.split()[0] == "1"
    assert "\x1b" not in file.getvalue()


def test_on_a_terminal_there_is_a_bar() -> None:
    file = io.StringIO()
    with TrainingDisplay(screen_on(file, terminal=True), epochs=2) as display:
        display.stage("starting")
        display.epoch(epoch(0))
    assert "1/2" in file.getvalue()


def test_scores_show_every_label_and_the_confusion() -> None:
    file = io.StringIO()
    show_scores(screen_on(file, terminal=False), {"dev": DEV, "test": DEV})
    shown = file.getvalue()
    assert "weighted F1" in shown
    assert "true \\ predicted" in shown
    assert shown.count("[anger]") == 3


def test_lines_are_never_broken() -> None:
    file = io.StringIO()
    screen_on(file, terminal=False).say("a path " + "x" * 300)
    assert len(file.getvalue().splitlines()) == 1


def test_words_leave_stdout_to_the_object(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(as_json=True)
    screen.say("words")
    screen.result({"a": 1})
    captured = capsys.readouterr()
    assert captured.err == "words\n"
    assert json.loads(captured.out) == {"a": 1}


def test_a_number_that_is_not_finite_is_null_in_json() -> None:
    assert json.loads(json_line(DEV.model_copy(update={"loss": float("nan")})))["loss"] is None
