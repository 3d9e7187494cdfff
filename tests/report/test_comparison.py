"""A report compares what can be compared, and averages only that."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from joyful_ray.config import JobConfig, load_job
from joyful_ray.console.reports import show_report
from joyful_ray.console.screen import Screen
from joyful_ray.records import RunRecord, Scores
from joyful_ray.report.comparison import compare, score_table, settings_table, summarise
from joyful_ray.report.read_runs import Run, read_all
from joyful_ray.train.launch import train
from tests.tiny_corpus import small_job, write_tiny


def run(
    name: str, seed: int = 0, *, corpus: str = "a", score: float = 0.5, regression: bool = False, **more: str
) -> Run:
    job: JobConfig = load_job(
        None, [f"name={name}", f"seed={seed}", *(f"{k.replace('__', '.')}={v}" for k, v in more.items())]
    )
    values = {"mae": score, "correlation": score} if regression else {"accuracy": score, "weighted_f1": score}
    task = "regression" if regression else "single-label"
    scores = Scores(task=task, utterances=1, loss=0.0, values=values)
    record = RunRecord(
        name=name,
        outcome="finished",
        fingerprint=job.fingerprint,
        corpus={"name": corpus, "hash": corpus, "uri": corpus},
        config=job.model_dump(mode="json"),
        versions={},
        parameters=1,
        workers=0,
        epochs=15,
        selected_epoch=7,
        test_reads=0 if regression else 1,
        dev=scores,
        test=None if regression else scores,
        seconds={},
        peak_memory_bytes=0,
    )
    return Run(name, job, [], record)


def rows(runs: list[Run]) -> list[list[list[str]]]:
    return [score_table(comparison).rows for comparison in compare(runs)]


def test_seeds_of_the_same_settings_are_averaged() -> None:
    (table,) = rows([run("x", 0, score=0.4), run("y", 1, score=0.7)])
    expected = f"{np.mean([0.4, 0.7]):.4f} ± {np.std([0.4, 0.7], ddof=1):.4f}"
    assert table[-1] == ["mean of 2 seeds", "", "", *[expected] * 4]


def test_runs_on_different_corpora_are_never_averaged() -> None:
    tables = rows([run("x", 0, corpus="a"), run("y", 1, corpus="b")])
    assert [[row[0] for row in table] for table in tables] == [["x"], ["y"]]


def test_runs_with_other_settings_are_never_averaged() -> None:
    (table,) = rows([run("x", 0), run("y", 1, train__learning_rate="0.1")])
    assert [row[0] for row in table] == ["x", "y"]


def test_the_same_seed_twice_is_shown_and_not_averaged() -> None:
    (table,) = rows([run("x", 0), run("again", 0), run("y", 1)])
    assert [row[0] for row in table] == ["x", "again", "y"]
    (comparison,) = compare([run("x", 0), run("again", 0), run("y", 1)])
    assert score_table(comparison).notes == ("x, again, y: not averaged: seed 0 appears 2 times",)
    assert summarise([run("x", 0)]) == ({}, "")


def test_each_task_has_its_own_columns_and_a_missing_score_is_empty() -> None:
    first, second = (score_table(each) for each in compare([run("x"), run("r", regression=True)]))
    assert first.header[3:] == ["dev accuracy", "dev weighted F1", "test accuracy", "test weighted F1"]
    assert second.header[3:] == ["dev mae", "dev correlation"]
    without_test = run("y", 1)
    assert without_test.record is not None
    bare = Run("y", without_test.job, [], without_test.record.model_copy(update={"test": None}))
    (table,) = rows([run("x"), bare])
    assert table[1][-2:] == ["", ""]
    assert table[2][-2:] == ["", ""], "a score that one seed lacks has no mean"


def test_epochs_are_counted_from_1() -> None:
    (table,) = rows([run("x")])
    assert table[0][2] == "8 of 15"


def test_only_settings_that_differ_are_listed() -> None:
    table = settings_table([run("x"), run("y", 1, train__learning_rate="0.1", cluster__workers="0")])
    assert table.header == ["setting", "x", "y"]
    assert table.rows == [["train.learning_rate", "0.002", "0.1"]]
    assert settings_table([run("x"), run("y", 1)]).rows == []


def test_a_folder_means_every_run_below_it(tmp_path: Path) -> None:
    corpus = write_tiny(tmp_path / "tiny")
    for place in ("one", "deep/er"):
        train(small_job(corpus=corpus, storage=str(tmp_path / "runs" / place), name="a", train={"epochs": 1}))
    runs, searches = read_all([str(tmp_path / "runs"), str(tmp_path / "runs/one/a")])
    assert len(runs) == 2, "a run that is named twice counts once"
    assert searches == []
    unfinished = Run("u", runs[0].job, runs[0].epochs, None)
    last = score_table(compare([unfinished, runs[0]])[-1])
    assert (last.title, last.rows[0][2]) == ("Not finished", "1 epoch so far")


@pytest.mark.parametrize("count", [1, 3])
def test_the_terminal_shows_80_columns_and_breaks_no_number(count: int) -> None:
    screen = Screen()
    screen.console = Console(width=80, record=True, force_terminal=True, highlight=False)
    names = [f"a-run-with-a-long-name-{place}" for place in range(count)]
    show_report(screen, [run(name, seed, score=0.512) for seed, name in enumerate(names)], [])
    lines = screen.console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.count("0.5120") for line in lines) >= 4 * count
