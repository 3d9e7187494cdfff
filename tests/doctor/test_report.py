"""What `joyful doctor` prints, and its exit status."""

from __future__ import annotations

import pytest

from joyful_ray import doctor
from joyful_ray.cli import main
from joyful_ray.doctor import Check, DoctorReport


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
