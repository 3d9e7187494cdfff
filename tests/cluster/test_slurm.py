"""The Slurm script on a real one-node Slurm in a separate process namespace."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from joyful_ray.config import load_job
from joyful_ray.train.run_directory import RunDirectory
from tests.s3_server import free_port
from tests.tiny_corpus import write_tiny

pytestmark = [pytest.mark.slurm, pytest.mark.ray, pytest.mark.slow, pytest.mark.long]
CHECKOUT = Path(__file__).parents[2]
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged", "unshare")
NAMESPACE = ["unshare", "--pid", "--mount", "--fork", "--mount-proc", "--kill-child"]


@pytest.fixture
def slurm(tmp_path: Path) -> list[str]:
    """The words in front of a command that run it with a Slurm."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)}; install slurm-wlm and munge")
    if os.geteuid() != 0 or subprocess.run([*NAMESPACE, "true"], check=False, capture_output=True).returncode:
        pytest.skip("Slurm's daemons and a process namespace need root")
    return [*NAMESPACE, "bash", str(Path(__file__).with_name("one_node_slurm.sh")), str(tmp_path / "slurm")]


def test_a_run_through_sbatch_finishes_on_the_cluster_that_the_script_starts(slurm: list[str], tmp_path: Path) -> None:
    corpus = write_tiny(tmp_path / "corpus")
    words = ["train", "jobs/demo.yaml", "--name", "slurm", "--set", f"corpus={corpus}"]
    words += ["--set", f"storage={tmp_path / 'runs'}", "--set", "train.epochs=2", "--workers", "2"]
    log = tmp_path / "job.log"
    options = ["--nodes=1", "--cpus-per-task=2", "--time=00:30:00", f"--output={log}", "--wait"]
    environment = {
        **os.environ,
        "JOYFUL_VENV": str(Path(sys.executable).parents[1]),
        "JOYFUL_STORAGE_ENV": str(tmp_path / "absent"),
        "PYTHONPATH": str(CHECKOUT),
        "SLURMCTLD_PORT": str(free_port()),
        "SLURMD_PORT": str(free_port()),
    }
    command = [*slurm, "sbatch", *options, "cluster/slurm.sh", *words]
    done = subprocess.run(
        command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    printed = log.read_text() if log.exists() else done.stderr
    assert done.returncode == 0, printed[-4000:]
    job = load_job(CHECKOUT / "jobs/demo.yaml", [f"storage={tmp_path / 'runs'}"])
    record = RunDirectory.of(job, "slurm").read_record()
    assert record is not None
    assert record.workers == 2
    # The Slurm job has 30 minutes, and the script subtracts ten of them.
    assert 0.2 < record.config["cluster"]["max_hours"] < 0.34
    assert "RAY_AUTH_TOKEN" not in printed
