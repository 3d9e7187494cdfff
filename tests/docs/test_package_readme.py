"""The page about the package: its session, its component and its commands run, and its code is the tested code."""

from __future__ import annotations

from pathlib import Path

import pytest

import joyful_ray
from joyful_ray.train.callbacks import Callback
from tests.docs.doc_blocks import CHECKOUT, blocks_of, run_page

PAGE = CHECKOUT / "joyful_ray/README.md"


@pytest.mark.slow
def test_the_session_and_the_commands_run_in_order(tmp_path: Path) -> None:
    printed = run_page(PAGE, tmp_path, skip=["make"])
    assert "first: epoch 2, weighted F1" in printed
    assert "my_package.gated:GatedSum" in printed
    assert "dropout: 0.2" in printed
    assert (tmp_path / "runs/gated/bundle").is_dir()


def test_the_code_is_that_of_the_tests() -> None:
    blocks = {block.value: block.text for block in blocks_of(PAGE) if block.mark == "file"}
    assert blocks["my_package/gated.py"] == (CHECKOUT / "tests/components/my_package/gated.py").read_text()
    session = next(block.text for block in blocks_of(PAGE) if block.language == "python" and not block.mark)
    assert (CHECKOUT / "tests/api/notebook_example.py").read_text().endswith(session)


def test_every_public_function_and_every_event_is_listed() -> None:
    text = PAGE.read_text()
    for name in joyful_ray.__all__:
        if name not in ("__version__", "RunInfo", "SearchInfo"):
            assert f"`{name}(" in text or f"joyful_ray.{name}`" in text, name
    events = [name for name in vars(Callback) if name.startswith("on_")]
    assert all(f"`{event}(run" in text for event in events)
