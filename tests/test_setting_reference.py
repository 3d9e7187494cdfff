"""The reference of settings: complete, true, and current in jobs/SETTINGS.md."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from joyful_ray.cli import main
from joyful_ray.config import load_job, setting, setting_paths
from joyful_ray.errors import ConfigError
from joyful_ray.model_settings import PRESETS
from joyful_ray.setting_reference import all_settings, as_markdown, find_settings

ENTRIES = all_settings()
PAGE = Path(__file__).parents[1] / "jobs/SETTINGS.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == as_markdown(ENTRIES), "run: joyful config --list --markdown > jobs/SETTINGS.md"


def test_every_setting_is_there_with_its_meaning() -> None:
    assert {entry.path for entry in ENTRIES if "*" not in entry.path} == set(setting_paths(absent=True))
    assert len({entry.path for entry in ENTRIES}) == len(ENTRIES)
    assert [entry.path for entry in ENTRIES if not entry.meaning] == []


@pytest.mark.parametrize("preset", PRESETS)
def test_defaults_are_those_in_force(preset: str) -> None:
    job = load_job(None, [f"model.preset={preset}"])
    for entry in ENTRIES:
        if entry.path.split(".")[0] not in ("search", "study", "transfer") and "*" not in entry.path:
            value = setting(job, entry.path)
            shown = yaml.safe_load(entry.defaults[preset])
            assert (float(shown) if isinstance(value, float) else shown) == value, entry.path


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("train.epochs", "whole number ≥ 1"),
        ("train.learning_rate", "number > 0"),
        ("model.fusion.dropout", "number ≥ 0 and < 1"),
        ("graph.window_past", "whole number ≥ 0, or null"),
        ("train.optimizer", "`adam` or `adamw`"),
        ("data.modalities", "list of `text` or `audio` or `vision`, or null"),
        ("seed", "whole number ≥ 0 and < 2^63"),
        ("data.normalise", "`none` or `train` or `speaker` or `both`"),
    ],
)
def test_types_and_ranges_are_in_words(path: str, kind: str) -> None:
    assert next(entry.kind for entry in ENTRIES if entry.path == path) == kind


def test_a_pattern_is_a_part_of_a_path_or_a_glob() -> None:
    assert all("dropout" in entry.path for entry in find_settings("dropout"))
    assert [entry.path for entry in find_settings("train.epo*")] == ["train.epochs"]
    assert len(find_settings("model.fusion")) > 5
    with pytest.raises(ConfigError, match=r"no setting matches 'train.epoch_s'; did you mean train.epochs\?"):
        find_settings("train.epoch_s")


def test_what_a_mapping_holds_is_explained_too() -> None:
    kinds = {entry.path: entry.kind for entry in ENTRIES}
    assert kinds["search.space.*.uniform"] == "list of 2 × number, or null"
    assert kinds["search.space.*.int"] == "list of 2 × whole number, or null"
    assert kinds["transfer.corpora.*.label_map"] == "text"
    assert [entry.default for entry in ENTRIES if entry.path == "objective.extra_terms.*.weight"] == ["1"]
    assert len(find_settings("search.space.")) == 7


def test_the_command_fits_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--list"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert max(map(len, printed)) <= 80
    assert printed[-1] == f"{len(ENTRIES)} settings; change one with --set path=value"
    assert main(["config", "--list", "train.epochs"]) == 0
    shown = capsys.readouterr().out
    assert "joyful: 16, paper: 200, released: 50" in shown
    assert "1 setting;" in shown
    assert main(["config", "--list", "--markdown"]) == 0
    assert capsys.readouterr().out == PAGE.read_text()


@pytest.mark.parametrize(
    "arguments",
    [["--markdown"], ["--list", "--set", "seed=1"], ["--schema", "--list"], ["--schema", "jobs/meld.yaml"]],
)
def test_options_of_config_that_do_not_belong_together_are_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", *arguments]) == 2
    assert "joyful config --help" in capsys.readouterr().err
