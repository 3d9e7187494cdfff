"""Submitting to a real Ray head: the commands of cluster/README.md, a run stopped and continued, and secrets."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from joyful_ray.corpora.synthetic import synthesize
from joyful_ray.storage import Location, open_location
from tests.cluster.conftest import BUCKET, Head
from tests.tiny_corpus import write_tiny

pytestmark = [pytest.mark.cluster, pytest.mark.ray, pytest.mark.s3, pytest.mark.slow]
CHECKOUT = Path(__file__).parents[2]
BLOCK = re.compile(r"^<!-- run -->\n```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
EPOCH_TIMEOUT_S = 600


def blocks(path: Path) -> list[str]:
    """The marked blocks of a README, without the lines that the user must set."""
    found = BLOCK.findall(path.read_text())
    return ["".join(line for line in block.splitlines(True) if "# CHANGE" not in line) for block in found]


@pytest.fixture
def bucket(head: Head, monkeypatch: pytest.MonkeyPatch) -> Location:
    """The cluster's bucket, opened with the cluster's key."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "cluster")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", head.secret)
    return open_location(f"s3://{BUCKET}/joyful?endpoint_override={head.endpoint}")


def epochs(run: Location) -> list[int]:
    place = run.join("metrics.jsonl")
    return [json.loads(line)["epoch"] for line in place.read_text().splitlines()] if place.exists() else []


def wait_for(epoch: int, run: Location) -> None:
    deadline = time.monotonic() + EPOCH_TIMEOUT_S
    while epoch not in epochs(run):
        assert time.monotonic() < deadline, f"the run did not reach epoch {epoch}"
        time.sleep(0.5)


def printed(done: subprocess.CompletedProcess[str]) -> str:
    return f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def test_the_readmes_commands_run_and_a_stopped_run_continues(head: Head, bucket: Location) -> None:
    run = bucket.join("runs/first")
    outputs: dict[str, str] = {}
    for block in blocks(CHECKOUT / "cluster/README.md"):
        if "jobs stop" in block:
            wait_for(1, run)
        done = head.bash(block)
        assert done.returncode == 0, f"{block}\n{printed(done)}"
        outputs[block] = done.stdout
    together = "\n".join(outputs.values())
    assert "dependencies: nothing to install; the image has all" in together
    assert "none of this shell's are sent" in together
    assert re.search(r"package: .* files, [\d,]+ bytes, [\d,]+ zipped; left out: .*\.git", together)
    assert "steps per epoch" in together
    assert re.search(r"first: (finished|stopped early) after \d+ epochs", together), (
        "the log was not followed to its end"
    )
    assert "STOPPED" in together
    record = json.loads(run.join("record.json").read_text())
    assert record["workers"] == 2
    assert epochs(run) == list(range(record["epochs"]))
    sessions = [name for name in run.join("tensorboard").list() if "tfevents" in name]
    assert len(sessions) == 2, "the run restarted instead of continuing"
    listed = json.loads(head.joyful("jobs", "list", "--json").stdout)["jobs"]
    of_run = [job for job in listed if job["run"] == "first"]
    assert [job["status"] for job in of_run] == ["SUCCEEDED", "STOPPED"]
    assert all(job["job"].startswith("first-") for job in of_run)
    assert not [job for job in listed if "joyful-environment" in job["job"]], "the probe job is still in the list"
    # A finished run is not trained again, and the error is the line of the command itself.
    again = head.joyful("submit", "train", "jobs/demo.yaml", "--name", "first", *places(bucket), "--json")
    assert again.returncode == 1
    answer = json.loads(again.stdout.splitlines()[-1])
    assert "run first in" in answer["error"]
    assert "is finished; give this one another --name" in answer["error"]
    status = json.loads(head.joyful("jobs", "status", "first", "--json").stdout)
    assert status["status"] == "FAILED"
    assert "is finished" in status["error"]


@pytest.mark.long
def test_the_main_readmes_commands_run(head: Head, bucket: Location) -> None:
    """On a small corpus instead of MELD, with the same modalities in the same bucket, and for three epochs."""
    synthesize(bucket.join("corpora/meld").uri, conversations=40, seed=0)
    (block,) = blocks(CHECKOUT / "README.md")
    assert " --no-wait" in block
    done = head.bash(block.replace(" --no-wait", " --no-wait --set train.epochs=3"))
    assert done.returncode == 0, printed(done)
    assert re.search(r"meld: (finished|stopped early) after \d+ epochs", done.stdout)
    record = json.loads(bucket.join("runs/meld/record.json").read_text())
    assert record["workers"] == 2


def places(bucket: Location) -> list[str]:
    root = f"s3://{bucket.path}"
    words = [f"corpus={root}/corpora/small", f"storage={root}/runs", "train.epochs=30"]
    return [word for text in words for word in ("--set", text)]


