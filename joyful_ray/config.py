"""A job and all its settings: reading YAML with `extends`, `--set a.b=c`, validation, and the fingerprint.

Later sources override earlier ones: the defaults in the code, the preset of the method, the files that `extends` names,
    the job file itself, `--set`.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import types
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from joyful_ray.compatibility import check_compatible
from joyful_ray.components import is_component, load_component, source_hash
from joyful_ray.errors import ConfigError
from joyful_ray.graph_settings import AugmentConfig, GraphConfig
from joyful_ray.model_settings import PRESETS, ModelConfig
from joyful_ray.schema import Task
from joyful_ray.search_settings import RANGE_KEYS, SearchConfig
from joyful_ray.sections import Section
from joyful_ray.settings import ClusterConfig, DataConfig, ObjectiveConfig, TrainConfig
from joyful_ray.study_settings import StudyConfig
from joyful_ray.transfer_settings import TransferConfig

NOT_YAML = (yaml.YAMLError, ValueError, RecursionError)
"""Exceptions that parsing YAML raises; an impossible date and bytes that are not text raise ValueError."""
UNION_TAGS = ("range", "constant")
"""Tags that pydantic inserts into the error path of an entry of `search.space`."""
RENAMED = {
    "model.stand_ins": "model.missing_embeddings",
    "model.words": "model.ngrams",
    "model.never_used_layers": "model.unused_layers",
    "train.weight_average": "train.ema_decay",
    "search.confirm.draws": "search.confirm.bootstrap_samples",
}
"""Old names of settings and sections, each with its present name."""
UNION_MEMBERS = ("literal[", "constrained-str")
"""How pydantic marks the alternatives of a setting that takes a name or an import path."""
HOW_OFTEN_SAVED = ("train.checkpoint_every_steps", "train.checkpoint_every_minutes")
"""Settings of `train` that change no result."""
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class JobConfig(Section):
    """One experiment: all settings of a run, a search or a transfer table."""

    name: str = Field("run", pattern=NAME_PATTERN)
    """Name of the run, and of its folder under `storage`: letters, digits, `.`, `_` and `-`."""
    corpus: str | None = None
    """Path or s3:// URI of the corpus; null in a job that names none, which then needs `--set corpus=PATH` to train."""
    storage: str = "runs"
    """Path or s3:// URI of the folder that runs are written to."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Seed of the weights, the order of the data, and every random draw in training."""
    task: Task | None = None
    """`single-label`, `multi-label` or `regression`; null takes the task of the corpus, and another value must agree
    with it."""
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    graph: GraphConfig = GraphConfig()
    augment: AugmentConfig = AugmentConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    train: TrainConfig = TrainConfig()
    cluster: ClusterConfig = ClusterConfig()
    transfer: TransferConfig | None = None
    """The transfer table that `joyful transfer` computes; null in other jobs."""
    search: SearchConfig | None = None
    """The search that `joyful search` runs; null in other jobs. A job with this section cannot be trained as a single
    run."""
    study: StudyConfig | None = None
    """The study that `joyful study` runs; null in other jobs."""

    @model_validator(mode="after")
    def _fits_together(self) -> JobConfig:
        check_compatible(
            data=self.data, model=self.model, augment=self.augment, objective=self.objective, train=self.train
        )
        return self

    @property
    def components(self) -> dict[str, str]:
        """Import paths of the user's own components of the model and the objective, by the setting that names them."""
        model = self.model
        kinds = {f"model.{name}": getattr(model, name).kind for name in ("fusion", "context", "encoder")}
        kinds |= {f"objective.extra_terms.{name}": term.kind for name, term in self.objective.extra_terms.items()}
        return {path: kind for path, kind in kinds.items() if is_component(kind)}

    def component_hashes(self) -> dict[str, str]:
        """sha256 of the source file of each component, by import path."""
        for path, kind in self.components.items():
            load_component(kind, path.split(".")[1] if path.startswith("model.") else "term")
        return {kind: source_hash(kind) for kind in self.components.values()}

    @property
    def fingerprint(self) -> str:
        """Hash of the settings that determine a result, which name, storage, cluster and corpus path do not."""
        irrelevant = {"name", "storage", "cluster", "corpus", "transfer", "search", "study"}
        relevant = self.model_dump(mode="json", exclude=irrelevant)
        for path in HOW_OFTEN_SAVED:
            del relevant["train"][path.removeprefix("train.")]
        return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()[:16]


