"""The list of formats and the help of each, on a screen of 80 columns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from joyful_ray.cli import main
from joyful_ray.console.corpora import show_format, show_formats
from joyful_ray.corpora.importers import IMPORTERS
from tests.narrow_screen import assert_fits, lines_of, narrow_screen


def test_every_format_is_listed_with_what_it_imports() -> None:
    screen = narrow_screen()
    show_formats(screen, list(IMPORTERS.values()))
    listed = [line.split()[0] for line in assert_fits(screen)[1:-2]]
    assert listed == list(IMPORTERS)


@pytest.mark.parametrize("name", IMPORTERS)
def test_the_help_of_a_format_describes_its_files_and_every_option(name: str) -> None:
    screen = narrow_screen()
    show_format(screen, IMPORTERS[name])
    shown = "\n".join(lines_of(screen))
    assert "SOURCE" in IMPORTERS[name].description
    for option in IMPORTERS[name].all_options:
        assert f"\n{option} " in shown
    prose = [line for line in lines_of(screen) if not line.startswith("    ")]
    assert max(map(len, prose)) <= 80


def test_help_and_list_need_no_source(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--list"], ["meld", "--help"], ["-h"], []):
        assert main(["import", *arguments]) == 0
    assert "Usage: joyful import" in capsys.readouterr().out
    assert main(["import", "--list", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == list(IMPORTERS)
    assert main(["import", "jsonl", "--help", "--json"]) == 0
    assert "text_vectors" in json.loads(capsys.readouterr().out)["options"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["meld"], "joyful import needs SOURCE"),
        (["meld", "here"], "joyful import needs --out"),
        (["--overwrite"], "joyful import needs FORMAT"),
        (["mled", "--help"], "unknown format mled; did you mean meld?"),
    ],
)
def test_what_is_missing_is_named(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_an_importer_of_your_own_is_described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "described_importer.py").write_text(
        'class Lines:\n    """Reads lines of SOURCE."""\n    options = {"encoding": "of the lines"}\n'
        "    def read(self, source, options): raise NotImplementedError\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["import", "described_importer:Lines", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Reads lines of SOURCE." in shown
    assert "encoding" in shown
