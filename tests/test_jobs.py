"""Every committed experiment loads, and builds a model for its corpus; what it asks for, it gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from joyful_ray.config import PRESETS, load_job
from joyful_ray.corpora.label_map import read_label_map
from joyful_ray.data.prepare import Facts
from joyful_ray.train.build import build_objective
from tests.corpus_shapes import (
    IEMOCAP_4WAY,
    IEMOCAP_6WAY,
    MELD_HERE,
    MOSEI,
    MOSI,
    facts_of,
    parameters,
    weightless_model,
)

JOBS = sorted((Path(__file__).parents[1] / "jobs").glob("*.yaml"))
CORPORA: dict[str, Facts] = {
    "demo": facts_of({"text": 32, "audio": 16, "vision": 24}, labels=6, speakers=4),
    "iemocap-4way": IEMOCAP_4WAY,
    "iemocap-6way": IEMOCAP_6WAY,
    "meld": MELD_HERE,
    "mosei": MOSEI,
    "mosi": MOSI,
}
every_job = pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
TRANSFERS = [path for path in JOBS if load_job(path).transfer is not None]
every_job_of_one_corpus = pytest.mark.parametrize(
    "path", [path for path in JOBS if path not in TRANSFERS], ids=lambda path: path.stem
)


@every_job
def test_every_job_loads(path: Path) -> None:
    assert load_job(path).name


@every_job
def test_every_job_is_named_after_its_file(path: Path) -> None:
    assert load_job(path).name == path.stem


@pytest.mark.parametrize("path", TRANSFERS, ids=lambda path: path.stem)
def test_a_transfer_names_maps_that_ship_for_labels_that_all_share(path: Path) -> None:
    plan = load_job(path).transfer
    assert plan is not None
    maps = {name: read_label_map(str(path.parents[1] / entry.label_map)) for name, entry in plan.corpora.items()}
    assert {tuple(one.target.labels) for one in maps.values()} == {tuple(next(iter(maps.values())).target.labels)}
    assert all(Path(entry.corpus).name == maps[name].source.name for name, entry in plan.corpora.items())


@every_job_of_one_corpus
def test_every_job_builds_a_model_for_its_corpus(path: Path) -> None:
    job = load_job(path)
    assert job.corpus is not None
    facts = CORPORA[Path(job.corpus).name if job.name != "demo" else "demo"]
    assert job.task in (None, facts.encoding.task)
    assert set(job.data.modalities or facts.encoding.widths) <= set(facts.encoding.widths)
    net, objective = weightless_model(job, facts), build_objective(job, facts)
    assert parameters(net) > 10_000
    assert net.classifier.scores.out_features == len(facts.encoding.labels)
    assert {"classification", "contrast", "global", "specific"} <= set(objective.weights)


@pytest.mark.parametrize("corpus", ["iemocap-4way", "iemocap-6way", "meld", "mosei", "mosi"])
def test_every_corpus_has_a_job_for_each_preset(corpus: str) -> None:
    found = {job.model.preset for job in map(load_job, JOBS) if job.corpus and Path(job.corpus).name == corpus}
    assert found == set(PRESETS)
