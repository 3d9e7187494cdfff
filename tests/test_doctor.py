"""`joyful doctor`: its answers on machines that lack something, and the promises of the lock file."""

from __future__ import annotations

import json
import re
import socket
import tomllib
from collections import namedtuple
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from joyful_ray import doctor
from joyful_ray.cli import main
from joyful_ray.doctor import Check, DoctorReport, machine, packages, runtime
from joyful_ray.doctor.report import GIB

CHECKOUT = Path(__file__).parents[1]
Usage = namedtuple("Usage", "total used free")


def locked() -> dict[str, str]:
    lines = (CHECKOUT / "requirements.lock").read_text().splitlines()
    return {
        line.split("==")[0]: line.split("==")[1].removesuffix("# dev").strip()
        for line in lines
        if not line.startswith("#")
    }


def test_the_lock_file_has_an_allowed_version_of_every_dependency() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    for text in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        requirement = Requirement(text)
        version = locked()[re.sub(r"[-_.]+", "-", requirement.name).lower()]
        assert requirement.specifier.contains(version), f"{text} is required, but the lock file has {version}"


def test_the_lock_file_names_torch_without_a_build_suffix() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", locked()["torch"])


def test_this_environment_passes(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["doctor", "--quick", "--json"])
    report = json.loads(capsys.readouterr().out)
    failing = [check for check in report["checks"] if check["status"] == "fail"]
    assert (status, failing) == (0, [])
    assert {"python", "torch", "ray", "cpus", "memory", "ray cluster"} <= {check["name"] for check in report["checks"]}


@pytest.mark.ray
@pytest.mark.slow
def test_torch_and_ray_are_tried_in_separate_processes() -> None:
    assert runtime.check_torch().status in ("ok", "warn")
    assert runtime.check_ray_start().status == "ok"


def test_a_failing_check_is_exit_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    broken = DoctorReport(checks=[Check(name="disk", status="fail", found="full", advice="make room")])
    monkeypatch.setattr(doctor, "run_checks", lambda **kwargs: broken)
    assert main(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["fail", "disk", "full"]
    assert lines[1].strip() == "make room"
    assert lines[2] == "1 check failed; fix it before you train"


def test_warnings_do_not_fail() -> None:
    assert DoctorReport(checks=[Check(name="cpus", status="warn", found="1")]).is_healthy


def test_a_package_that_is_too_old_missing_or_untested_is_reported() -> None:
    assert packages.check_package(Requirement("pytest>=1"), None).status == "ok"
    assert packages.check_package(Requirement("pytest>=999"), None).status == "fail"
    assert packages.check_package(Requirement("no-such-package-here"), None).found == "not installed"
    untested = packages.check_package(Requirement("pytest"), "0.1")
    assert untested.status == "warn"
    assert "tested with 0.1" in untested.advice


def test_a_build_of_the_tested_torch_is_the_tested_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.13.0+cpu")
    assert packages.check_package(Requirement("torch>=2.6"), "2.13.0").status == "ok"


@pytest.mark.parametrize(("free", "status"), [(50, "ok"), (3, "warn"), (0.5, "fail")])
def test_a_disk_that_is_nearly_full_warns_and_then_fails(
    free: float, status: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    total = 12 if free < 50 else 100
    usage = Usage(total * GIB, (total - free) * GIB, free * GIB)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    assert machine.check_working_directory(tmp_path).status == status


def test_a_folder_that_cannot_be_written_fails(tmp_path: Path) -> None:
    check = machine.check_working_directory(tmp_path / "absent")
    assert check.status == "fail"
    assert "storage" in check.advice


def test_small_shared_memory_names_the_docker_option(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(64 * 2**20, 0, 64 * 2**20))
    check = machine.check_shared_memory(tmp_path)
    assert check.status == "warn"
    assert "--shm-size" in check.advice


def test_a_long_temporary_path_warns_about_ray_sockets() -> None:
    assert machine.check_temporary_directory(Path("/tmp/" + "a" * 80)).status == "warn"


def test_a_quota_below_two_cores_advises_one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_cpu_quota", lambda: 0.5)
    assert "--workers 1" in machine.check_cpus().advice


def test_a_ray_cluster_that_answers_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    current = tmp_path / "ray_current_cluster"
    assert "none is running" in runtime.check_cluster(current).found
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        current.write_text(address)
        assert f"cluster.address={address}" in runtime.check_cluster(current).found
    assert "none is running" in runtime.check_cluster(current).found
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert runtime.check_cluster(current).status == "fail"


def test_storage_is_tried_and_its_fault_is_named(tmp_path: Path) -> None:
    assert runtime.check_storage(str(tmp_path)).status == "ok"
    check = runtime.check_storage("ftp://nowhere")
    assert check.status == "fail"
    assert "ftp" in check.found


def test_a_probe_that_crashes_gives_the_reason() -> None:
    result, reason = runtime.run_probe("raise ImportError('libcublas.so is missing')")
    assert result is None
    assert reason == "ImportError: libcublas.so is missing"
