from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from joyful_ray.config import (
    RENAMED,
    JobConfig,
    differences,
    load_job,
    merge,
    preset_settings,
    resolve,
    setting_paths,
    to_yaml,
)
from joyful_ray.errors import ConfigError
from joyful_ray.model_settings import PRESETS
from joyful_ray.tune.space import job_with


def sections_of(model: type[BaseModel]) -> list[type[BaseModel]]:
    """A section and all sections inside it, also those inside of unions, lists and mappings."""
    found: dict[type[BaseModel], None] = {model: None}
    waiting = [info.annotation for info in model.model_fields.values()]
    while waiting:
        annotation = waiting.pop(0)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            found |= dict.fromkeys(sections_of(annotation))
        waiting += get_args(annotation)
    return list(found)


def write(folder: Path, name: str, **settings: object) -> Path:
    place = folder / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(yaml.safe_dump(settings))
    return place


def test_every_setting_has_a_default() -> None:
    assert load_job() == resolve({}) == JobConfig.model_validate(preset_settings("joyful"))


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_resolves_and_names_only_real_settings(preset: str) -> None:
    job = resolve({"model": {"preset": preset}})
    assert job.model.preset == preset
    assert resolve(yaml.safe_load(to_yaml(job))) == job


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("objective.temprature=0.2", "unknown setting objective.temprature; did you mean objective.temperature?"),
        ("train.epoch=3", "unknown setting train.epoch; did you mean train.epochs?"),
        ("model.fusion.basis_vector=3", "did you mean model.fusion.basis_vectors?"),
        ("epochs=3", "unknown setting epochs; did you mean train.epochs?"),
        ("trian.epochs=3", "unknown setting trian; did you mean train?"),
        ("corpsu=x", "unknown setting corpsu; did you mean corpus?"),
        ("model.preset=joyfull", "model.preset is 'joyfull'; did you mean joyful?"),
        ("model.fusionn.kind=x", "unknown setting model.fusionn; did you mean model.fusion?"),
    ],
)
def test_a_typo_is_answered_with_the_nearest_setting(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_job(overrides=[override])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epochs=0", "setting train.epochs is 0"),
        ("train.epochs=many", "setting train.epochs is 'many'"),
        ("objective.temperature=-1", "setting objective.temperature is -1"),
        ("train.learning_rate=.nan", "setting train.learning_rate is nan"),
        ("augment.first_view.edge_ratio=1.5", "setting augment.first_view.edge_ratio is 1.5"),
        ("model.context.kind=lstm", "setting model.context.kind is 'lstm'"),
        ("data.modalities=[]", "name each modality once, and at least one"),
        ("data.modalities=[text, text]", "name each modality once, and at least one"),
        ("data.modalities=[smell]", "setting data.modalities"),
        ("name=../escape", "setting name is '../escape'"),
        ("train=3", "setting train is 3"),
        ("seed=-1", "setting seed is -1"),
        (f"seed={2**63}", "setting seed is"),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_setting(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_job(overrides=[override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("override", ["train.epochs", "=3", "", "a: b"])
def test_an_override_without_a_setting_and_value_is_refused(override: str) -> None:
    with pytest.raises(ConfigError, match="is not of the form setting=value"):
        load_job(overrides=[override])


def test_an_override_whose_value_is_not_yaml_is_refused() -> None:
    with pytest.raises(ConfigError, match="the value is not YAML"):
        load_job(overrides=["data.modalities=[text"])


def test_later_overrides_win_and_values_are_yaml() -> None:
    job = load_job(
        overrides=["train.epochs=3", "graph.window_past=null", "data.modalities=[audio, text]", "train.epochs=4"]
    )
    assert job.train.epochs == 4
    assert job.graph.window_past is None
    assert job.data.modalities == ["audio", "text"]


def test_a_job_overrides_the_file_it_extends_which_overrides_the_preset(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", model={"preset": "released"}, train={"epochs": 7, "patience": 3})
    write(tmp_path, "deep/middle.yaml", extends="../base.yaml", train={"patience": 4})
    job = load_job(write(tmp_path, "job.yaml", extends="deep/middle.yaml", seed=2), ["train.epochs=9"])
    assert (job.train.epochs, job.train.patience, job.seed) == (9, 4, 2)
    assert job.train.learning_rate == 3e-5, "of the preset"


def test_a_preset_on_the_command_line_does_not_override_the_file(tmp_path: Path) -> None:
    job = load_job(write(tmp_path, "job.yaml", train={"learning_rate": 0.5}), ["model.preset=released"])
    assert job.train.learning_rate == 0.5
    assert job.objective.temperature == 0.2


def test_a_file_that_extends_itself_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", extends="b.yaml")
    with pytest.raises(ConfigError, match="extends itself"):
        load_job(write(tmp_path, "b.yaml", extends="a.yaml"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "is not YAML"),
        ("seed: 1\nseed: 2", "seed appears twice"),
        ("train: {epochs: 3, epochs: 4}", "epochs appears twice"),
        ("seed: 2020-13-45", "is not YAML"),
        ("[" * 5000, "is not YAML"),
        ("- 1", "contains a list, not a mapping"),
        ("\xff", "contains a str"),
    ],
)
def test_a_file_that_is_not_a_job_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "job.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_job(tmp_path / "job.yaml")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no job file at"):
        load_job(tmp_path / "job.yaml")
    with pytest.raises(ConfigError, match="no job file at"):
        load_job(write(tmp_path, "job.yaml", extends="nowhere.yaml"))


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("")
    assert load_job(tmp_path / "job.yaml") == load_job()


@pytest.mark.parametrize(
    "overrides",
    [
        ["model.fusion.global_branch=false", "model.fusion.specific_branch=false"],
        ["train.stages=two-phase", "train.fusion_epochs=5", "train.epochs=5"],
        ["objective.contrast_pairs=original", "augment.classify=views"],
        ["train.stages=two-phase", "model.fusion.kind=concatenation"],
        ["train.stages=two-phase", "train.fusion_target=terms", "objective.fusion_weight=0"],
        ["train.stages=two-phase", "train.fusion_target=terms", "objective.specific_reconstruction=false"],
        [
            "train.stages=two-phase",
            "train.fusion_target=terms",
            "objective.global_reconstruction=false",
            "objective.smoothing=false",
        ],
    ],
)
def test_settings_that_contradict_each_other_are_refused(overrides: list[str]) -> None:
    with pytest.raises(ConfigError):
        load_job(overrides=overrides)


def test_a_resolved_job_written_as_yaml_is_the_same_job() -> None:
    job = load_job(overrides=["train.epochs=3", "graph.window_past=null", "seed=4"])
    assert resolve(yaml.safe_load(to_yaml(job))) == job


def test_the_fingerprint_depends_on_what_determines_the_result() -> None:
    job = load_job()
    for same in (["name=x"], ["storage=y"], ["corpus=z"], ["cluster.workers=4"]):
        assert load_job(overrides=same).fingerprint == job.fingerprint
    for other in (["seed=1"], ["train.epochs=3"], ["data.dev_fraction=0.2"], ["model.preset=paper"]):
        assert load_job(overrides=other).fingerprint != job.fingerprint


def test_differences_name_the_settings() -> None:
    left, right = load_job(), load_job(overrides=["seed=1", "augment.first_view.edge_ratio=0.3"])
    assert differences(left, left) == []
    assert differences(left, right) == ["seed: 0 -> 1", "augment.first_view.edge_ratio: 0.2 -> 0.3"]


@pytest.mark.parametrize("preset", PRESETS)
def test_setting_a_setting_to_its_present_value_changes_nothing(preset: str) -> None:
    job = resolve({"model": {"preset": preset}})
    for path in setting_paths():
        value: object = job.model_dump(mode="json")
        for part in path.split("."):
            assert isinstance(value, dict)
            value = value[part]
        if path not in ("model.preset", "train.epochs"):  # who names epochs gets exactly these, whatever min_steps is
            assert load_job(overrides=[f"model.preset={preset}", f"{path}={json.dumps(value)}"]) == job, path


def test_merging_changes_neither_tree() -> None:
    below, above = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 9}, "d": {"e": 1}}
    assert merge(below, above) == {"a": {"b": 9, "c": 2}, "d": {"e": 1}}
    assert below == {"a": {"b": 1, "c": 2}, "d": 3}
    assert above == {"a": {"b": 9}, "d": {"e": 1}}


def test_every_setting_can_be_reached_by_its_path() -> None:
    job = load_job()
    for path in setting_paths():
        value: object = job
        for part in path.split("."):
            value = getattr(value, part)
        assert not isinstance(value, BaseModel), path


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_job().train.epochs = 3  # type: ignore[misc]


def test_the_schema_for_editors_explains_settings() -> None:
    schema = JobConfig.model_json_schema()
    assert schema["additionalProperties"] is False
    assert "speaker" in schema["$defs"]["GraphConfig"]["properties"]["relations"]["description"]


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_setting_under_its_old_name_is_refused_with_the_new_one(old: str, new: str) -> None:
    with pytest.raises(ConfigError, match=f"setting {re.escape(old)} is now called {re.escape(new)}"):
        load_job(None, ["search.space={seed: {choice: [0]}}"] * old.startswith("search.") + [f"{old}=1"])


@pytest.mark.parametrize("section", sections_of(JobConfig), ids=lambda section: section.__name__)
def test_every_setting_says_what_it_does_in_at_most_three_lines(section: type[BaseModel]) -> None:
    """SETTINGS.md and `joyful config --list` print these descriptions."""
    for name, info in section.model_fields.items():
        if isinstance(info.default, BaseModel) and name != "confirm":
            continue  # a section, which its class describes
        assert info.description, f"{section.__name__}.{name} has no docstring"
        assert info.description.endswith("."), f"{section.__name__}.{name}: end the sentence"
        assert len(info.description.splitlines()) <= 3, f"{section.__name__}.{name}: say it shorter"


def test_who_names_the_epochs_gets_exactly_these_unless_he_names_steps_too(tmp_path: Path) -> None:
    default = load_job()
    assert default.train.min_steps > 0
    file = tmp_path / "job.yaml"
    file.write_text("train: {epochs: 3}")
    assert load_job(file).train.min_steps == 0
    child = tmp_path / "child.yaml"
    child.write_text("extends: job.yaml\ntrain: {patience: 2}")
    assert load_job(child).train.min_steps == 0
    assert load_job(file, ["train.min_steps=70"]).train.min_steps == 70
    assert load_job(default, [("train.epochs", 3)]).train.min_steps == 0
    assert load_job(default, ["train.patience=3"]).train.min_steps == default.train.min_steps
    assert job_with(default, {"train.epochs": 3}).train.min_steps == 0


def test_a_range_of_workers_is_taken_apart() -> None:
    cluster = load_job(None, ["cluster.workers={min: 2, max: 8}"]).cluster
    assert (cluster.workers, cluster.min_workers, cluster.least_workers, cluster.worker_range) == (8, 2, 2, (2, 8))
    plain = load_job(None, ["cluster.workers=3"]).cluster
    assert (plain.workers, plain.min_workers, plain.least_workers, plain.worker_range) == (3, None, 3, 3)
    again = resolve(yaml.safe_load(to_yaml(load_job(None, ["cluster.workers={min: 2, max: 8}"]))))
    assert again.cluster == cluster


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("cluster.workers={min: 2}", r"workers is a number, or \{min: …, max: …\}"),
        ("cluster={workers: 2, min_workers: 3}", "min_workers is 3, more than workers, 2"),
        ("cluster.workers={min: 9, max: 8}", "min_workers is 9, more than workers, 8"),
        ("cluster.workers={min: 0, max: 8}", "min_workers"),
    ],
)
def test_an_impossible_range_of_workers_is_refused(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_job(None, [setting])


@pytest.mark.parametrize(
    ("workers", "is_valid"),
    [(2, True), ({"min": 2, "max": 8}, True), ({"min": 2}, False), ({"min": 0, "max": 2}, False), ("two", False)],
)
def test_the_schema_takes_the_numbers_of_workers_that_the_loader_takes(workers: Any, is_valid: bool) -> None:
    tree = {"corpus": "corpus", "cluster": {"workers": workers}}
    assert Draft202012Validator(JobConfig.model_json_schema()).is_valid(tree) == is_valid
    try:
        resolve(tree)
    except ConfigError:
        assert not is_valid
    else:
        assert is_valid
