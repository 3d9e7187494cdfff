"""What people see, with a terminal and without one; tables fit 80 columns."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from joyful_ray.console.progress import TrainingDisplay, clock
from joyful_ray.console.runs import show_run, show_scores
from joyful_ray.console.screen import Screen, json_line
from joyful_ray.console.seeds import show_seeds
from joyful_ray.records import EpochMetrics, RunRecord, Scores, SeedsRecord
from joyful_ray.records.seeds import SeedRun, spreads
from joyful_ray.wording import metric_name

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


def screen_on(file: io.StringIO, *, terminal: bool, width: int = 80) -> Screen:
    screen = Screen()
    screen.console = Console(file=file, force_terminal=terminal, width=width, highlight=False, color_system=None)
    return screen


def lines_of(file: io.StringIO) -> list[str]:
    return [line.rstrip() for line in file.getvalue().splitlines()]


def test_without_a_terminal_an_epoch_is_one_plain_line() -> None:
    file = io.StringIO()
    with TrainingDisplay(screen_on(file, terminal=False), epochs=2) as display:
        display.stage("training")
        display.epoch(epoch(0, is_best=True))
        display.epoch(epoch(1))
    stage, header, first, second = lines_of(file)
    assert stage == "training"
    assert header.split() == ["epoch", "loss", "dev", "loss", "dev", "weighted", "F1", "seconds", "utt./s", "left"]
    assert first.split() == ["1/2", "2.5000", "1.2500", "0.4321", "1.5", "1,234", "0:02", "best"]
    assert second.split() == ["2/2", "2.5000", "1.2500", "0.4321", "1.5", "1,234", "0:00"]
    assert "\x1b" not in file.getvalue()


def test_on_a_terminal_a_bar_shows_epochs_and_time_left() -> None:
    file = io.StringIO()
    with TrainingDisplay(screen_on(file, terminal=True), epochs=41) as display:
        display.stage("starting")
        display.epoch(epoch(0))
        display._bar.refresh()
    assert "1/41 epochs at most, 1:00 left" in file.getvalue()


def test_the_time_left_of_a_continued_run_counts_only_what_is_left() -> None:
    file = io.StringIO()
    with TrainingDisplay(screen_on(file, terminal=False), epochs=12) as display:
        display.epoch(epoch(9))
    assert lines_of(file)[-1].split()[-1] == "0:03"


def test_epochs_of_several_seeds_begin_with_the_seed_and_a_seed_that_ended_counts_as_done() -> None:
    file = io.StringIO()
    with TrainingDisplay(screen_on(file, terminal=False), epochs=200, seeds=[7, 1234]) as display:
        display.seed_ended(7)
        display.epoch_of_seed(1234, epoch(195, is_best=True))
    header, line = lines_of(file)
    assert header.split()[0] == "seed"
    assert line.split() == ["1234", "196/200", "2.5000", "1.2500", "0.4321", "1.5", "0:06", "best"]
    assert max(len(header), len(line)) <= 80


def test_lines_of_epochs_fit_80_columns() -> None:
    file = io.StringIO()
    with TrainingDisplay(screen_on(file, terminal=False), epochs=200) as display:
        display.epoch(epoch(198, is_best=True))
    assert max(map(len, lines_of(file))) <= 80


@pytest.mark.parametrize(("seconds", "expected"), [(0, "0:00"), (42.4, "0:42"), (62, "1:02"), (3753, "1:02:33")])
def test_a_duration_is_a_clock(seconds: float, expected: str) -> None:
    assert clock(seconds) == expected


def test_scores_show_every_label_and_the_confusion() -> None:
    file = io.StringIO()
    show_scores(screen_on(file, terminal=False), {"dev": DEV, "test": DEV})
    shown = file.getvalue()
    assert "weighted F1" in shown
    assert "true \\ predicted" in shown
    assert shown.count("[anger]") == 3


LABELS_10 = [
    "admiration",
    "amusement",
    "anger",
    "disappointment",
    "disgust",
    "excitement",
    "fear",
    "joy",
    "neutral",
    "sadness",
]


def scores_of(labels: list[str], *, count: int = 1234) -> Scores:
    cells = {"precision": 0.5, "recall": 1.0, "f1": 0.6667, "support": 12345.0}
    return Scores(
        task="single-label",
        utterances=10,
        loss=1.25,
        values={"accuracy": 0.5, "weighted_f1": 0.4321, "macro_f1": 0.25},
        labels=labels,
        per_label={label: cells for label in labels},
        confusion=[[count] * len(labels) for _ in labels],
    )


@pytest.mark.parametrize("terminal", [False, True])
def test_a_confusion_of_seven_labels_fits_with_its_names(terminal: bool) -> None:
    labels = ["neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger"]
    file = io.StringIO()
    show_scores(screen_on(file, terminal=terminal), {"test": scores_of(labels)})
    shown = lines_of(file)
    assert max(map(len, shown)) <= 80
    assert shown[-8].split() == ["true", "\\", "predicted", *labels]
    assert shown[-1].split() == ["anger", *["1234"] * 7]


@pytest.mark.parametrize("terminal", [False, True])
def test_the_columns_of_a_wide_confusion_are_numbered_like_its_rows(terminal: bool) -> None:
    file = io.StringIO()
    show_scores(screen_on(file, terminal=terminal), {"test": scores_of(LABELS_10)})
    shown = lines_of(file)
    assert max(map(len, shown)) <= 80
    assert shown[-11].split()[-10:] == [str(number) for number in range(1, 11)]
    assert shown[-7].split() == ["4", "disappointment", *["1234"] * 10]


def test_a_confusion_too_wide_for_the_screen_says_where_it_is() -> None:
    file = io.StringIO()
    show_scores(screen_on(file, terminal=True), {"test": scores_of([f"label-{place}" for place in range(28)])})
    assert lines_of(file)[-1] == "Confusion, test: too wide for this screen with 28 labels; --json prints it"


def test_the_labels_of_a_multi_label_task_fit_80_columns() -> None:
    names = ("precision", "recall", "f1", "weighted_f1", "accuracy", "support", "threshold")
    labels = ["happiness", "sadness", "anger", "surprise", "disgust", "fear"]
    scores = DEV.model_copy(
        update={"per_label": {label: dict.fromkeys(names, 0.5) for label in labels}, "confusion": None}
    )
    file = io.StringIO()
    show_scores(screen_on(file, terminal=True), {"dev": scores})
    assert max(map(len, lines_of(file))) <= 80
    for name in names:
        assert metric_name(name).split()[0] in file.getvalue()


RECORD = RunRecord(
    name="run",
    outcome="stopped-early",
    fingerprint="0" * 16,
    corpus={},
    config={"seed": 0},
    versions={},
    parameters=1,
    workers=1,
    epochs=15,
    selected_epoch=7,
    test_reads=1,
    dev=DEV,
    test=DEV,
    seconds={"setup": 1.0, "total": 2.0},
    peak_memory_bytes=0,
)


def test_a_run_counts_epochs_from_one_and_agrees_in_number() -> None:
    file = io.StringIO()
    show_run(screen_on(file, terminal=False), RECORD)
    assert "run: stopped early after 15 epochs with 1 worker" in lines_of(file)
    assert "epoch 8 of 15 was selected by dev; test was read once" in lines_of(file)


def test_a_single_epoch_without_ray_and_without_test_is_described_as_such() -> None:
    file = io.StringIO()
    record = RECORD.model_copy(
        update={"epochs": 1, "selected_epoch": 0, "workers": 0, "test": None, "test_reads": 0, "outcome": "finished"}
    )
    show_run(screen_on(file, terminal=False), record)
    assert "run: finished after 1 epoch without Ray" in lines_of(file)
    assert "epoch 1 of 1 was selected by dev; test was not read" in lines_of(file)


def seeds_record(scores: list[str]) -> SeedsRecord:
    values = dict.fromkeys(scores, 0.1234)
    seeds = [
        SeedRun(seed=s, run=f"run-seed-{s}", epochs=50, selected_epoch=11, dev=values, test=values) for s in (0, 1)
    ]
    return SeedsRecord(
        name="run",
        fingerprint="0" * 16,
        corpus={},
        selection=scores[0],
        seeds=seeds,
        failures={2: "the loss is not finite"},
        dev=spreads([values, values]),
        test=spreads([values, values]),
    )


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize(
    "scores",
    [
        ["accuracy", "weighted_f1", "macro_f1", "f1/joy"],
        ["weighted_f1", "accuracy", "macro_f1", "binary_weighted_f1_by_support", "f1/joy"],
        ["mae", "correlation", "accuracy_7", "accuracy_2", "accuracy_2_with_zero", "f1_2"],
    ],
)
def test_scores_of_several_seeds_fit_80_columns(scores: list[str], terminal: bool) -> None:
    file = io.StringIO()
    show_seeds(screen_on(file, terminal=terminal), seeds_record(scores), "runs/run-seeds.json")
    shown = lines_of(file)
    assert max(map(len, shown)) <= 80
    count = sum("/" not in name for name in scores)
    rows = [line.split() for line in shown if line.split()[:4] == ["0", "12", "of", "50"]]
    assert rows == [["0", "12", "of", "50", *["0.1234"] * count]] * 2
    assert "Mean ± standard deviation over 2 seeds" in shown
    assert sum(line.count("0.1234 ± 0.0000") for line in shown) == 2 * len(scores)
    assert "seed 2 failed: the loss is not finite" in shown


def test_a_table_wraps_between_words_and_breaks_none() -> None:
    file = io.StringIO()
    row = ["alpha beta gamma " * 4, "1234567890", "0.123 [0.100, 0.200]"]
    screen_on(file, terminal=True, width=50).table(["a name", "a long header", "score"], [row])
    shown = lines_of(file)
    assert max(map(len, shown)) <= 50
    assert "0.123 [0.100, 0.200]" in file.getvalue()
    assert {word for line in shown for word in line.split()} == set(
        " ".join([*row, "a name a long header score"]).split()
    )


def test_a_title_is_one_line_however_narrow_the_table() -> None:
    file = io.StringIO()
    screen_on(file, terminal=True).table(["a"], [["1"]], title="A title that is wider than its table")
    assert lines_of(file)[0] == "A title that is wider than its table"


def test_a_long_line_is_not_wrapped() -> None:
    file = io.StringIO()
    screen_on(file, terminal=False).say("a path " + "x" * 300)
    assert len(file.getvalue().splitlines()) == 1


def test_with_json_lines_go_to_stderr_and_the_object_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(as_json=True)
    screen.say("words")
    screen.result({"a": 1})
    captured = capsys.readouterr()
    assert captured.err == "words\n"
    assert json.loads(captured.out) == {"a": 1}


def test_a_number_that_is_not_finite_is_null_in_json() -> None:
    assert json.loads(json_line(DEV.model_copy(update={"loss": float("nan")})))["loss"] is None
