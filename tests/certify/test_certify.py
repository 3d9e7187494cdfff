"""`joyful certify`: what it does, what it compares, and a whole certificate on several nodes."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import yaml

from joyful_ray.certify.certify import certify, trials_of
from joyful_ray.certify.disturbances import KINDS, repeats_allowed
from joyful_ray.cli import main
from joyful_ray.console.certificates import show_certificate
from joyful_ray.errors import ConfigError
from joyful_ray.records import Certificate, DisturbedRun
from tests.narrow_screen import assert_fits, narrow_screen
from tests.tiny_corpus import SMALL, merge, small_job, write_tiny


def test_disturbances_are_shared_out_and_every_kind_comes_before_any_comes_again() -> None:
    trials = trials_of(2, 40, random.Random(0))
    names = ["resident", "streaming", "resident-other-workers", "streaming-other-workers"]
    assert [trial.name for trial in trials] == names
    assert [len(trial.kinds) for trial in trials] == [10, 10, 10, 10]
    assert [len(trial.kinds) for trial in trials_of(2, 9, random.Random(0))] == [3, 2, 2, 2]
    assert [trial.ingest for trial in trials] == ["resident", "streaming"] * 2
    for trial in trials[:2]:
        assert set(trial.kinds[:6]) == set(KINDS) - {"other-workers"} == set(trial.kinds)
        assert trial.workers == (2,)
    for trial in trials[2:]:
        assert set(trial.kinds[:7]) == set(KINDS)
        assert trial.workers == (2, 1, 3)
    assert trials == trials_of(2, 40, random.Random(0)), "a seed decides them"
    assert trials != trials_of(2, 40, random.Random(1))
    assert [trial.name for trial in trials_of(2, 1, random.Random(0))] == ["resident"]
    chosen = trials_of(2, 3, random.Random(0), ["streaming-other-workers", "streaming"])
    assert [(trial.name, len(trial.kinds)) for trial in chosen] == [("streaming", 2), ("streaming-other-workers", 1)]
    with pytest.raises(ConfigError, match="there is no trial other; there are resident, streaming, "):
        trials_of(2, 3, random.Random(0), ["other"])


def test_repeats_are_bounded_by_the_interval() -> None:
    assert repeats_allowed(["worker", "command", "node"], interval=5, steps_per_epoch=20) == 18
    assert repeats_allowed(["sigterm", "other-workers"], interval=5, steps_per_epoch=20) == 0
    assert repeats_allowed(["damage"], interval=5, steps_per_epoch=20) == 26
    assert repeats_allowed([], interval=5, steps_per_epoch=20) == 0


def run_of(name: str, problems: list[str]) -> DisturbedRun:
    return DisturbedRun(
        name=name,
        workers=[2],
        ingest="resident",
        disturbances=["worker", "node", "worker"],
        resumes=3,
        repeated_steps=4,
        most_repeated_steps=6,
        loss_difference=0.0,
        weight_difference=2.5e-7,
        is_exact=False,
        has_seen_the_same=True,
        problems=problems,
    )


def certificate_of(*problems: str) -> Certificate:
    return Certificate(
        fingerprint="f",
        corpus="c",
        seed=0,
        versions={},
        runs=[run_of("resident", list(problems)), run_of("streaming", [])],
    )


def test_a_certificate_is_shown_with_what_did_not_pass() -> None:
    screen = narrow_screen()
    show_certificate(screen, certificate_of("a loss differs by 1.0e-02, more than 0"), "runs/x/certificate.json")
    lines = assert_fits(screen)
    assert "resident: 2 worker, 1 node; every epoch trained on the same conversations" in lines
    assert "not passed: resident: a loss differs by 1.0e-02, more than 0" in lines
    assert lines[-1] == "certificate  runs/x/certificate.json"
    screen = narrow_screen()
    show_certificate(screen, certificate_of(), "runs/x/certificate.json")
    assert "all 2 trials passed" in assert_fits(screen)


def test_what_cannot_be_certified_is_refused_before_anything_starts(tmp_path: Path) -> None:
    corpus = write_tiny(tmp_path / "corpus")
    with pytest.raises(ConfigError, match="must be a local folder"):
        certify(small_job({"corpus": corpus, "storage": "s3://bucket/runs"}))
    (tmp_path / "run-certificate").mkdir()
    with pytest.raises(ConfigError, match="exists; give this certificate another --name"):
        certify(small_job({"corpus": corpus, "storage": str(tmp_path)}))


def certified(folder: Path, epochs: int, *words: str) -> Path:
    """Write a small corpus and a job with ten steps an epoch, and run the command; returns where the runs are."""
    corpus = write_tiny(folder / "corpus", counts={"train": 60, "dev": 7, "test": 5})
    train = {"epochs": epochs, "patience": 100, "batch_conversations": 6, "checkpoint_every_steps": 2}
    own = {"name": "tiny", "corpus": corpus, "storage": str(folder / "runs"), "train": train}
    job = merge(merge(SMALL, own), {"cluster": {"collective_timeout_s": 20}})
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    assert main(["certify", str(folder / "job.yaml"), *words, "--json"]) == 0
    return folder / "runs" / "tiny-certificate"


@pytest.mark.ray
@pytest.mark.cluster
@pytest.mark.slow
def test_a_streaming_run_is_certified(tmp_path: Path) -> None:
    """A worker is killed in a run of two workers on three nodes."""
    folder = certified(tmp_path, 10, "--trial", "streaming", "--disturbances", "1", "--seed", "2")
    certificate = Certificate.model_validate_json((folder / "certificate.json").read_text())
    (run,) = certificate.runs
    assert run.name == run.ingest == "streaming"
    assert run.disturbances == ["worker"]
    assert run.resumes >= 1
    assert run.is_exact


@pytest.mark.long
def test_a_job_is_certified_on_several_nodes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = certified(tmp_path, 60, "--disturbances", "9")
    certificate = Certificate.model_validate(json.loads(capsys.readouterr().out))
    assert [len(run.disturbances) for run in certificate.runs] == [3, 2, 2, 2]
    assert all(run.is_exact for run in certificate.runs if "other-workers" not in run.disturbances)
    assert Certificate.model_validate_json((folder / "certificate.json").read_text()) == certificate
