"""What the sections of a job have in common: frozen, no unknown keys, and components of the user with their options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from joyful_ray.components import ComponentPath, is_component, resolved_options
from joyful_ray.errors import ConfigError


class Section(BaseModel):
    """Settings that belong together."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class ComponentSection(Section):
    """A section whose `kind` may be the import path of a component of your own."""

    role: ClassVar[str]

    kind: str
    options: dict[str, Any] = {}
    """Settings of a component of your own, if `kind` is an import path; the class itself defines them."""

    @model_validator(mode="before")
    @classmethod
    def _resolve_options(cls, values: Any) -> Any:
        """Check the options against the component's own settings, and add their defaults."""
        kind, options = (values.get("kind"), values.get("options", {})) if isinstance(values, Mapping) else (None, {})
        if not isinstance(options, Mapping) or not isinstance(kind, str):
            return values
        if not is_component(kind):
            if options:
                raise ValueError(f"options belong to a kind of your own, not to {kind}")
            return values
        try:
            return {**values, "options": resolved_options(kind, cls.role, options)}
        except ConfigError as error:
            raise ValueError(str(error)) from None


class TermConfig(ComponentSection):
    """A term of the objective of your own."""

    role: ClassVar[str] = "term"

    kind: ComponentPath
    """Import path of the class."""
    weight: float = Field(1.0, ge=0.0)
    """Weight of the term in the joint loss."""
