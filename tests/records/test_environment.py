from __future__ import annotations

import sys

import pytest

from joyful_ray.records import environment, versions


def test_versions_name_what_determines_a_result() -> None:
    found = versions()
    assert found["python"] == sys.version.split()[0]
    assert {"joyful-ray", "ray", "torch", "torch-geometric", "pyarrow", "numpy", "platform"} <= set(found)
    assert "absent" not in found.values()


def test_a_package_that_is_not_installed_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "VERSIONED", ("no-such-package-here",))
    assert versions()["no-such-package-here"] == "absent"
