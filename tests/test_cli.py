"""The command line: what a program reads, what a person reads, and how a command ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from joyful_ray.cli import app, main
from joyful_ray.errors import TrainingError
from joyful_ray.train import launch

HEAVY = ["numpy", "pandas", "pyarrow", "ray", "s3fs", "tensorboard", "torch", "torch_geometric", "yaml"]


@pytest.fixture
def plain_corpus(tmp_path: Path) -> Path:
    """The smallest source that `joyful import jsonl` takes: two conversations a split."""
    lines = [
        {
            "conversation_id": f"{split}-{number}",
            "split": split,
            "speakers": ["ann", "bob"],
            "labels": ["joy", "anger"],
            "text": [[0.1, 0.2 + number], [0.3, -0.4]],
        }
        for split in ("train", "dev", "test")
        for number in range(2)
    ]
    source = tmp_path / "plain.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return source


def errors(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["trian"], "Did you mean 'train'"),
        (["train"], "Missing argument 'JOB.yaml'"),
        (["train", "--wrokers", "3"], "--workers"),
        (["train", "job.yaml", "--workers", "many"], "--workers"),
        (["evaluate", "bundle", "--corpus", "c", "--split", "tset"], "--split is one of train, dev, test, not 'tset'"),
        (["import", "meld", "x", "--out", "y", "--option", "name"], "--option takes KEY=VALUE, not 'name'"),
        (["import", "meld", "x", "--out", "y", "--max-bad", "3"], "--max-bad"),
        (["config", "--set", "objective.temprature=2"], "did you mean objective.temperature?"),
        (["config", "--set", "train.epochs=0"], "train.epochs"),
        (["config", "nowhere.yaml"], "nowhere.yaml"),
        (["inspect", "nowhere"], "nowhere"),
        (["inspect", "ftp://nowhere"], "ftp:// is not supported"),
        (["import", "mled", ".", "--out", "y"], "did you mean meld?"),
    ],
)
def test_wrong_input_is_one_line_and_exit_2(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    (line,) = errors(capsys)
    assert line.startswith("joyful: ")
    assert expected in line


def test_with_json_an_error_is_an_object_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--set", "objective.temprature=2", "--json"]) == 2
    (line,) = capsys.readouterr().out.splitlines()
    answer = json.loads(line)
    assert answer["kind"] == "ConfigError"
    assert answer["status"] == 2
    assert "temperature" in answer["error"]


def test_a_run_without_corpus_says_how_to_name_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = tmp_path / "job.yaml"
    job.write_text("train: {epochs: 1}\n")
    assert main(["train", str(job), "--workers", "0"]) == 2
    assert "corpus" in errors(capsys)[-1]


def test_work_that_fails_is_exit_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise TrainingError("epoch 3, step 7:\nthe loss of contrast is not finite")

    monkeypatch.setattr(launch, "train", fail)
    job = tmp_path / "job.yaml"
    job.write_text("name: job\n")
    assert main(["train", str(job)]) == 1
    assert errors(capsys)[-1] == "joyful: epoch 3, step 7: the loss of contrast is not finite"


def test_an_unexpected_error_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(launch, "train", fail)
    job = tmp_path / "job.yaml"
    job.write_text("name: job\n")
    with pytest.raises(ZeroDivisionError):
        main(["train", str(job)])


def test_the_options_of_train_reach_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def note(job: object, **kwargs: object) -> None:
        seen.update(kwargs, job=job)
        raise TrainingError("enough")

    monkeypatch.setattr(launch, "train", note)
    path = tmp_path / "job.yaml"
    path.write_text("name: job\n")
    main(["train", str(path), "--set", "train.epochs=3", "--workers", "4", "--name", "mine"])
    assert seen["job"].train.epochs == 3
    assert seen["job"].cluster.workers == 4
    assert seen["name"] == "mine"


def test_config_prints_a_job_that_loads_as_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--set", "train.epochs=3"]) == 0
    first = capsys.readouterr().out
    assert yaml.safe_load(first)["train"]["epochs"] == 3
    path = tmp_path / "again.yaml"
    path.write_text(first)
    assert main(["config", str(path)]) == 0
    assert capsys.readouterr().out == first


def test_config_as_json_and_as_schema_are_one_object_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["train"]["epochs"] > 0
    assert main(["config", "--schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert {"corpus", "objective", "cluster"} <= schema["properties"].keys()


def test_own_data_is_imported_and_inspected(
    plain_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "corpus")
    assert main(["import", "jsonl", str(plain_corpus), "--out", out, "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out.splitlines()[-1])["splits"]["train"]["conversations"] == 2
    assert out in captured.err

    assert main(["inspect", out]) == 0
    shown = capsys.readouterr().out
    assert "utterances per conversation" in shown
    assert main(["inspect", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["splits"]["test"]["utterances"] == 4


def test_help_imports_no_heavy_library() -> None:
    program = "import sys; from joyful_ray.cli import main; main(['train', '--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "--workers" in done.stdout
    assert not set(HEAVY) & set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("arguments", [[], ["jobs"]])
def test_a_group_without_a_command_prints_its_help_and_exits_0(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert "Usage: joyful" in captured.out
    assert captured.err == ""


@pytest.mark.parametrize("command", ["demo", "train", "evaluate", "config", "doctor"])
def test_every_option_of_a_command_is_explained_in_sentences(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    group = typer.main.get_command(app)
    found = group.get_command(typer.Context(group), command)  # type: ignore[attr-defined]
    for parameter in found.params:
        text = parameter.help or ""
        assert text.endswith("."), f"{command} {parameter.name}: {text!r}"


def test_a_submitted_command_may_have_several_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def note(words: list[str], packing: object, **kwargs: object) -> None:
        seen.update(kwargs, words=list(words))
        raise TrainingError("enough")

    monkeypatch.setattr("joyful_ray.submit.packing.pack", lambda folder: None)
    monkeypatch.setattr("joyful_ray.submit.submission.read_submission", note)
    given = "submit train job.yaml --seeds 0 1 2 --name x --set storage=s3://b/runs --address http://127.0.0.1:1"
    assert main(given.split()) == 1
    assert seen["words"] == "train job.yaml --seeds 0,1,2 --name x --set storage=s3://b/runs".split()
    assert (seen["job_file"], seen["name"]) == (Path("job.yaml"), "x")


def test_the_process_ends_with_the_status_and_a_clean_stdout(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "joyful_ray", "inspect", str(tmp_path / "nowhere")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    from joyful_ray import __version__

    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"joyful-ray {__version__}"


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.long
def test_the_demo_trains_on_two_workers_and_its_bundle_scores_the_same(
    local_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("joyful_ray.demo.CONVERSATIONS", 30)
    assert main(["demo", "--out", str(tmp_path / "demo"), "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    result = json.loads(line)
    assert result["record"]["workers"] == 2
    assert result["bundle_scores"]["confusion"] == result["record"]["dev"]["confusion"]
    assert main(["evaluate", str(tmp_path / "demo/runs/demo/bundle"), "--corpus", result["corpus"], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["confusion"] == result["record"]["test"]["confusion"]


def test_a_second_demo_keeps_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from joyful_ray.demo import demo_job

    assert demo_job(tmp_path, workers=0).name == "demo"
    (tmp_path / "runs/demo").mkdir(parents=True)
    assert demo_job(tmp_path, workers=0).name == "demo", "an interrupted run continues"
    (tmp_path / "runs/demo/record.json").write_text("{}")
    assert demo_job(tmp_path, workers=0).name == "demo-2"


def test_the_demo_in_jobs_is_the_demo() -> None:
    from joyful_ray.config import load_job
    from joyful_ray.demo import demo_job

    committed = load_job(Path(__file__).parents[1] / "jobs/demo.yaml")
    assert committed.fingerprint == demo_job(Path("joyful-demo"), workers=2).fingerprint
    assert committed.corpus == "joyful-demo/corpus"


def test_synth_makes_the_requested_corpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "made")
    assert main(["synth", "--out", out, "--conversations", "10", "--seed", "3", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert sum(split["conversations"] for split in made["splits"].values()) == 10
    assert main(["synth", "--out", out, "--conversations", "10"]) == 2
    assert "--overwrite" in errors(capsys)[-1]


def test_ctrl_c_ends_with_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("joyful_ray.config.load_job", stop)
    assert main(["config", "--json"]) == 130
    out, err = capsys.readouterr()
    assert json.loads(out)["kind"] == "interrupt"
    assert [line for line in err.splitlines() if line] == ["joyful: stopped; the same command continues a run"]
