"""Every committed experiment loads, and builds a model for its corpus; what it asks for, it gets."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from joyful_ray.config import PRESETS, load_job
from joyful_ray.corpora.label_map import read_label_map
from joyful_ray.data.prepare import CorpusInfo
from joyful_ray.study.plan import variants_of
from joyful_ray.train.build import build_objective
from joyful_ray.tune.goals import goals_of
from joyful_ray.tune.space import Space
from tests.corpus_shapes import (
    IEMOCAP_4WAY,
    IEMOCAP_6WAY,
    MELD_HERE,
    MOSEI,
    MOSI,
    corpus_info_of,
    parameters,
    weightless_model,
)

JOBS_FOLDER = Path(__file__).parents[1] / "jobs"
JOBS = sorted(JOBS_FOLDER.glob("*.yaml"))
CORPORA: dict[str, CorpusInfo] = {
    "demo": corpus_info_of({"text": 32, "audio": 16, "vision": 24}, labels=6, speakers=4),
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


@pytest.mark.parametrize("path", [path for path in JOBS if "search" not in path.stem], ids=lambda path: path.stem)
def test_every_job_begins_with_its_question_and_the_command_that_answers_it(path: Path) -> None:
    comment = list(itertools.takewhile(lambda line: line.startswith("#"), path.read_text().splitlines()))
    verb = "transfer" if path in TRANSFERS else "train"
    assert "?" in comment[0]
    assert any(f"joyful {verb} jobs/{path.name}" in line for line in comment)


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
    corpus_info = CORPORA[Path(job.corpus).name if job.name != "demo" else "demo"]
    assert job.task in (None, corpus_info.encoding.task)
    assert set(job.data.modalities or corpus_info.encoding.widths) <= set(corpus_info.encoding.widths)
    net, objective = weightless_model(job, corpus_info), build_objective(job, corpus_info)
    assert parameters(net) > 10_000
    assert net.classifier.scores.out_features == len(corpus_info.encoding.labels)
    assert {"classification", "contrast", "global", "specific"} <= set(objective.weights)


@pytest.mark.parametrize("path", [path for path in JOBS if "search" in path.stem], ids=lambda path: path.stem)
def test_every_search_names_real_settings_and_configs_that_can_be_built(path: Path) -> None:
    job = load_job(path)
    space = Space.of(job)
    assert job.search is not None
    assert goals_of(job.search, "single-label")
    for index in range(3):
        settings = space.grid()[index] if job.search.algorithm == "grid" else space.draw(index)
        assert set(space.ranges) <= set(settings)
        assert parameters(weightless_model(space.job_of(settings), MELD_HERE)) > 10_000


def test_the_shipped_spaces_cover_what_the_paper_leaves_open() -> None:
    searched = {path: set(Space.of(load_job(path)).ranges) for path in JOBS if "search" in path.stem}
    every = set().union(*searched.values())
    assert {"graph.window_past", "graph.window_future"} <= every
    assert {"objective.fusion_weight", "objective.contrast_weight"} <= every
    kinds = ("feature_ratio", "edge_ratio", "proximity_ratio")
    assert {f"augment.{view}_view.{kind}" for view in ("first", "second") for kind in kinds} <= every
    assert "train.learning_rate" in searched[next(path for path in JOBS if path.stem == "search-all")]


@pytest.mark.parametrize("corpus", ["iemocap-4way", "iemocap-6way", "meld", "mosei", "mosi"])
def test_every_corpus_has_a_job_for_each_preset(corpus: str) -> None:
    found = {job.model.preset for job in map(load_job, JOBS) if job.corpus and Path(job.corpus).name == corpus}
    assert found == set(PRESETS)


STUDIES = sorted(path for path in (JOBS_FOLDER / "studies").glob("*.yaml") if path.name != "base.yaml")


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_variant_of_every_study_is_a_job_that_can_be_built(path: Path) -> None:
    job = load_job(path)
    assert job.study is not None
    assert job.name == path.stem
    assert job.study.question
    for settings in variants_of(job.study).values():
        variant = load_job(path, [("study", None), *settings.items()])
        weightless_model(variant, corpus_info_of({"text": 32, "audio": 16, "vision": 24}, labels=6, speakers=2))


def test_every_study_is_described_with_what_it_gave() -> None:
    page = (JOBS_FOLDER / "README.md").read_text()
    assert [path.stem for path in STUDIES if f"(studies/{path.name})" not in page] == []