def load_job(
    source: str | Path | Mapping[str, Any] | JobConfig | None = None,
    overrides: Sequence[str | tuple[str, Any]] | None = None,
) -> JobConfig:
    """Read a job, merge it over its preset and the files it extends, and apply `--set` overrides.

    Args:
        source: YAML file; a mapping with the same keys, whose `extends` is relative to the working directory; a job
            that is loaded already; None uses only the defaults.
        overrides: strings of the form `a.b=value`, whose value is read as YAML, or pairs `("a.b", value)`.

    Raises:
        ConfigError: a file is missing or not YAML, a setting is unknown or out of range, or the overrides change the
            preset of a job that is loaded already, which is below its other settings.
    """
    if isinstance(source, JobConfig):
        settings = source.model_dump(mode="json")
    elif isinstance(source, Mapping):
        settings = _with_parents(dict(source), Path(), ())
    else:
        settings = _read_with_extends(Path(source), ()) if source is not None else {}
    for each in overrides or []:
        settings = merge(settings, with_exact_epochs(_override(each)))
    job = resolve(settings)
    if isinstance(source, JobConfig) and job.model.preset != source.model.preset:
        raise ConfigError("model.preset cannot change in a job that is loaded; load the job again with it")
    return job


def resolve(settings: Mapping[str, Any]) -> JobConfig:
    """Merge settings over their preset, and validate them.

    Raises:
        ConfigError: a setting is unknown or out of range; the message has its path and the nearest valid one.
    """
    model = settings.get("model")
    preset = model.get("preset", "joyful") if isinstance(model, Mapping) else "joyful"
    if preset not in PRESETS:
        raise ConfigError(f"model.preset is {preset!r}; {nearest(str(preset), list(PRESETS))}")
    try:
        return JobConfig.model_validate(merge(preset_settings(preset), settings))
    except ValidationError as error:
        raise ConfigError(first_problem(error)) from None


def preset_settings(preset: str) -> dict[str, Any]:
    """The settings of one preset."""
    text = resources.files("joyful_ray").joinpath("presets", f"{preset}.yaml").read_text()
    return yaml.safe_load(text) or {}


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a key that appears twice; plain YAML would silently take the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key} appears twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(text: str) -> Any:
    """Parse YAML; raises one of `NOT_YAML`, also if a key appears twice."""
    return yaml.load(text, _UniqueKeyLoader)


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Merge one tree of settings over another; neither is modified."""
    merged = dict(below)
    for key, value in above.items():
        lower = merged.get(key)
        merged[key] = merge(lower, value) if isinstance(lower, Mapping) and isinstance(value, Mapping) else value
    return merged


def setting_paths(model: type[BaseModel] = JobConfig, prefix: str = "", *, absent: bool = False) -> Iterator[str]:
    """The dotted path of every setting.

    Args:
        model: section to list.
        prefix: prepended to every path.
        absent: include sections that may be null.
    """
    for name, info in model.model_fields.items():
        kind = _section_of(info.annotation, absent)
        if kind is not None:
            yield from setting_paths(kind, f"{prefix}{name}.", absent=absent)
        else:
            yield prefix + name


def _section_of(annotation: Any, absent: bool) -> type[BaseModel] | None:
    kinds = get_args(annotation) if absent and isinstance(annotation, types.UnionType) else (annotation,)
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def to_yaml(job: JobConfig) -> str:
    """The resolved job as YAML, with every setting written out."""
    return yaml.safe_dump(job.model_dump(mode="json"), sort_keys=False, width=120)


def differences(left: JobConfig, right: JobConfig) -> list[str]:
    """The settings in which two jobs differ, each as `path: left -> right`."""
    return [
        f"{path}: {setting(left, path)!r} -> {setting(right, path)!r}"
        for path in setting_paths()
        if setting(left, path) != setting(right, path)
    ]


def setting(job: BaseModel, path: str) -> Any:
    """The value at a dotted path; None if a section on the way is null."""
    value: Any = job
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None if value is None else getattr(value, part)
    return value


def _read_with_extends(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"there is no job file at {path}")
    if path.resolve() in seen:
        raise ConfigError(f"{path} extends itself")
    try:
        settings = read_yaml(path.read_text()) or {}
    except NOT_YAML as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(settings, dict):
        raise ConfigError(f"{path} contains a {type(settings).__name__}, not a mapping of settings")
    return _with_parents(settings, path.parent, (*seen, path.resolve()))


def with_exact_epochs(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as someone wrote them: who names `train.epochs` and not `train.min_steps` gets exactly these epochs."""
    train = settings.get("train")
    if isinstance(train, Mapping) and "epochs" in train and "min_steps" not in train:
        return {**settings, "train": {**train, "min_steps": 0}}
    return settings


