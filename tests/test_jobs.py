"""Every committed experiment loads; what it asks for, it gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from joyful_ray.config import load_job

JOBS = sorted((Path(__file__).parents[1] / "jobs").rglob("*.yaml"))


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_every_job_loads(path: Path) -> None:
    assert load_job(path).name


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_every_job_is_named_after_its_file(path: Path) -> None:
    assert load_job(path).name == path.stem
