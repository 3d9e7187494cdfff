"""Shared fixtures: the real corpora next to the checkout, and one local Ray for the whole session."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from joyful_ray import termination

CHECKOUT = Path(__file__).parents[1]

# Read by Ray when it is imported, here and in the processes that tests start.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.3")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# Several processes share few cores; torch would start one thread per core in each of them.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A test that uses the network fails at once instead of waiting for Amazon's metadata address.
os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(autouse=True)
def _own_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process knows of signals ends with the test that raised them."""
    monkeypatch.setattr(termination, "_received", threading.Event())
    monkeypatch.setattr(termination, "_last_words", [])


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the real corpora: `../shared/data` or JOYFUL_DATA; the test is skipped without it."""
    folder = Path(os.environ.get("JOYFUL_DATA", CHECKOUT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real corpora at {folder}; set JOYFUL_DATA")
    return folder


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """Ray on this machine, started once; it claims four CPUs so that two workers fit next to Ray Data's tasks."""
    import ray

    from joyful_ray.train.on_ray.connection import NOTICES

    os.environ.setdefault(NOTICES, "0")
    # A socket's path may have 107 characters, so this folder is directly in the temporary directory.
    session_folder = tempfile.mkdtemp(prefix="jr-")
    ray.init(
        address="local",
        num_cpus=4,
        # Without it, a Ray Train run inside a Ray Tune trial that is stopped keeps its workers forever.
        include_dashboard=True,
        object_store_memory=512 * 2**20,
        _temp_dir=session_folder,
        log_to_driver=False,
    )
    yield
    ray.shutdown()
    shutil.rmtree(session_folder, ignore_errors=True)
