"""All checks of `joyful doctor` together."""

from __future__ import annotations

import json

import pytest

from joyful_ray.cli import main


def test_this_environment_passes(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["doctor", "--quick", "--json"])
    report = json.loads(capsys.readouterr().out)
    failing = [check for check in report["checks"] if check["status"] == "fail"]
    assert (status, failing) == (0, [])
    assert {"python", "torch", "ray", "cpus", "memory", "ray cluster"} <= {check["name"] for check in report["checks"]}
