from __future__ import annotations

from pathlib import Path

import pytest

from joyful_ray.config import JobConfig, merge, resolve
from joyful_ray.errors import CheckpointError
from joyful_ray.tune.goals import Goal
from joyful_ray.tune.ledger import Drawn, Ended, Epoch, Opened
from joyful_ray.tune.merge import merge_search
from joyful_ray.tune.search_directory import SearchDirectory
from joyful_ray.tune.searcher import LedgerWriter
from tests.tune.searches import search_job

F1 = Goal("weighted_f1", 1)


def written(job: JobConfig, name: str, scores: list[float], *, corpus: str = "abc") -> SearchDirectory:
    home = SearchDirectory.of(job, name)
    home.begin(job, corpus_hash=corpus, is_extended=False)
    home.ledger.add(Opened(session=0, fingerprint="f", corpus=corpus, search={}, goals=["weighted_f1"]))
    for place, score in enumerate(scores):
        trial = f"{place:04d}"
        dev = {"weighted_f1": score, "loss": 1.0}
        home.ledger.add(
            Drawn(trial=trial, number=place, config=trial, settings={"graph.window_past": place + 1}, seed=0),
            Epoch(trial=trial, epoch=0, dev=dev, train_loss=1.0, seconds=1.0, is_best=True),
        )
        if place < 2:
            home.ledger.add(Ended(trial=trial, outcome="finished", reason="all 1 epochs"))
    return home


def test_ended_trials_of_another_search_are_merged_once(tmp_path: Path) -> None:
    job = search_job("corpus", tmp_path)
    ours, theirs = written(job, "ours", [0.25, 0.5]), written(job, "theirs", [0.125, 0.75, 0.875])
    writer = LedgerWriter(ours.ledger)
    assert merge_search(theirs.location.uri, job, "abc", writer) == 2, "one trial of theirs has not ended"
    assert merge_search(theirs.location.uri, job, "abc", writer) == 0
    state = LedgerWriter(ours.ledger).state
    assert [name for name, _, _ in state.ranked(F1)] == ["theirs.0001", "0001", "0000", "theirs.0000"]
    assert len(state.own) == 2
    assert state.trials["theirs.0001"].drawn.origin == theirs.location.uri
    third = written(job, "third", [0.0625, 0.03125])
    assert merge_search(ours.location.uri, job, "abc", LedgerWriter(third.ledger)) == 4
    assert "theirs.0001" in LedgerWriter(third.ledger).state.trials, (
        "a name says where a trial is from, however often it moved"
    )


def test_searches_that_cannot_be_compared_are_not_merged(tmp_path: Path) -> None:
    job = search_job("corpus", tmp_path)
    writer = LedgerWriter(written(job, "ours", [0.25]).ledger)
    longer = resolve(merge(job.model_dump(mode="json"), {"train": {"epochs": 9}}))
    other = written(longer, "longer", [0.5])
    with pytest.raises(CheckpointError, match=r"has other settings \(train.epochs: 4 -> 9\)"):
        merge_search(other.location.uri, job, "abc", writer)
    elsewhere = written(job, "elsewhere", [0.5], corpus="def")
    with pytest.raises(CheckpointError, match="uses another corpus"):
        merge_search(elsewhere.location.uri, job, "abc", writer)
    with pytest.raises(CheckpointError, match="there is no search at"):
        merge_search(str(tmp_path / "nowhere"), job, "abc", writer)


def test_a_different_search_is_refused_with_the_setting_that_differs(tmp_path: Path) -> None:
    job = search_job("corpus", tmp_path)
    home = written(job, "ours", [0.25])
    tree = job.model_dump(mode="json")
    with pytest.raises(CheckpointError, match=r"train.epochs: 4 -> 9"):
        home.begin(resolve(merge(tree, {"train": {"epochs": 9}})), corpus_hash="abc", is_extended=True)
    wider = resolve(merge(tree, {"search": {"space": {"graph.window_past": {"int": [1, 9]}}}}))
    with pytest.raises(CheckpointError, match=r"another search.space; .*--add-trials N"):
        home.begin(wider, corpus_hash="abc", is_extended=False)
    assert home.begin(wider, corpus_hash="abc", is_extended=True)
    more = resolve(merge(wider.model_dump(mode="json"), {"search": {"max_trials": 99, "time_budget_s": 5}}))
    assert home.begin(more, corpus_hash="abc", is_extended=False), "how much and how long may change"
    with pytest.raises(CheckpointError, match="on another corpus"):
        home.begin(more, corpus_hash="def", is_extended=False)
