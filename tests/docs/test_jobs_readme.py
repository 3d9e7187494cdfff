"""The page about the experiments: its commands run, and it lists every job."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tests.docs.doc_blocks import CHECKOUT, run_page

PAGE = CHECKOUT / "jobs/README.md"


def test_the_commands_run(tmp_path: Path) -> None:
    shutil.copytree(CHECKOUT / "jobs", tmp_path / "jobs")
    printed = run_page(PAGE, tmp_path)
    assert "epochs: 3" in printed
    assert "train.learning_rate" in printed


def test_every_job_is_listed_once() -> None:
    text = PAGE.read_text()
    cells = re.findall(r"^\| (.*?) \|", text, re.MULTILINE)
    listed = [name for cell in cells for name in re.findall(r"`([\w-]+\.yaml)`", cell)]
    for job in sorted(path.name for path in (CHECKOUT / "jobs").glob("*.yaml")):
        variant = re.sub(r"-(paper|released)\.yaml$", ".yaml", job)
        assert listed.count(job) == 1 or (job != variant and listed.count(variant) == 1), job
