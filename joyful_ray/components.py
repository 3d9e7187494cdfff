"""Components of the user, named by import path (`my_package.module:Class`), with their own settings.

A component is a class. Its settings are a pydantic model in the attribute `Settings`; a class without it takes none.
The class is imported from the working directory, or from where Python finds it. Nothing is unpickled.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from joyful_ray.errors import ConfigError

PATTERN = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$"
ComponentPath = Annotated[str, StringConstraints(pattern=PATTERN)]
"""An import path, `my_package.module:Class`."""
METHODS: Mapping[str, tuple[str, ...]] = {
    "fusion": ("forward",),
    "context": ("forward",),
    "encoder": ("embed", "refine"),
    "term": ("losses",),
    "scheduler": ("build",),
    "importer": ("read",),
    "callback": (),
}
"""By role, the methods that a component must have; joyful_ray/README.md describes them."""


class NoSettings(BaseModel):
    """The settings of a component that has none."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def is_component(kind: str) -> bool:
    """Whether a kind is an import path, and not the name of a built-in component."""
    return ":" in kind


def load_component(path: str, role: str) -> type[Any]:
    """Import a component.

    Args:
        path: `my_package.module:Class`.
        role: a key of `METHODS`.

    Raises:
        ConfigError: the module or class cannot be imported, or lacks what its role needs.
    """
    module_name, _, name = path.partition(":")
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(
            f"cannot import {module_name} of component {path}: {error}; it must be in the working directory, or "
            "installed"
        ) from None
    found = getattr(module, name, None)
    if found is None:
        classes = [each for each, value in vars(module).items() if isinstance(value, type) and not each.startswith("_")]
        raise ConfigError(f"{module_name} has no {name}; {_nearest(name, classes)}")
    if not isinstance(found, type):
        raise ConfigError(f"component {path} is a {type(found).__name__}, not a class")
    missing = [method for method in METHODS[role] if not callable(getattr(found, method, None))]
    if missing:
        raise ConfigError(f"component {path} cannot be a {role}: it has no method {missing[0]}")
    return found


def component_settings(path: str, role: str, options: Mapping[str, Any]) -> BaseModel:
    """A component's options as its own settings model.

    Raises:
        ConfigError: the component cannot be used, or an option is unknown or out of range.
    """
    model = getattr(load_component(path, role), "Settings", NoSettings)
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise ConfigError(f"{path}.Settings must be a pydantic model")
    unknown = [name for name in options if name not in model.model_fields]
    if unknown:
        raise ConfigError(f"unknown option {unknown[0]} of {path}; {_nearest(unknown[0], list(model.model_fields))}")
    try:
        return model.model_validate(dict(options))
    except ValidationError as error:
        problem = error.errors()[0]
        name = ".".join(str(part) for part in problem["loc"])
        raise ConfigError(f"option {name} of {path} is {problem['input']!r}: {problem['msg'].lower()}") from None


def resolved_options(path: str, role: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """All options of a component, defaults included, as JSON values."""
    return component_settings(path, role, options).model_dump(mode="json")


def build_component(path: str, role: str, options: Mapping[str, Any], *arguments: Any, **named: Any) -> Any:
    """Make a component: `Class(*arguments, settings, **named)`.

    Raises:
        ConfigError: the class cannot be used, or does not take these arguments.
    """
    kind, settings = load_component(path, role), component_settings(path, role, options)
    try:
        return kind(*arguments, settings, **named)
    except TypeError as error:
        raise ConfigError(f"component {path} cannot be built: {error}") from error


def source_hash(path: str) -> str:
    """sha256 of the file that defines a component; empty if it has none."""
    file = getattr(sys.modules.get(path.partition(":")[0]), "__file__", None)
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""


def _nearest(name: str, known: Iterable[str]) -> str:
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]}?"
    return f"it has {', '.join(names[:8])}" if names else "it has none"