@pytest.mark.long
def test_the_demo_can_be_submitted(head: Head) -> None:
    done = head.joyful("submit", "demo", "--workers", "0", "--address", head.url)
    assert done.returncode == 0, printed(done)
    assert "the bundle, opened again from disk, scores weighted F1" in done.stdout
    assert re.search(r"job demo-\S+: succeeded after \d+[. ]", done.stdout)


def test_a_wrong_token_is_one_line(head: Head) -> None:
    for token, expected in (("", "asks for a token"), ("another-token", "does not accept this token")):
        shell = head.shell | {"RAY_AUTH_MODE": "", "RAY_AUTH_TOKEN": token}
        done = replace(head, shell=shell).joyful("jobs", "list")
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert expected in line


@pytest.mark.long
def test_a_submitted_job_includes_its_component(head: Head, bucket: Location, tmp_path: Path) -> None:
    shutil.copytree(CHECKOUT / "tests/components/my_package", tmp_path / "my_package")
    shutil.copy(CHECKOUT / "requirements.lock", tmp_path)
    (tmp_path / "job.yaml").write_text(
        "name: gated\n"
        "model: {fusion: {kind: 'my_package.gated:GatedSum', options: {width: 8}}}\n"
        "train: {epochs: 1}\n"
        "cluster: {workers: 2}\n"
    )
    place = bucket.join("components")
    synthesize(place.join("corpus").uri, conversations=30, seed=0)
    without_endpoint = f"s3://{place.path}"
    settings = [f"corpus={without_endpoint}/corpus", f"storage={without_endpoint}/runs"]
    done = subprocess.run(
        [sys.executable, "-m", "joyful_ray", "submit", "train", "job.yaml", "--set", settings[0], "--set", settings[1]],
        cwd=tmp_path,
        env={**head.shell, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, printed(done)
    record = json.loads(place.join("runs", "gated", "record.json").read_text())
    assert record["workers"] == 2
    assert list(record["components"]) == ["my_package.gated:GatedSum"]


@pytest.mark.parametrize("token", ["wrong", None])
def test_a_refused_token_ends_a_command_in_one_line(head: Head, tmp_path: Path, token: str | None) -> None:
    stranger = {name: value for name, value in head.shell.items() if not name.startswith("RAY_AUTH")}
    if token is not None:
        stranger |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    words = ["train", "jobs/demo.yaml", "--set", f"corpus={write_tiny(tmp_path / 'corpus')}"]
    words += ["--set", f"storage={tmp_path / 'runs'}", "--workers", "1", "--set", f"cluster.address={head.address}"]
    began = time.monotonic()
    done = replace(head, shell=stranger).joyful(*words)
    assert done.returncode == 2, printed(done)
    lines = [line for line in done.stderr.splitlines() if "WARNING" not in line]
    assert len(lines) == 1, printed(done)
    assert lines[0].startswith(f"joyful: cannot join the Ray cluster at {head.address}: it refuses the token; set ")
    assert time.monotonic() - began < 60, "eight tries of a second, and imports on a busy machine"


# This test is last in the file, because it searches everything that the tests before it wrote.
def test_no_secret_is_in_any_listing_log_config_or_record(head: Head, bucket: Location) -> None:
    texts = {"joyful jobs list": head.joyful("jobs", "list", "--json").stdout}
    request = urllib.request.Request(f"{head.url}/api/jobs/", headers={"Authorization": f"Bearer {head.token}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        texts["jobs with runtime_env and metadata"] = answer.read().decode()
    ray_list = subprocess.run(
        ["ray", "job", "list", "--address", head.url], env=head.shell, capture_output=True, text=True, check=True
    )
    texts["ray job list"] = ray_list.stdout + ray_list.stderr
    jobs: list[dict[str, Any]] = json.loads(texts["jobs with runtime_env and metadata"])
    assert any(job["metadata"].get("joyful_run") == "first" for job in jobs if job["metadata"])
    assert "first-" in texts["ray job list"]
    for name in ("config.yaml", "metrics.jsonl", "record.json", "bundle/bundle.json"):
        texts[name] = bucket.join("runs/first", name).read_text()
    logs = [path for path in head.temporary.rglob("*") if path.is_file() and "/logs/" in str(path.resolve())]
    assert any("job-driver-first" in path.name for path in logs)
    texts |= {str(path): path.read_text(errors="replace") for path in logs}
    packages = [path for path in head.temporary.rglob("working_dir_files/*/*.yaml") if path.is_file()]
    texts |= {str(path): path.read_text() for path in packages}
    for where, text in texts.items():
        for secret in (head.token, head.secret, head.shell["AWS_SECRET_ACCESS_KEY"]):
            assert secret not in text, f"a secret is in {where}"
