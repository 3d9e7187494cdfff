"""The front page: its commands run, its files are what it says, its links lead somewhere, and it stays short."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.docs.doc_blocks import CHECKOUT, FENCE, blocks_of, run_page

PAGES = sorted(
    path.relative_to(CHECKOUT)
    for path in CHECKOUT.rglob("README.md")
    if not {".venv", "node_modules"} & set(path.relative_to(CHECKOUT).parts)
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@pytest.mark.ray
@pytest.mark.slow
def test_the_commands_of_the_front_page_run_in_order(tmp_path: Path) -> None:
    shutil.copytree(CHECKOUT / "jobs", tmp_path / "jobs")
    printed = run_page(CHECKOUT / "README.md", tmp_path, skip=["make"])
    assert "a model that knows how this corpus was made scores" in printed
    assert (tmp_path / "report.html").exists()
    assert re.search(r"^conversation-1_0 +Ann +We did it!", printed, re.MULTILINE)


def test_the_front_page_is_at_most_180_lines() -> None:
    assert len((CHECKOUT / "README.md").read_text().splitlines()) <= 180


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_of_a_page_lead_to_files_and_headings(page: Path) -> None:
    text = FENCE.sub("", (CHECKOUT / page).read_text())
    for target in LINK.findall(text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = (CHECKOUT / page.parent / path).resolve() if path else CHECKOUT / page
        assert found.exists(), f"{page} links to {target}"
        if anchor and found.suffix == ".md":
            assert anchor in anchors(found), f"{page} links to {target}, which has {sorted(anchors(found))}"


def anchors(page: Path) -> set[str]:
    """The anchors that a code host gives to headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    headings = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings]  # the text of a link counts
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_bash_block_says_what_it_needs_or_is_run(page: Path) -> None:
    run_by_tests = {"README.md", "joyful_ray/README.md", "joyful_ray/corpora/README.md", "jobs/README.md"}
    for block in blocks_of(CHECKOUT / page):
        if block.language == "bash" and str(page) not in run_by_tests:
            assert block.mark in ("needs", "run"), f"{page}, line {block.line}: no test runs it; say what it needs"
