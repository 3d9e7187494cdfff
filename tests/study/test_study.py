"""Studies: variants over corpora and seeds, test read once at the end, and sentences that the intervals support."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from sklearn.metrics import f1_score

import joyful_ray
from joyful_ray.cli import main
from joyful_ray.config import merge
from joyful_ray.corpora.shards import open_corpus
from joyful_ray.data.split_rows import split_rows
from joyful_ray.errors import CheckpointError, ConfigError, UserError
from joyful_ray.records import StudyRecord
from joyful_ray.report.read_runs import read_studies
from joyful_ray.report.studies import variant_table
from joyful_ray.study import plan as plan_module
from joyful_ray.study.plan import plan_study
from joyful_ray.study.study import run_study, verdict
from joyful_ray.train import launch, many
from joyful_ray.train.evaluate import evaluate_bundle
from joyful_ray.train.launch import train
from joyful_ray.train.run_directory import RunDirectory
from joyful_ray.tune.confirm import Difference
from tests.tiny_corpus import SMALL, write_tiny

Study = Callable[..., dict[str, Any]]


@pytest.fixture
def study(tiny: Callable[..., str], tmp_path: Path) -> Study:
    def settings(**changes: Any) -> dict[str, Any]:
        section = {
            "question": "What does the contrast add?",
            "reference": "on",
            "variants": {"on": {}, "off": {"objective.contrast_weight": 0}},
            "seeds": [0, 1],
            "bootstrap_samples": 100,
        }
        own = {"name": "tiny-study", "corpus": tiny(), "storage": str(tmp_path / "runs"), "train": {"epochs": 2}}
        return merge(merge(SMALL, own), {"study": section | changes})

    return settings


def test_a_study_compares_every_variant_with_the_reference_on_test(study: Study, tiny: Callable[..., str]) -> None:
    plan = plan_study(study(remove=["text"], measures=["loss/contrast", "distance", "score/accuracy"]))
    record = run_study(plan, parallel=1)
    rows = {(row.variant, row.removed): row for row in record.rows}
    assert set(rows) == {("on", None), ("on", "text"), ("off", None), ("off", "text")}
    assert record.split == {Path(tiny()).name: "test"}
    assert record.test_reads == 8, "once per run, and once more without text"
    accuracies: dict[str, list[float]] = {"on": [], "off": []}
    for run in plan.runs:
        directory = RunDirectory.of(run.job, run.name)
        expected = evaluate_bundle(directory.bundle.uri, tiny(), device="cpu").values
        assert rows[run.variant, None].scores[run.seed] == pytest.approx(expected["weighted_f1"])
        accuracies[run.variant].append(expected["accuracy"])
        known = directory.read_record()
        assert known is not None
        assert (known.test, known.test_reads) == (None, 0)
    assert rows["on", None].verdict == "the reference"
    off = rows["off", None]
    assert off.low is not None
    assert off.low <= off.difference <= off.high
    assert off.difference == pytest.approx(off.score.mean - rows["on", None].score.mean)
    assert set(rows["on", None].measures) == {"score/accuracy", "loss/contrast", "distance/1"}
    assert set(off.measures) == {"score/accuracy", "distance/1"}
    assert set(rows["on", "text"].measures) == {"score/accuracy"}
    assert off.measures["score/accuracy"].mean == pytest.approx(np.mean(accuracies["off"]))
    assert rows["on", "text"].score.mean != rows["on", None].score.mean
    assert read_studies([plan.location.uri]) == [record]


def test_a_variant_trains_the_run_that_its_settings_train(study: Study, tmp_path: Path) -> None:
    plan = plan_study(study())
    run_study(plan, parallel=1)
    planned = next(run for run in plan.runs if run.variant == "off" and run.seed == 1)
    alone = train(planned.job.model_copy(update={"storage": str(tmp_path)}), name="alone")
    record = RunDirectory.of(planned.job, planned.name).read_record()
    assert record is not None
    assert record.dev == alone.dev
    assert alone.test is not None
    assert planned.job.objective.contrast_weight == 0


def test_seeds_and_variants_are_added_and_finished_runs_stay(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    run_study(plan_study(study(), seeds=[0]), parallel=1)
    trained: list[str] = []
    monkeypatch.setattr(many, "train", lambda job, **rest: trained.append(rest["name"]) or train(job, **rest))
    more = study(variants={"on": {}, "off": {"objective.contrast_weight": 0}, "cold": {"objective.temperature": 0.1}})
    record = run_study(plan_study(more), parallel=1)
    assert len(trained) == 6 - 2
    assert not {name for name in trained if "seed-0" in name and "cold" not in name}
    assert record.seeds == [0, 1]


def test_test_is_not_read_before_all_runs_have_ended(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = study(variants={"on": {}, "bad": {"train.learning_rate": 1e30, "train.gradient_clip": None}})
    record = run_study(plan_study(broken), parallel=1)
    assert set(record.failures) == {name for name in record.failures if name.startswith("bad-")}
    assert record.failures
    assert record.test_reads == 0
    assert list(record.split.values()) == ["dev"]
    assert [row.variant for row in record.rows] == ["on"]


def test_runs_in_processes_give_the_same_record(study: Study, tmp_path: Path) -> None:
    one = run_study(plan_study(study()), parallel=1)
    two = run_study(plan_study(study(), name="side-by-side"), parallel=2)
    assert two.rows == one.rows


def test_a_corpus_without_test_is_compared_on_the_dev_that_selects(study: Study, tmp_path: Path) -> None:
    corpus = write_tiny(tmp_path / "train-only", counts={"train": 9})
    record = run_study(plan_study(study(corpora={"a": corpus})), parallel=1)
    assert record.split == {"a": "dev"}
    assert record.test_reads == 0
    for row in record.rows:
        assert row.dev is not None
        assert row.score.mean == pytest.approx(row.dev.mean)


def test_cross_validation_scores_every_conversation_of_train_and_dev_once_and_never_reads_test(
    study: Study, tiny: Callable[..., str]
) -> None:
    plan = plan_study(study(folds=3))
    record = run_study(plan, parallel=1)
    assert len(plan.runs) == 2 * 2 * 3
    assert (record.folds, record.test_reads, list(record.split.values())) == (3, 0, ["dev"])
    corpus = open_corpus(tiny())
    truth = {
        (one.conversation_id, place): label
        for split in ("train", "dev")
        for one in corpus.conversations(split)
        for place, label in enumerate(one.labels)
        if label is not None
    }
    predicted: dict[tuple[str, int], str] = {}
    for run in [run for run in plan.runs if (run.variant, run.seed) == ("off", 1)]:
        bundle = RunDirectory.of(run.job, run.name).bundle.uri
        held_out = split_rows(corpus, run.job)["dev"].keep
        assert held_out is not None
        for split in ("train", "dev"):
            rows = corpus.read_table(split)
            rows = rows.filter(pc.is_in(rows["conversation_id"], pa.array(sorted(held_out))))
            table = joyful_ray.load(bundle, device="cpu").table(rows).to_pandas()
            for conversation, those in table.groupby("conversation_id", sort=False):
                predicted |= {(conversation, place): name for place, name in enumerate(those["prediction"])}
    expected = f1_score([*truth.values()], [predicted[key] for key in truth], average="weighted")
    row = next(row for row in record.rows if row.variant == "off")
    assert row.scores[1] == pytest.approx(expected)
    assert "on 3 folds" in variant_table(record, next(iter(record.corpora))).title


def test_a_grid_is_every_combination_and_synthetic_corpora_are_made(study: Study) -> None:
    gridded = study(
        variants={},
        grid={"graph.window_past": [1, None], "objective.temperature": [0.5, 1.0]},
        reference="1_0.5",
        corpora={"made": {"conversations": 10, "seed": 4}},
    )
    plan = plan_study(gridded)
    assert list(plan.variants) == ["1_0.5", "1_1", "all_0.5", "all_1"]
    assert plan.variants["all_1"] == {"graph.window_past": None, "objective.temperature": 1.0}
    assert plan.corpora["made"].manifest.splits["train"].conversations == 8
    assert plan_study(gridded).corpora["made"].hash == plan.corpora["made"].hash
    numbers = plan_study(study(corpora={"made": {"conversations": 10, "seed": 4, "task": "regression"}}))
    assert numbers.corpora["made"].manifest.task == "regression"


def test_a_variant_may_be_another_preset(study: Study) -> None:
    plan = plan_study(study(variants={"on": {}, "paper": {"model.preset": "paper"}}))
    paper = next(run.job for run in plan.runs if run.variant == "paper")
    assert paper.augment.classify == "views"
    assert paper.train.epochs == 2


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"variants": {"a+b": {}}, "reference": "a+b"}, "study.variants"),
        ({"reference": "of"}, "there is no variant of; did you mean off"),
        ({"variants": {"on": {"objective.contrast_wait": 1}}}, "study variant on: unknown setting"),
        ({"variants": {"on": {"seed": 1}}}, "study.variants.on cannot change seed"),
        ({"variants": {}, "grid": {}}, "study needs variants, a grid, or both"),
        ({"seeds": [1, 1]}, "name each one once"),
        ({"corpora": {"a": "nowhere"}}, "nowhere"),
        ({"variants": {"on": {"data.modalities": ["vision"]}}}, "the corpus"),
        ({"measures": ["score/acuracy"]}, "study.measures: single-label has no score acuracy; did you mean accuracy"),
        ({"folds": 1}, "study.folds"),
        ({"folds": 3, "remove": ["text"]}, "remove and groups need test"),
        ({"folds": 3, "variants": {"on": {"train.refit": True}}}, "train.refit would train on the parts"),
        ({"variants": {"on": {"data.folds": 3}}}, "let study.folds divide the corpus"),
    ],
)
def test_a_study_that_cannot_be_is_refused_before_anything_is_trained(
    study: Study, changes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=reason):
        plan_study(study(**changes))
    assert not (tmp_path / "runs" / "tiny-study" / "runs").exists()


def test_sentences_say_what_the_interval_supports() -> None:
    assert verdict(None, "on") == "the reference"
    assert verdict(Difference(0.02, 0.01, 0.03), "on").startswith("better than on (+0.0200, interval +0.0100")
    assert verdict(Difference(-0.02, -0.03, -0.01), "on").startswith("worse than on")
    assert verdict(Difference(0.02, -0.01, 0.03), "on").startswith("not distinguishable from on")


def test_the_command_prints_tables_and_writes_record_page_and_picture(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(json.dumps(study()))
    picture = tmp_path / "study.svg"
    assert main(["study", str(file), "--seeds", "0", "--picture", str(picture), "--json"]) == 0
    out, err = capsys.readouterr()
    record = StudyRecord.model_validate_json(out.strip().splitlines()[-1])
    assert record.seeds == [0]
    assert "What does the contrast add?" in err
    assert "off: not distinguishable from on" in err or "off: worse" in err or "off: better" in err
    assert picture.read_bytes().startswith(b"<?xml")
    page = (tmp_path / "runs" / "tiny-study" / "report.html").read_text()
    assert "Study tiny-study" in page
    assert "What does the contrast add?" in page


def test_a_study_is_not_a_run(study: Study) -> None:
    from joyful_ray.config import load_job

    with pytest.raises(ConfigError, match="is a study: run it with joyful study"):
        train(load_job(study()))


def test_the_function_of_the_api_gives_the_record_as_a_table(study: Study) -> None:
    found = joyful_ray.study(study(), {"train.epochs": 1}, seeds=[0], parallel=1)
    frame = found.to_pandas()
    assert list(frame["variant"]) == ["on", "off"]
    assert frame["weighted_f1"].tolist() == [row.score.mean for row in found.record.rows]
    assert "tiny, on" in repr(found) or "on: " in repr(found)
    assert "the reference" in repr(found)


def test_a_report_shows_studies_and_not_their_runs(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_study(plan_study(study(), seeds=[0]), parallel=1)
    assert main(["report", str(tmp_path / "runs"), "--out", str(tmp_path / "page.html")]) == 0
    printed = capsys.readouterr().out
    assert "tiny-study on " in printed
    assert "on-seed" not in printed.replace("-on-", "-")
    assert "Study tiny-study" in (tmp_path / "page.html").read_text()
    (tmp_path / "empty").mkdir()
    assert main(["report", str(tmp_path / "empty")]) == 2


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.long
def test_a_study_on_ray_gives_the_same_scores(study: Study, local_ray: None) -> None:
    here = run_study(plan_study(study(), seeds=[0]), parallel=1)
    there = run_study(plan_study(study(), ["cluster.workers=1"], name="on-ray", seeds=[0]), parallel=2)
    assert [row.score.mean for row in there.rows] == pytest.approx([row.score.mean for row in here.rows], abs=1e-6)
    assert there.failures == {}


def test_a_picture_that_cannot_be_drawn_is_refused_before_anything_is_trained(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(json.dumps(study()))
    assert main(["study", str(file), "--picture", "x.gif"]) == 2
    assert "a picture is a file that ends in .svg, .png, .pdf, not in .gif" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_corpora_of_different_tasks_are_refused(study: Study, tiny: Callable[..., str]) -> None:
    with pytest.raises(ConfigError, match=r"must have one task.*; a is single-label, b is regression"):
        plan_study(study(corpora={"a": tiny(), "b": tiny("regression")}))


def test_counts_that_are_damaged_are_named(study: Study) -> None:
    plan = plan_study(study(), seeds=[0])
    run_study(plan, parallel=1)
    first = plan.runs[0]
    place = RunDirectory.of(first.job, first.name).location.join("test-counts.json")
    place.write_text("{")
    with pytest.raises(CheckpointError, match=r"test-counts.json is damaged; remove it and run the same"):
        run_study(plan, parallel=1)


def test_a_corpus_is_opened_once_however_many_variants_there_are(
    study: Study, tiny: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    for module in (plan_module, launch):
        monkeypatch.setattr(module, "open_corpus", lambda uri: opened.append(uri) or open_corpus(uri))
    plan_study(study(variants={"on": {}, **{f"t{n}": {"objective.temperature": n} for n in (1, 2, 3)}}))
    assert opened == [tiny()]