def _with_parents(settings: dict[str, Any], folder: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    parent = settings.pop("extends", None)
    settings = with_exact_epochs(settings)
    if parent is None:
        return settings
    return merge(_read_with_extends(folder / str(parent), seen), settings)


def _override(given: str | tuple[str, Any]) -> dict[str, Any]:
    path, tree = given if isinstance(given, tuple) else _parsed_override(given)
    for part in reversed(path.strip().split(".")):
        tree = {part: tree}
    return tree


def _parsed_override(text: str) -> tuple[str, Any]:
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        raise ConfigError(f"--set {text!r} is not of the form setting=value")
    try:
        return path, read_yaml(value)
    except NOT_YAML:
        raise ConfigError(f"--set {text!r}: the value is not YAML") from None


def first_problem(error: ValidationError) -> str:
    """The first problem that pydantic found, in one line that names the setting."""
    problem = error.errors()[0]
    parts = [str(part) for part in problem["loc"] if part not in UNION_TAGS]
    path = ".".join(part for part in parts if not part.startswith(UNION_MEMBERS))
    if problem["type"] == "extra_forbidden" and path.startswith("search.space."):
        place, _, wrong = path.rpartition(".")
        return f"{place}: unknown range {wrong}; {nearest(wrong, list(RANGE_KEYS))}"
    if problem["type"] == "extra_forbidden" and path in RENAMED:
        return f"setting {path} is now called {RENAMED[path]}"
    if problem["type"] == "extra_forbidden":
        settings = list(setting_paths(absent=True))
        sections = {part.rpartition(".")[0] for part in settings} - {""}
        return f"unknown setting {path}; {nearest(path, settings + sorted(sections))}"
    message = problem["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if not path or is_component(str(_kind_of(problem["input"]))):
        return f"{path}: {message}" if path else message
    if any(str(part).startswith(UNION_MEMBERS) for part in problem["loc"]):
        message += ", or an import path such as my_package.module:Class"
    return f"setting {path} is {problem['input']!r}: {message}"


def _kind_of(section: Any) -> Any:
    return section.get("kind", section.get("scheduler", "")) if isinstance(section, Mapping) else ""


def nearest(wrong: str, valid: list[str]) -> str:
    """Advice for an unknown name: the nearest valid one, or else the first few."""
    close = difflib.get_close_matches(wrong, valid, n=1, cutoff=0.5)
    if not close:
        last = wrong.rsplit(".", 1)[-1]
        close = [path for path in valid if path.rsplit(".", 1)[-1] == last][:1]
    return f"did you mean {close[0]}?" if close else f"valid: {', '.join(valid[:8])}{', …' if len(valid) > 8 else ''}"
