"""Whole searches on real Ray, dashboard on. Each costs tens of seconds, so each answers several questions."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from joyful_ray.errors import CheckpointError, TrainingError
from joyful_ray.records import RunRecord
from joyful_ray.train.bundle import read_bundle
from joyful_ray.tune.goals import Goal
from joyful_ray.tune.search import search
from joyful_ray.tune.search_directory import SearchDirectory
from joyful_ray.tune.search_state import SearchState
from tests.tiny_corpus import write_tiny
from tests.train.test_ngrams import write_spoken
from tests.tune.searches import SPACE, search_job, study_of

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("local_ray")]
GOAL = Goal("weighted_f1", 1)
DIVERGES = 1e30
GRID = {"train.learning_rate": {"choice": [0.01, DIVERGES]}, "graph.window_past": {"choice": [1, 3]}}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_tiny(tmp_path_factory.mktemp("corpora") / "tiny")


def trial_processes() -> list[psutil.Process]:
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "ImplicitFunc" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def test_failures_are_recorded_the_winner_is_confirmed_and_trials_can_be_added(corpus: str, tmp_path: Path) -> None:
    job = search_job(
        corpus,
        tmp_path,
        space=GRID,
        algorithm="grid",
        scheduler="none",
        confirm={"top": 1, "seeds": 2, "bootstrap_samples": 200},
    )
    killed: list[int] = []

    def kill_one(state: SearchState) -> None:
        if not killed and any(len(trial.epochs) == 2 for trial in state.own):
            victim = trial_processes()[0]
            killed.append(victim.pid)
            os.kill(victim.pid, signal.SIGKILL)

    record = search(job, name="grid", watch=kill_one)

    state = study_of(job, "grid")
    by_rate = {
        rate: [trial for trial in state.own if trial.settings["train.learning_rate"] == rate]
        for rate in (0.01, DIVERGES)
    }
    assert [trial.outcome for trial in by_rate[DIVERGES]] == ["failed", "failed"]
    assert all("not finite" in trial.reason for trial in by_rate[DIVERGES])
    assert [trial.outcome for trial in by_rate[0.01]] == ["finished", "finished"]
    assert all([line.epoch for line in trial.epochs] == [0, 1, 2, 3] for trial in by_rate[0.01])
    assert killed
    assert sum(len(trial.restarts) for trial in state.trials.values()) == 1, "the lost process is in the ledger"

    home = SearchDirectory.of(job, "grid").location
    for trial in state.own:
        place = home.join("trials", trial.name)
        assert not place.join("checkpoints").exists()
        if trial.outcome == "finished":
            run = RunRecord.model_validate_json(place.join("record.json").read_text())
            assert run.test is None
            assert run.test_reads == 0, "a trial never reads test"
    assert [row.config for row in record.candidates][-1] == "default"
    assert all(row.seeds == [1000, 1001] for row in record.candidates)
    assert record.test is not None
    assert record.test_reads == 1
    assert not home.join(".ray").exists()
    assert home.join("best.yaml").exists()

    with pytest.raises(CheckpointError, match="is finished with 4 trials; add to it with --add-trials"):
        search(job, name="grid")
    other = search_job(corpus, tmp_path, algorithm="optuna", scheduler="asha", max_trials=4, confirm=job.search.confirm)
    with pytest.raises(CheckpointError, match=r"another search.space"):
        search(other, name="grid")

    search(other, name="grid", add_trials=1)
    after = study_of(other, "grid")
    assert len(after.own) == 5
    assert all(set(trial.settings) == set(SPACE) for trial in after.own[4:])
    assert [trial.starts for trial in after.own[:4]] == [trial.starts for trial in state.own]
    assert all(trial.outcome for trial in after.own)
    again = SearchDirectory.of(job, "grid").read_record()
    assert again is not None
    assert again.test_reads == (1 if again.chosen == record.chosen else 2)


def test_bad_trials_stop_early_and_free_their_resources(corpus: str, tmp_path: Path) -> None:
    rates = {"train.learning_rate": {"choice": [0.02, 1e-7]}, "graph.window_past": {"choice": [1, 2, 3]}}
    job = search_job(corpus, tmp_path, space=rates, epochs=9, algorithm="grid", scheduler="asha", max_concurrent=2)

    most = 0

    def watch(state: SearchState) -> None:
        nonlocal most
        most = max(most, sum(1 for trial in state.own if trial.starts and trial.outcome is None))

    record = search(job, name="asha", watch=watch)

    state = study_of(job, "asha")
    assert len(state.own) == 6
    stopped = [trial for trial in state.own if trial.outcome == "stopped"]
    assert stopped
    assert all(len(trial.epochs) in (1, 3) for trial in stopped), "asha's rungs are 1, 3 and 9 epochs"
    assert {trial.settings["train.learning_rate"] for trial in stopped} >= {1e-7}
    assert record.epochs < 6 * 9
    assert most <= 2
    best = state.best(GOAL)
    assert best is not None
    assert best.settings["train.learning_rate"] == 0.02
    assert state.ranked(GOAL)[0][1][0].outcome == "finished"


@pytest.mark.parametrize("scheduler", ["median", pytest.param("hyperband", marks=pytest.mark.long)])
def test_the_other_schedulers_run_to_the_end(scheduler: str, corpus: str, tmp_path: Path) -> None:
    job = search_job(corpus, tmp_path, epochs=4, scheduler=scheduler, max_trials=5, min_trials=2)
    search(job, name=scheduler)
    state = study_of(job, scheduler)
    assert len(state.own) == 5
    assert all(trial.outcome in ("finished", "stopped") for trial in state.own)
    for trial in state.own:
        assert [line.epoch for line in trial.epochs] == list(range(len(trial.epochs)))


def test_population_based_training_continues_from_copies_of_the_best(corpus: str, tmp_path: Path) -> None:
    rates = {"train.learning_rate": {"log": [1e-7, 0.02]}, "objective.contrast_weight": {"uniform": [0.0, 1.0]}}
    job = search_job(corpus, tmp_path, space=rates, epochs=5, scheduler="pbt", max_trials=4, perturb_epochs=2)
    search(job, name="pbt")
    state = study_of(job, "pbt")
    assert [trial.outcome for trial in state.own] == ["finished"] * 4
    heirs = [trial for trial in state.own if trial.sources]
    assert heirs
    for trial in state.own:
        assert [line.epoch for line in trial.epochs] == list(range(5))
        assert 1e-7 <= trial.settings["train.learning_rate"] <= 0.02
        assert 0.0 <= trial.settings["objective.contrast_weight"] <= 1.0


def test_a_trial_with_several_workers_is_a_ray_train_run(corpus: str, tmp_path: Path) -> None:
    job = search_job(corpus, tmp_path, epochs=2, max_trials=1, workers_per_trial=2, cpus_per_trial=2, scheduler="none")
    search(job, name="nested")
    state = study_of(job, "nested")
    (trial,) = state.own
    assert trial.outcome == "finished"
    assert [line.epoch for line in trial.epochs] == [0, 1]
    place = SearchDirectory.of(job, "nested").location.join("trials", trial.name, "record.json")
    assert RunRecord.model_validate_json(place.read_text()).workers == 2


def test_a_search_of_which_every_trial_fails_says_why(corpus: str, tmp_path: Path) -> None:
    space = {"train.learning_rate": {"choice": [DIVERGES, DIVERGES * 10]}}
    job = search_job(corpus, tmp_path, space=space, max_trials=2)
    with pytest.raises(TrainingError, match=r"none of 2 trials has a score; 2 failed with: .*not finite"):
        search(job, name="failing")


def test_trials_with_other_encodings_train_other_models(tmp_path: Path) -> None:
    """Trials share a prepared corpus only if their texts are read in the same way."""
    space = {"data.word_ngrams": {"choice": [0, 1, 2]}, "data.word_buckets": 64, "train.learning_rate": 0.02}
    corpus = write_spoken(tmp_path / "corpus")
    job = search_job(corpus, tmp_path, space=space, algorithm="grid", scheduler="none", epochs=2, keep_best=3)
    record = search(job, name="words")
    assert record.trials == {"finished": 3}
    assert record.test is not None
    trials = SearchDirectory.of(job, "words").location.join("trials")
    sizes, losses = {}, {}
    for trial in study_of(job, "words").own:
        ngrams = trial.settings["data.word_ngrams"]
        bundle = read_bundle(trials.join(trial.name, "bundle").uri)
        sizes[ngrams] = sum(weight.numel() for weight in bundle.model.state_dict().values())
        losses[ngrams] = trial.epochs[-1].train_loss
    assert sizes[0] < sizes[1] == sizes[2], "n-grams of several lengths share the buckets"
    assert len(set(losses.values())) == 3
