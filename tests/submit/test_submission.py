"""A command is checked on this machine before anything is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from joyful_ray.cli import main
from joyful_ray.errors import ConfigError
from joyful_ray.submit.packing import Packing, pack
from joyful_ray.submit.submission import Submission, read_submission

BUCKET = ["corpus=s3://bucket/c", "storage=s3://bucket/runs"]


@pytest.fixture
def packing(tmp_path: Path) -> Packing:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs/a.yaml").write_text("name: mine\n")
    (tmp_path / ".gitignore").write_text("secret.yaml\n")
    (tmp_path / "secret.yaml").write_text("name: x\n")
    (tmp_path / "small").mkdir()
    (tmp_path / "small/manifest.json").write_text("{}")
    return pack(tmp_path)


def train(packing: Packing, overrides: list[str], *, job: str = "jobs/a.yaml", name: str | None = None) -> Submission:
    words = ["train", job, *(word for text in overrides for word in ("--set", text))]
    return read_submission(words, packing, job_file=Path(job), overrides=overrides, name=name)


def test_a_run_is_identified_by_its_name_and_its_bucket_is_recognised(packing: Packing) -> None:
    submission = train(packing, BUCKET)
    assert submission.run == "mine"
    assert train(packing, BUCKET, name="other").run == "other"
    assert submission.uses_bucket
    assert submission.uses_run_directory
    plan = read_submission(["plan", "jobs/a.yaml"], packing, job_file=Path("jobs/a.yaml"), overrides=BUCKET)
    assert plan.run == "plan", "it must not be a job of the run, because jobs are stopped by the name of their run"
    assert not plan.uses_run_directory
    assert submission.notes == ()
    assert submission.entrypoint("python3") == (
        "python3 -m joyful_ray train jobs/a.yaml --set corpus=s3://bucket/c --set storage=s3://bucket/runs"
    )


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["corpus=s3://bucket/c"], "storage is runs, which the cluster removes"),
        (["storage=s3://bucket/runs", "corpus=corpora/meld"], "corpora/meld is not sent with the job"),
        ([*BUCKET, "cluster.address=10.0.0.1:6379"], "joins the cluster it runs on"),
        ([*BUCKET, "train.epoch=3"], "did you mean train.epochs"),
        (["storage=s3://key:word@bucket/runs"], "credentials do not belong in a URI"),
    ],
)
def test_a_run_that_would_be_lost_or_fail_is_refused(packing: Packing, overrides: list[str], expected: str) -> None:
    with pytest.raises(Exception, match=expected.replace(".", r"\.")):
        train(packing, overrides)


def test_places_in_the_command_itself_are_checked_too(packing: Packing) -> None:
    words = ["predict", "runs/a/bundle", "--corpus", "s3://b/c", "--out", "s3://b/o"]
    with pytest.raises(ConfigError, match=r"runs/a/bundle is not sent .*(are not sent|does not exist)"):
        read_submission(words, packing, reads=["runs/a/bundle", "s3://b/c"], writes=["s3://b/o"])
    with pytest.raises(ConfigError, match="synth writes to corpora/a, which the cluster removes"):
        read_submission(["synth", "--out", "corpora/a"], packing, writes=["corpora/a"])
    assert read_submission(["evaluate", "s3://b/bundle"], packing, reads=["s3://b/bundle", "small"]).run == "evaluate"


def test_a_corpus_in_the_working_directory_is_accepted(packing: Packing) -> None:
    assert train(packing, ["storage=/shared/runs", "corpus=small"]).notes == (
        "/shared/runs must be a folder that all nodes of the cluster share",
    )


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        ("/etc/a.yaml", "a path of this machine"),
        ("../a.yaml", "outside"),
        ("secret.yaml", r"\.gitignore excludes it"),
        ("jobs/absent.yaml", "no job file"),
    ],
)
def test_a_job_file_that_is_not_sent_is_refused(packing: Packing, job: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        train(packing, BUCKET, job=job)


def test_an_endpoint_on_this_machine_gives_a_note(packing: Packing) -> None:
    submission = train(packing, ["corpus=s3://b/c", "storage=s3://b/r?endpoint_override=http://127.0.0.1:9000"])
    assert "names this machine" in submission.notes[0]


def test_a_secret_in_a_command_is_refused_without_being_shown(
    packing: Packing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret-in-a-word")
    with pytest.raises(ConfigError, match="value of AWS_SECRET_ACCESS_KEY") as error:
        read_submission(["synth", "--out", "s3://b/planted-secret-in-a-word"], packing)
    assert "planted" not in str(error.value)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["trian", "jobs/demo.yaml"], "'trian' cannot be submitted; choose one of demo"),
        (["jobs", "list"], "'jobs' cannot be submitted"),
        (["corpus"], "'' cannot be submitted; choose one of sample, split, reshard, upgrade"),
        (["corpus", "shrink", "corpora/small"], "'shrink' cannot be submitted; choose one of sample"),
        (["train", "jobs/demo.yaml", "--wrokers", "2"], "--wrokers"),
        (["train"], "JOB.yaml"),
        (["synth", "--out", "x"], "--conversations"),
        (["demo", "--address", "ray://head:10001"], "is not the address of a job server"),
        (["demo", "--address", "http://me:word@head:8265"], "credentials do not belong in an address"),
        (["demo", "--address", "http://127.0.0.1:9"], "no Ray job server answers at http://127.0.0.1:9"),
        (["demo", "--dependencies", "som", "--address", "http://127.0.0.1:9"], "no Ray job server"),
    ],
)
def test_wrong_input_is_one_line_and_exit_2(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    assert main(["submit", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line


def test_a_missing_token_is_explained_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert main(["jobs", "list", "--address", "http://127.0.0.1:9"]) == 2
    assert "set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH" in capsys.readouterr().err
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "absent"))
    assert main(["jobs", "list", "--address", "http://127.0.0.1:9"]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_the_token_is_found_where_ray_would_find_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from joyful_ray.submit.connection import auth_headers

    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("joyful_ray.submit.connection.DEFAULT_TOKEN_FILE", tmp_path / "auth_token")
    (tmp_path / "auth_token").write_text("of-the-file\n")
    assert auth_headers() == {}, "the file may be another cluster's"
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert auth_headers() == {"Authorization": "Bearer of-the-file"}
    (tmp_path / "other").write_text("of-the-path")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "other"))
    assert auth_headers() == {"Authorization": "Bearer of-the-path"}
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of-the-variable")
    assert auth_headers() == {"Authorization": "Bearer of-the-variable"}
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert auth_headers() == {}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["predict", "runs/mine/bundle", "--corpus", "s3://b/c", "--out", "s3://b/o"], "runs/mine/bundle is not sent"),
        (
            ["predict", "s3://b/bundle", "--corpus", "s3://b/c", "--out", "out"],
            "predict writes to out, which the cluster",
        ),
        (["merge", "s3://b/c", "corpora/absent", "--out", "s3://b/o"], "corpora/absent is not sent"),
        (["transfer", "jobs/out-of-domain.yaml"], "storage is runs, which the cluster removes"),
        (["study", "jobs/studies/window.yaml"], "storage is runs, which the cluster removes"),
        (["study", "jobs/studies/contrast.yaml", "--set", "storage=s3://b/r"], "corpora/meld is not sent"),
        (
            ["study", "jobs/studies/window.yaml", "--set", "storage=s3://b/r", "--picture", "a.svg"],
            "study writes to a.svg, which the cluster",
        ),
    ],
)
def test_lost_results_and_missing_inputs_are_refused_on_the_command_line(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", *words, "--address", "http://127.0.0.1:9"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line
