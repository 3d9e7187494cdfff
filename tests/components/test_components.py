"""Components of the user: trained, recorded, opened in another process, searched, and refused in one line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

import joyful_ray
from joyful_ray.cli import main
from joyful_ray.components import load_component, source_hash
from joyful_ray.config import JobConfig, load_job
from joyful_ray.errors import CheckpointError, ConfigError
from joyful_ray.records import RunRecord
from joyful_ray.train.bundle import read_bundle
from joyful_ray.train.launch import train
from joyful_ray.tune.space import Space
from tests.tiny_corpus import small_job

HERE = Path(__file__).parent
GATED = "my_package.gated:GatedSum"
FUSION = {"kind": GATED, "options": {"width": 6}}


@pytest.fixture(autouse=True)
def in_the_folder_of_the_package(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = list(sys.path)
    monkeypatch.chdir(HERE)
    yield
    sys.path[:] = before
    for name in [name for name in sys.modules if name.partition(".")[0] in ("my_package", "moved")]:
        del sys.modules[name]


@pytest.fixture
def job(tiny: Callable[..., str], tmp_path: Path) -> JobConfig:
    return small_job(
        name="own",
        corpus=tiny("single-label"),
        storage=str(tmp_path / "runs"),
        model={"fusion": FUSION},
        train={"epochs": 2},
    )


def test_a_fusion_of_ones_own_trains_and_is_recorded(job: JobConfig) -> None:
    record = train(job)
    assert record.config["model"]["fusion"]["options"] == {"width": 6, "dropout": 0.1}
    assert record.components == {GATED: source_hash(GATED)}
    bundle = read_bundle(record.locations["bundle"])
    assert type(bundle.model.fusion).__name__ == "GatedSum"
    assert bundle.card.components == record.components


def test_the_bundle_predicts_in_another_process(job: JobConfig) -> None:
    bundle = train(job).locations["bundle"]
    new = [{"speakers": ["A", "B"], "text": [[0.1] * 5, [0.4] * 5]}]
    program = f"import joyful_ray; print(joyful_ray.predict({bundle!r}, {new!r}).to_pandas()['prediction'].tolist())"
    width = read_bundle(bundle).encoding.widths["text"]
    program = program.replace("[0.1, 0.1, 0.1, 0.1, 0.1]", str([0.1] * width)).replace(
        "[0.4, 0.4, 0.4, 0.4, 0.4]", str([0.4] * width)
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=HERE, capture_output=True, text=True, check=True)
    here = [{"speakers": ["A", "B"], "text": [[0.1] * width, [0.4] * width]}]
    assert done.stdout.strip() == str(joyful_ray.predict(bundle, here).to_pandas()["prediction"].tolist())


def test_a_bundle_without_its_component_says_what_is_missing(
    job: JobConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = train(job).locations["bundle"]
    monkeypatch.chdir(tmp_path)
    sys.path[:] = [folder for folder in sys.path if folder != str(HERE)]
    for name in [name for name in sys.modules if name.startswith("my_package")]:
        del sys.modules[name]
    with pytest.raises(CheckpointError, match=r"cannot import my_package.gated of component my_package.gated:GatedSum"):
        read_bundle(bundle)


def test_a_changed_source_is_warned_of(job: JobConfig) -> None:
    bundle = Path(train(job).locations["bundle"])
    card = bundle / "bundle.json"
    card.write_text(card.read_text().replace(source_hash(GATED), "0" * 64))
    with pytest.warns(UserWarning, match=rf"the source of {GATED} has changed since this model was trained"):
        read_bundle(str(bundle))


def test_context_encoder_and_term_of_ones_own_train(job: JobConfig) -> None:
    settings = job.model_dump(mode="json")
    settings["model"]["context"] = {"kind": "my_package.others:Scaled", "options": {"factor": 0.5}}
    settings["model"]["encoder"] = {"kind": "my_package.others:OneLayer"}
    settings["objective"]["extra_terms"] = {"small": {"kind": "my_package.others:SmallScores", "weight": 0.5}}
    record = train(load_job(settings))
    assert set(record.components) == {
        GATED,
        "my_package.others:Scaled",
        "my_package.others:OneLayer",
        "my_package.others:SmallScores",
    }
    run = Path(job.storage, "own")
    assert '"small"' in (run / "metrics.jsonl").read_text()


def test_a_term_weighs_in_the_loss_as_its_mean_over_what_it_counts(job: JobConfig) -> None:
    from joyful_ray.objective.joint import JointObjective
    from tests.batches import random_batch

    settings = load_job(
        job.model_dump(mode="json"),
        ["objective.extra_terms={small: {kind: 'my_package.others:SmallScores', weight: 0.5, options: {power: 1}}}"],
    )
    objective = JointObjective(settings.objective, task="single-label").only(["small"])
    batch = random_batch(3, 2, unlabeled=0.4, seed=1)
    scores = torch.randn(5, 3)

    class Output:
        scores_NK = scores
        views = None

        class fused:
            reconstructions: ClassVar[dict[str, Any]] = {}

    sums, counts = objective.sums(Output(), batch), objective.counts(batch)  # type: ignore[arg-type]
    kept = batch.labeled_N
    expected = 0.5 * scores.abs().mean(dim=1)[kept].mean()
    assert float(objective.total(sums, counts)) == pytest.approx(float(expected))


def test_options_are_part_of_the_fingerprint(job: JobConfig) -> None:
    other = load_job(job.model_dump(mode="json"), ["model.fusion.options.width=7"])
    assert other.fingerprint != job.fingerprint


def test_a_search_varies_the_options_of_a_component(job: JobConfig) -> None:
    settings = job.model_dump(mode="json")
    settings["search"] = {"space": {"model.fusion.options.width": {"choice": [3, 5]}}, "algorithm": "grid"}
    space = Space.of(load_job(settings))
    assert {space.job_of(each).model.fusion.options["width"] for each in space.grid()} == {3, 5}
    settings["search"]["space"] = {"model.fusion.options.widht": {"choice": [3]}}
    with pytest.raises(ConfigError, match=r"unknown setting model.fusion.options.widht; did you mean .*options.width"):
        Space.of(load_job(settings))


def test_an_importer_of_ones_own_reads_a_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "talk.txt").write_text("hello you\nhi\n")
    path = "my_package.others:Lines"
    arguments = [
        "import",
        path,
        str(tmp_path / "talk.txt"),
        "--out",
        str(tmp_path / "corpus"),
        "--option",
        "label=calm",
    ]
    assert main(arguments) == 0
    corpus = joyful_ray.open_corpus(str(tmp_path / "corpus"))
    assert corpus.to_pandas().loc["train"].to_dict() == {"conversations": 2, "utterances": 3, "calm": 3}
    capsys.readouterr()
    assert main([*arguments[:-1], "lable=calm", "--overwrite"]) == 2
    assert "unknown option lable" in capsys.readouterr().err


REFUSALS = {
    "absent_package.x:Y": "cannot import absent_package.x of component absent_package.x:Y: No module named 'absent_pa",
    "my_package.gated:GatedSun": "my_package.gated has no GatedSun; did you mean GatedSum?",
    "my_package.others:NOT_A_CLASS": "component my_package.others:NOT_A_CLASS is a int, not a class",
    "my_package.others:WithoutForward": "cannot be a fusion: it has no method forward",
}


@pytest.mark.parametrize(("kind", "expected"), REFUSALS.items())
def test_a_class_that_cannot_be_used_is_refused_in_one_line(
    kind: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "--set", f"model.fusion.kind={kind}"]) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("{widht: 3}", "unknown option widht of my_package.gated:GatedSum; did you mean width?"),
        ("{width: 0}", "option width of my_package.gated:GatedSum is 0: input should be greater than or equal to 1"),
        ("{width: wide}", "option width of my_package.gated:GatedSum is 'wide'"),
    ],
)
def test_options_are_checked_against_the_class(options: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--set", f"model.fusion={{kind: '{GATED}', options: {options}}}"]) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.startswith("joyful: model.fusion: ")


def test_options_of_a_built_in_kind_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--set", "model.fusion={kind: concatenation, options: {width: 3}}"]) == 2
    assert "options belong to a kind of your own, not to concatenation" in capsys.readouterr().err


def test_a_wrong_output_is_refused_before_anything_is_written(job: JobConfig) -> None:
    settings = job.model_dump(mode="json")
    settings["model"]["fusion"] = {"kind": "my_package.others:NarrowFusion"}
    wrong = load_job(settings)
    with pytest.raises(ConfigError, match=r"my_package.others:NarrowFusion"):
        train(wrong)
    assert not Path(job.storage).exists()


def test_the_resolved_job_writes_the_defaults_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--set", f"model.fusion.kind={GATED}"]) == 0
    assert "      dropout: 0.1\n" in capsys.readouterr().out
    assert load_component(GATED, "fusion").__name__ == "GatedSum"


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.long
def test_two_ray_workers_train_it_to_the_scores_of_none(job: JobConfig) -> None:
    alone: RunRecord = train(job, name="alone")
    on_ray = job.model_copy(update={"cluster": job.cluster.model_copy(update={"workers": 2})})
    together = train(on_ray, name="together")
    assert together.dev.loss == pytest.approx(alone.dev.loss, rel=1e-4)
    assert together.components == alone.components


@pytest.mark.ray
@pytest.mark.slow
def test_a_scheduler_of_ones_own_runs_a_search(job: JobConfig) -> None:
    settings: dict[str, Any] = job.model_dump(mode="json")
    settings["search"] = {
        "space": {"train.learning_rate": {"choice": [0.01, 0.02]}},
        "algorithm": "grid",
        "scheduler": "my_package.others:Patient",
        "scheduler_options": {"grace": 1},
        "confirm": None,
    }
    found = joyful_ray.search(settings)
    assert sum(found.record.trials.values()) == 2
    settings["search"]["scheduler_options"] = {"grcae": 1}
    with pytest.raises(ConfigError, match=r"unknown option grcae of my_package.others:Patient; did you mean grace\?"):
        load_job(settings)


def test_a_term_that_is_not_one_loss_per_utterance_is_refused(job: JobConfig) -> None:
    terms = {"sum": {"kind": "my_package.others:ScalarTerm", "weight": 0.5}}
    wrong = load_job(job, {"objective.extra_terms": terms}.items())
    with pytest.raises(ConfigError, match=r"extra_terms.sum: losses of my_package.others:ScalarTerm returned"):
        train(wrong)


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ("read", "importer my_package.others:FailingImporter failed: ValueError: this is not a number"),
        ("drafts", "importer my_package.others:FailingImporter failed: ValueError: this is not a number"),
        ("draft", "importer my_package.others:FailingImporter yielded 3, not a pair of split and Draft"),
        ("source", "importer my_package.others:FailingImporter returned int, not an ImportSource"),
    ],
)
def test_an_importer_that_fails_is_named_in_one_line(
    when: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["import", "my_package.others:FailingImporter", str(HERE), "--option", f"when={when}"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == f"joyful: {message}\n"
    assert not (tmp_path / "out").exists()


def test_a_report_of_runs_with_components_shows_their_settings(job: JobConfig, tmp_path: Path) -> None:
    train(job)
    terms = {"small": {"kind": "my_package.others:SmallScores", "weight": 0.5}}
    train(load_job(job, {"objective.extra_terms": terms, "name": "term"}.items()))
    assert "SmallScores" in joyful_ray.report([tmp_path / "runs"], tmp_path / "page.html").page


def test_a_kind_that_is_neither_a_name_nor_a_path_says_what_both_look_like() -> None:
    expected = r"model.fusion.kind is 'gated': .*'concatenation', or an import path such as my_package.module:Class"
    with pytest.raises(ConfigError, match=expected):
        load_job({"model": {"fusion": {"kind": "gated"}}})


def test_a_causal_model_takes_only_parts_that_say_they_are_causal() -> None:
    settings = {"model": {"causal": True, "context": {"kind": "my_package.others:Scaled"}}}
    with pytest.raises(ConfigError, match="say so with is_causal = True in its class"):
        small_job(settings)
    settings["model"]["context"]["kind"] = "my_package.others:CausalScaled"
    assert small_job(settings).model.causal
