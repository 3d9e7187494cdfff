"""Every module is tested in a file that is found by its name, or tests/README.md says where it is tested."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "joyful_ray"
ROW = re.compile(r"^\| `([a-z0-9_.]+)` \| (.+) \|$", re.MULTILINE)
HEADING = "## Modules without a test file of their own name"


def mapped_modules() -> dict[str, list[str]]:
    """The table of tests/README.md: test files of each module."""
    table = (TESTS / "README.md").read_text().split(HEADING)[1]
    return {module: re.findall(r"`([^`]+)`", files) for module, files in ROW.findall(table)}


def expected_file(module: str) -> Path:
    """The test file that a stranger would look for."""
    *folders, name = module.split(".")
    return TESTS.joinpath(*folders, f"test_{name}.py")


MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if not path.name.startswith("__")
}
MAPPED = mapped_modules()


@pytest.mark.parametrize("module", sorted(MODULES))
def test_every_module_has_a_test_file_of_its_name_or_a_row_in_the_readme(module: str) -> None:
    assert expected_file(module).exists() or module in MAPPED, (
        f"joyful_ray.{module} has no tests/{expected_file(module).relative_to(TESTS)}; "
        "write it, or add a row to tests/README.md that says where the module is tested"
    )


@pytest.mark.parametrize("module", sorted(MAPPED))
def test_every_row_names_a_module_and_test_files_that_exist(module: str) -> None:
    assert module in MODULES, f"there is no joyful_ray.{module}; remove its row from tests/README.md"
    assert not expected_file(module).exists(), (
        f"{module} has a test file of its name; remove its row from tests/README.md"
    )
    assert MAPPED[module], f"the row of {module} in tests/README.md names no test file"
    missing = [name for name in MAPPED[module] if not (TESTS / name).is_file()]
    assert not missing, f"the row of {module} in tests/README.md names {missing[0]}, which does not exist"
