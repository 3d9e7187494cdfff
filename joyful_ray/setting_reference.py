"""The reference of all settings: path, type, range, meaning, and the default in force under each preset.

Everything comes from the schema: types and ranges from the fields, meanings from their docstrings.
"""

from __future__ import annotations

import fnmatch
import json
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from joyful_ray.components import PATTERN
from joyful_ray.config import JobConfig, nearest, resolve, setting
from joyful_ray.errors import ConfigError
from joyful_ray.model_settings import PRESETS

WORDS: Mapping[type, str] = {bool: "true or false", int: "whole number", float: "number", str: "text"}
LARGE = 2**20
BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


@dataclass(frozen=True)
class SettingEntry:
    """One setting as people read it.

    Attributes:
        path: dotted path, as `--set` takes it.
        kind: type and range.
        meaning: one or two sentences.
        defaults: by preset, as YAML would write it.
    """

    path: str
    kind: str
    meaning: str
    defaults: Mapping[str, str]

    @property
    def section(self) -> str:
        """Everything before the last dot; empty for a setting at the top."""
        return self.path.rpartition(".")[0]

    @property
    def default(self) -> str:
        """The default in one text: one value if all presets agree, else one per preset."""
        if len(set(self.defaults.values())) == 1:
            return next(iter(self.defaults.values()))
        return ", ".join(f"{preset}: {value}" for preset, value in self.defaults.items())


def all_settings() -> list[SettingEntry]:
    """Every setting, in the order of the schema."""
    jobs = {preset: resolve({"model": {"preset": preset}}) for preset in PRESETS}
    return [
        SettingEntry(
            path=path,
            kind=kind_of(info),
            meaning=" ".join((info.description or "").split()),
            defaults={preset: _default(job, path, info) for preset, job in jobs.items()},
        )
        for path, info in _fields(JobConfig, "")
    ]


def find_settings(pattern: str) -> list[SettingEntry]:
    """Settings whose path matches a pattern with `*` and `?`, or contains the text, or begins with the section.

    Raises:
        ConfigError: none does; the message names the nearest.
    """
    entries = all_settings()
    is_glob = any(sign in pattern for sign in "*?[")
    found = [
        entry
        for entry in entries
        if (fnmatch.fnmatchcase(entry.path, pattern) if is_glob else pattern.lower() in entry.path.lower())
    ]
    if not found:
        raise ConfigError(f"no setting matches {pattern!r}; {nearest(pattern, [entry.path for entry in entries])}")
    return found


def as_markdown(entries: Sequence[SettingEntry]) -> str:
    """The page `jobs/SETTINGS.md`."""
    lines = [
        "# Settings",
        "",
        "Every setting of a job file, generated from the schema by `joyful config --list --markdown`. Set one in the",
        "file, or with `--set path=value` on the command line. The default is the value in force under each preset",
        "(`model.preset`); one value means that all three presets agree. `*` stands for a name that you choose.",
        "",
    ]
    sections = list(dict.fromkeys(entry.section for entry in entries))
    lines += [f"- [{name or 'top level'}](#{_anchor(name or 'top level')})" for name in sections]
    for name in sections:
        lines += [
            "",
            f"## {name or 'top level'}",
            "",
            "| setting | type and range | default | meaning |",
            "|---|---|---|---|",
        ]
        for entry in entries:
            if entry.section == name:
                cells = (f"`{entry.path}`", entry.kind, _marked(entry), entry.meaning)
                lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def kind_of(info: FieldInfo) -> str:
    """Type and range of a field in words."""
    bounds = [
        f"{sign} {_number(getattr(rule, name))}"
        for rule in info.metadata
        for name, sign in BOUNDS.items()
        if getattr(rule, name, None) is not None
    ]
    text = _type(info.annotation)
    if not bounds:
        return text
    head, separator, tail = text.partition(", or null")
    return f"{head} {' and '.join(bounds)}{separator}{tail}"


def _number(value: float) -> str:
    is_large_power = isinstance(value, int) and value > LARGE and value & (value - 1) == 0
    return f"2^{int(value).bit_length() - 1}" if is_large_power else f"{value:g}"


def _type(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        is_path = any(getattr(rule, "pattern", None) == PATTERN for rule in arguments[1:])
        return "an import path" if is_path else _type(arguments[0])
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (Union, types.UnionType):
        kinds = [_type(each) for each in arguments if each is not type(None)]
        return " or ".join(dict.fromkeys(kinds)) + (", or null" if type(None) in arguments else "")
    if origin is list:
        return f"list of {_type(arguments[0])}"
    if origin is tuple:
        return f"list of {len(arguments)} × {_type(arguments[0])}"
    if origin is dict:
        return "mapping by name"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    return WORDS.get(annotation, "any value")


def _fields(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    """Paths and fields below a section; `*` stands for the names of a mapping, such as the settings of a search."""
    for name, info in model.model_fields.items():
        path = prefix + (info.alias or name)
        sections = [each for each in _parts(info.annotation) if _is_section(each)]
        is_mapping = get_origin(info.annotation) is dict
        if is_mapping or not sections:
            yield path, info
        for section in sections:
            yield from _fields(section, f"{path}.*." if is_mapping else f"{path}.")


def _parts(annotation: Any) -> Iterator[Any]:
    """An annotation, and all annotations inside of it except those in a list."""
    yield annotation
    if get_origin(annotation) is not list:
        for part in get_args(annotation):
            yield from _parts(part)


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _default(job: JobConfig, path: str, info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    value = None if "*" in path else setting(job, path)
    if value is None and ("*" in path or path.split(".")[0] in ("search", "study", "transfer")):
        value = info.get_default(call_default_factory=True)
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, default=lambda each: each.model_dump(mode="json"))


def _marked(entry: SettingEntry) -> str:
    if len(set(entry.defaults.values())) == 1:
        return f"`{entry.default}`"
    return ", ".join(f"{preset}: `{value}`" for preset, value in entry.defaults.items())


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
