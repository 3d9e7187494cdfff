"""Checks of torch, Ray, a running cluster and storage."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from joyful_ray.doctor import runtime


@pytest.mark.ray
@pytest.mark.slow
def test_torch_and_ray_are_tried_in_separate_processes() -> None:
    assert runtime.check_torch().status in ("ok", "warn")
    assert runtime.check_ray_start().status == "ok"


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
