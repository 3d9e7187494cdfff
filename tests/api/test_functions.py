"""The Python API: the same results as the commands, and documentation that is complete."""

from __future__ import annotations

import inspect
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import joyful_ray
from joyful_ray.config import JobConfig, load_job
from joyful_ray.errors import CheckpointError, ConfigError, CorpusError, TrainingError
from joyful_ray.train.evaluate import evaluate_bundle
from tests.tiny_corpus import SMALL

FUNCTIONS = [name for name in joyful_ray.__all__ if inspect.isfunction(getattr(joyful_ray, name))]
EXAMPLE = Path(__file__).with_name("notebook_example.py")


@pytest.fixture(scope="module")
def settings(tiny: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    storage = str(tmp_path_factory.mktemp("runs"))
    return {**SMALL, "name": "tiny", "corpus": tiny("single-label"), "storage": storage}


@pytest.fixture(scope="module")
def run(settings: dict[str, Any]) -> Any:
    return joyful_ray.train(settings, overrides={"train.epochs": 2})


def test_the_example_runs_as_a_notebook_would(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(EXAMPLE)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Run first: finished after 2 epochs" in done.stdout
    assert "first: epoch 2, weighted F1" in done.stdout
    assert (tmp_path / "report.html").exists()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_documents_arguments_result_errors_and_an_example(name: str) -> None:
    function = getattr(joyful_ray, name)
    text = inspect.getdoc(function) or ""
    for section in ("Args:", "Returns:", "Raises:", "Example:"):
        assert section in text, f"{name} lacks {section}"
    for argument in inspect.signature(function).parameters:
        assert f"\n    {argument}: " in text, f"{name} does not explain {argument}"


def test_pydoc_shows_every_public_name() -> None:
    shown = subprocess.run([sys.executable, "-m", "pydoc", "joyful_ray"], capture_output=True, text=True, check=True)
    assert f"VERSION\n    {joyful_ray.__version__}" in shown.stdout
    for name in set(joyful_ray.__all__) - {"__version__"}:
        assert name in shown.stdout


def test_importing_the_package_is_light() -> None:
    program = "import sys, joyful_ray; print(sorted({'torch', 'ray', 'pandas', 'pyarrow'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["train", "predict", "report"])
def test_functions_keep_their_names_beside_subpackages_of_the_same_name(name: str) -> None:
    program = (
        f"import joyful_ray.train.launch, joyful_ray.predict.job, joyful_ray.report.page; print(joyful_ray.{name})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"<function {name} ")


def test_a_job_is_a_path_a_dict_or_a_job(settings: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("name: a\ntrain: {epochs: 3}\n")
    from_file = joyful_ray.load_job(path, {"train.learning_rate": 0.5, "data.modalities": ["text"], "task": None})
    assert from_file == load_job(path, ["train.learning_rate=0.5", "data.modalities=[text]", "task=null"])
    assert joyful_ray.load_job({"name": "a", "train": {"epochs": 3}}) == load_job(path)
    assert joyful_ray.load_job({"extends": str(path), "seed": 4}) == load_job(path, ["seed=4"])
    assert joyful_ray.load_job(from_file, ["seed=4"]).seed == 4
    assert isinstance(joyful_ray.load_job(settings), JobConfig)


def test_values_of_overrides_keep_their_type(settings: dict[str, Any], tmp_path: Path) -> None:
    job = joyful_ray.load_job(settings, {"search.space": {"train.learning_rate": {"choice": (1e-5, 1e-3)}}})
    assert job.search is not None
    assert job.search.space["train.learning_rate"].choice == [1e-5, 1e-3]
    assert joyful_ray.load_job({**settings, "storage": tmp_path}, {"corpus": tmp_path / "c"}).corpus == f"{tmp_path}/c"
    assert joyful_ray.load_job(settings, {"name": "001"}).name == "001"


def test_a_wrong_setting_is_named(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"unknown setting train.epoch; did you mean train.epochs\?"):
        joyful_ray.load_job(settings, {"train.epoch": 1})
    with pytest.raises(ConfigError, match=r"model\.preset cannot change in a job that is loaded"):
        joyful_ray.load_job(joyful_ray.load_job(settings), {"model.preset": "paper"})


def test_a_run_shows_its_scores_and_epochs(run: Any) -> None:
    frame = run.to_pandas()
    assert frame["epoch"].tolist() == [1, 2]
    assert frame["dev/weighted_f1"].tolist() == [line.dev.values["weighted_f1"] for line in run.epochs]
    assert run.selected_epoch == run.record.selected_epoch + 1
    assert f"epoch {run.selected_epoch} selected" in repr(run)
    assert f"accuracy {run.test['accuracy']:.4f}" in repr(run)
    assert len(repr(run).splitlines()) <= 5
    assert f"{run.test['accuracy']:.4f}" in run._repr_html_()


def test_a_finished_run_is_opened_again(run: Any, settings: dict[str, Any], tmp_path: Path) -> None:
    again = joyful_ray.open_run(run.uri)
    assert repr(again) == repr(run)
    assert again.to_pandas().equals(run.to_pandas())
    with pytest.raises(CheckpointError, match="no run in"):
        joyful_ray.open_run(tmp_path)
    with pytest.raises(CheckpointError, match="no search in"):
        joyful_ray.open_search(run.uri)
    shutil.copytree(run.uri, tmp_path / "half", ignore=shutil.ignore_patterns("record.json"))
    with pytest.raises(CheckpointError, match="is not finished"):
        joyful_ray.open_run(tmp_path / "half")


def test_evaluate_scores_what_the_run_scored(run: Any, settings: dict[str, Any]) -> None:
    found = joyful_ray.evaluate(run.bundle, settings["corpus"], device="cpu")
    assert found.scores == pytest.approx(run.test)
    expected = evaluate_bundle(run.bundle, settings["corpus"], device="cpu")
    assert found.confusion().to_numpy().tolist() == expected.confusion
    assert found.to_pandas()["f1"].to_dict() == {name: cells["f1"] for name, cells in expected.per_label.items()}
    assert "[" in repr(found), "it has intervals"
    assert found._repr_html_().count("<tr") == 1 + len(expected.labels)


def test_predictions_are_the_same_in_memory_and_on_disk(run: Any, settings: dict[str, Any], tmp_path: Path) -> None:
    written = joyful_ray.predict(run.bundle, settings["corpus"], str(tmp_path / "out"), splits=["test"], device="cpu")
    frame = written.to_pandas()
    predictor = joyful_ray.load(run.bundle, device="cpu")
    expected = predictor.table(joyful_ray.open_corpus(settings["corpus"]).corpus.read_table("test")).to_pandas()
    assert frame.sort_values("utterance_id")["prediction"].tolist() == (
        expected.sort_values("utterance_id")["prediction"].tolist()
    )
    assert repr(written).startswith(f"{len(expected)} predictions, in ")
    new = [{"speakers": ["Ann"]}]
    found = joyful_ray.predict(run.bundle, new, device="cpu")
    assert repr(found) == "1 prediction"
    assert found.to_pandas().equals(predictor.predict(new).to_pandas())


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a_jsonl_file_is_predicted_and_read_back(run: Any, tmp_path: Path, suffix: str) -> None:
    source = tmp_path / "new.jsonl"
    source.write_text('{"speakers": ["Ann", "Bob"]}\n')
    shown = joyful_ray.predict(run.bundle, str(source), device="cpu").to_pandas()
    out = joyful_ray.predict(run.bundle, str(source), str(tmp_path / f"out.{suffix}"), device="cpu")
    assert out.to_pandas()["prediction"].tolist() == shown["prediction"].tolist()


def test_arguments_that_do_not_belong_together_are_refused(run: Any, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="need out"):
        joyful_ray.predict(run.bundle, settings["corpus"])
    with pytest.raises(ConfigError, match="belong to a corpus"):
        joyful_ray.predict(run.bundle, [{"speakers": ["A"]}], workers=2)
    with pytest.raises(ConfigError, match="belong to a corpus"):
        joyful_ray.predict(run.bundle, [{"speakers": ["A"]}], gpus_per_worker=0.5)
    with pytest.raises(ConfigError, match="in memory"):
        joyful_ray.predict(run.bundle, [{"speakers": ["A"]}], "out.csv")
    with pytest.raises(ConfigError, match=r"there is no split 'tests'; splits are train, dev, test"):
        joyful_ray.evaluate(run.bundle, settings["corpus"], split="tests")
    with pytest.raises(ConfigError, match=r"there is no split 'tests'"):
        joyful_ray.predict(run.bundle, settings["corpus"], "out", splits=["tests"])
    with pytest.raises(ConfigError, match=r"setting cluster\.workers is -1"):
        joyful_ray.predict(run.bundle, settings["corpus"], "out", workers=-1)
    with pytest.raises(ConfigError, match="at least one folder"):
        joyful_ray.report([])


def test_places_may_be_paths(run: Any, settings: dict[str, Any], tmp_path: Path) -> None:
    bundle, corpus = Path(run.bundle), Path(settings["corpus"])
    assert joyful_ray.evaluate(bundle, corpus, device="cpu").scores == pytest.approx(run.test)
    found = joyful_ray.predict(bundle, corpus, tmp_path / "out", splits=["test"], device="cpu")
    assert len(found.to_pandas()) == joyful_ray.open_corpus(corpus).to_pandas().loc["test", "utterances"]
    conversations = (each for each in [{"speakers": ["Ann"]}])
    assert repr(joyful_ray.predict(bundle, conversations, device="cpu")) == "1 prediction"
    assert joyful_ray.report(Path(run.uri)).uri == f"{run.uri}/report.html"


def test_a_corpus_shows_its_counts(settings: dict[str, Any]) -> None:
    corpus = joyful_ray.open_corpus(settings["corpus"])
    frame = corpus.to_pandas()
    for split in ("train", "dev", "test"):
        conversations = list(corpus.conversations(split))
        assert frame.loc[split, "conversations"] == len(conversations)
        assert frame.loc[split, "utterances"] == sum(len(each.speakers) for each in conversations)
    assert corpus.card is corpus.card
    assert "single-label" in repr(corpus)


def test_importing_gives_the_corpus(tmp_path: Path) -> None:
    (tmp_path / "talk.jsonl").write_text(
        '{"conversation_id": "a", "split": "train", "speakers": ["A"], "labels": ["joy"], "text": [[1, 2]]}\n'
    )
    corpus = joyful_ray.import_corpus("jsonl", str(tmp_path / "talk.jsonl"), str(tmp_path / "corpus"))
    assert corpus.to_pandas().loc["train"].to_dict() == {"conversations": 1, "utterances": 1, "joy": 1}
    with pytest.raises(CorpusError):
        joyful_ray.import_corpus("jsonl", str(tmp_path / "absent"), str(tmp_path / "other"))


def test_seeds_give_means_and_a_row_each(settings: dict[str, Any]) -> None:
    found = joyful_ray.train_seeds(settings, [0, 1], overrides={"train.epochs": 1})
    frame = found.to_pandas()
    assert frame["seed"].tolist() == [0, 1]
    assert found.test["accuracy"] == pytest.approx(np.mean(frame["test/accuracy"]))
    assert f"accuracy {found.test['accuracy']:.4f} ± {np.std(frame['test/accuracy'], ddof=1):.4f}" in repr(found)


def test_a_report_is_a_page_that_a_notebook_shows(run: Any, tmp_path: Path) -> None:
    found = joyful_ray.report(run.uri, str(tmp_path / "page.html"))
    assert Path(found.uri).read_text() == found.page
    assert found._repr_html_().startswith("<iframe")


def test_labels_of_a_corpus_cannot_put_markup_into_a_notebook(run: Any) -> None:
    assessment = joyful_ray.evaluate(run.bundle, run.record.corpus["uri"], device="cpu").assessment
    bad = assessment.model_copy(update={"per_label": {"<script>": {"f1": 1.0}}})
    from joyful_ray.api.data_results import EvaluationResult

    shown = EvaluationResult(bad, "test")._repr_html_()
    assert "<script>" not in shown
    assert isinstance(EvaluationResult(bad, "test").to_pandas(), pd.DataFrame)


@pytest.mark.ray
@pytest.mark.slow
def test_a_search_gives_its_trials(settings: dict[str, Any], tmp_path: Path) -> None:
    search = {
        "space": {"train.learning_rate": {"choice": [0.01, 0.02]}},
        "algorithm": "grid",
        "scheduler": "none",
        "confirm": None,
    }
    job = {**settings, "storage": str(tmp_path), "search": search}
    heard: list[tuple[str, Any]] = []

    class Notes(joyful_ray.SearchCallback):
        def on_search_begin(self, search: joyful_ray.SearchInfo) -> None:
            heard.append(("begin", search.uri))

        def on_trial_end(self, search: joyful_ray.SearchInfo, trial: Any) -> None:
            heard.append(("trial", trial.values()["weighted_f1"]))
            raise ValueError("once is enough")

        def on_search_end(self, search: joyful_ray.SearchInfo, record: Any) -> None:
            heard.append(("end", record.chosen))

    class Trials(joyful_ray.SearchCallback):
        def __init__(self) -> None:
            self.ended: list[tuple[str, str | None]] = []

        def on_trial_end(self, search: joyful_ray.SearchInfo, trial: Any) -> None:
            self.ended.append((trial.name, trial.outcome))

    trials = Trials()
    expected = r"callback Notes.on_trial_end failed: ValueError: once is enough; the search is complete in "
    with pytest.raises(TrainingError, match=expected):
        joyful_ray.search(job, overrides={"train.epochs": 1}, callbacks=[Notes(), trials])
    assert [event for event, _ in heard] == ["begin", "trial"]
    assert sorted(trials.ended) == [("0000", "finished"), ("0001", "finished")]
    with pytest.raises(CheckpointError, match="finished"):
        joyful_ray.search(job, overrides={"train.epochs": 1})
    found = joyful_ray.open_search(heard[0][1])
    frame = found.to_pandas()
    assert sorted(frame["train.learning_rate"]) == [0.01, 0.02]
    assert frame["dev/weighted_f1"].max() == pytest.approx(found.record.best_dev)
    assert found.best_settings["train.learning_rate"] in (0.01, 0.02)
    assert joyful_ray.load_job(found.best_job).train.learning_rate == found.best_settings["train.learning_rate"]
    assert "2 trials" in repr(found)


def test_results_agree_in_number_and_name_scores_as_the_terminal_does(settings: dict[str, Any], tmp_path: Path) -> None:
    job = {**settings, "name": "once", "storage": str(tmp_path)}
    shown = repr(joyful_ray.train(job, overrides={"train.epochs": 1}))
    assert "after 1 epoch, " in shown
    assert "weighted F1 " in shown
    assert "weighted f1" not in shown
