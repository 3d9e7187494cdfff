from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from joyful_ray.cli import main
from joyful_ray.errors import CheckpointError
from joyful_ray.report.comparison import compare, score_table
from joyful_ray.report.page import page
from joyful_ray.report.read_runs import read_all
from joyful_ray.report.sensitivity import curve, group_mean
from joyful_ray.report.tables import best_trials, failures
from joyful_ray.train.launch import train
from joyful_ray.tune.ledger import AnyEvent, Drawn, Ended, Epoch, Opened
from joyful_ray.tune.search_directory import SearchDirectory
from joyful_ray.tune.space import Space
from tests.tiny_corpus import small_job, write_tiny
from tests.tune.searches import search_job

SPACE = {
    "objective.contrast_weight": {"log": [0.01, 1.0]},
    "graph.window_past": {"int": [1, 6]},
    "augment.first_view.edge_mode": {"choice": ["perturb", "rewire"]},
}


@pytest.fixture
def written_search(tmp_path: Path) -> Path:
    """A search of 14 trials, of which one failed and some were stopped, as its ledger tells it; it is not done."""
    job = search_job("corpus", tmp_path, space=SPACE, algorithm="optuna", metric=["weighted_f1", "seconds"])
    home = SearchDirectory.of(job, "written")
    home.begin(job, corpus_hash="abc", is_extended=False)
    space, goals = Space.of(job), ["weighted_f1", "seconds"]
    events: list[AnyEvent] = [Opened(session=0, fingerprint="f", corpus="abc", search={}, goals=goals)]
    for place in range(14):
        name, settings = f"{place:04d}", space.draw(place)
        events.append(Drawn(trial=name, number=place, config=name, settings=settings, seed=0))
        if place == 3:
            events.append(Ended(trial=name, outcome="failed", reason="epoch 0: <total> is not finite"))
            continue
        top = 0.5 + 0.01 * settings["graph.window_past"]
        for epoch in range(4 if top > 0.53 else 1):
            dev = {"weighted_f1": top - 0.1 / (epoch + 1), "loss": 1.0}
            events.append(Epoch(trial=name, epoch=epoch, dev=dev, train_loss=1.0, seconds=1.5, is_best=True))
        events.append(Ended(trial=name, outcome="finished" if top > 0.53 else "stopped", reason=""))
    home.ledger.add(*events)
    return tmp_path / "written"


def test_a_search_becomes_one_page_that_asks_no_network(written_search: Path) -> None:
    assert main(["report", str(written_search)]) == 0
    text = (written_search / "report.html").read_text()
    body = re.sub(r"<script>.*?</script>", "", text, count=1, flags=re.DOTALL)  # plotly.js itself
    assert not re.search(r"""(src|href)\s*=|url\(|@import|fetch\(""", body)
    for title in (
        "Trials",
        "Learning curves",
        "Importance of settings",
        "Score by setting",
        "All settings together",
    ):
        assert f"<h3>{title}</h3>" in body
    assert "Score against training time" in body
    assert "This search is not finished" in body
    assert "&lt;total&gt; is not finite" in body, "what files hold is escaped"
    assert all(path in body for path in SPACE)


def test_the_tables_hold_the_ledgers_numbers(written_search: Path) -> None:
    _, (search,) = read_all([str(written_search)])
    table = best_trials(search)
    best = search.state.best(search.goal)
    assert best is not None
    assert table.rows[0][0] == best.name
    assert table.rows[0][2] == f"{best.score(search.goal):.4f}"
    assert failures(search).rows == [["0003", "failed", "epoch 0: <total> is not finite"]]
    assert next(iter(search.importance)) == "graph.window_past", "it alone decides the score here"


def test_runs_are_compared_over_their_seeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = write_tiny(tmp_path / "tiny")
    jobs = [
        small_job({"corpus": corpus, "storage": str(tmp_path), "name": f"seed-{seed}", "seed": seed}) for seed in (0, 1)
    ]
    records = [train(job) for job in jobs]
    places = [str(tmp_path / job.name) for job in jobs]
    runs, _ = read_all(places)
    (comparison,) = compare(runs)
    table = score_table(comparison)
    assert [row[0] for row in table.rows] == ["seed-0", "seed-1", "mean of 2 seeds"]
    scores = [record.test.values["weighted_f1"] for record in records if record.test is not None]
    column = table.header.index("test weighted F1")
    assert table.rows[-1][column] == f"{np.mean(scores):.4f} ± {np.std(scores, ddof=1):.4f}"
    assert main(["report", *places, "--out", str(tmp_path / "page.html"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert answer["report"] == str(tmp_path / "page.html")
    assert set(answer["records"]) == {"seed-0", "seed-1"}
    text = (tmp_path / "page.html").read_text()
    assert "seed-1: confusion on test" in text
    assert page(runs, []) == text


def test_a_folder_without_runs_and_searches_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CheckpointError, match="has no run, no search and no study, nor has any folder below it"):
        read_all([str(tmp_path)])
    assert main(["report", str(tmp_path)]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_curve_follows_the_scores_and_its_band_contains_the_true_mean() -> None:
    draw = np.random.default_rng(0)
    values = draw.uniform(0, 1, 120)
    found = curve(values.tolist(), (values + draw.normal(0, 0.1, 120)).tolist(), is_log=False)
    assert found is not None
    inner = slice(10, 30)  # a kernel's mean is drawn inward at the ends
    truth = np.array(found.at)[inner]
    assert np.allclose(np.array(found.mean)[inner], truth, atol=0.06)
    inside = (np.array(found.low)[inner] <= truth + 0.02) & (truth - 0.02 <= np.array(found.high)[inner])
    assert inside.all()
    assert curve([1.0, 2.0], [0.1, 0.2], is_log=False) is None
    flat = curve([0.01, 0.1, 1.0, 10.0, 100.0], [0.5] * 5, is_log=True)
    assert flat is not None
    assert flat.mean == pytest.approx([0.5] * len(flat.mean))
    assert group_mean([0.25, 0.25]) == (0.25, 0.25, 0.25)
