"""A label map translates the labels of one corpus into those of another, and forgets no label of either side.

    from: {name: meld, labels: [neutral, surprise, fear, sadness, joy, disgust, anger]}
    to: {name: iemocap-4way, labels: [happy, sad, neutral, angry]}
    map: {neutral: neutral, joy: happy, sadness: sad, anger: angry}
    drop: {from: [surprise, fear, disgust], to: []}

`from` has the labels of a model or a corpus, `to` those of the corpus to score or to write. Several labels may map to
one. A label without a counterpart must be in `drop`, so that leaving it out is a decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from joyful_ray.config import NOT_YAML, read_yaml
from joyful_ray.corpora.importers.base import nearest
from joyful_ray.errors import ConfigError
from joyful_ray.storage import open_location


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Side(_Part):
    """The labels of one side, and the name of their corpus."""

    name: str
    labels: list[str] = Field(min_length=1)

    @field_validator("labels")
    @classmethod
    def _named_once(cls, labels: list[str]) -> list[str]:
        twice = next((label for label in labels if labels.count(label) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice!r} is named twice")
        return labels


class Dropped(_Part):
    """Labels without a counterpart."""

    source: list[str] = Field([], alias="from")
    target: list[str] = Field([], alias="to")


class LabelMap(_Part):
    """Maps or drops every label of `from`, and reaches or drops every label of `to`."""

    source: Side = Field(alias="from")
    target: Side = Field(alias="to")
    map: dict[str, str]
    drop: Dropped = Dropped()

    @model_validator(mode="after")
    def _forgets_nothing(self) -> LabelMap:
        sides = (
            ("from", self.source.labels, list(self.map), self.drop.source),
            ("to", self.target.labels, list(self.map.values()), self.drop.target),
        )
        for key, labels, mapped, dropped in sides:
            for name in [*mapped, *dropped]:
                if name not in labels:
                    raise ValueError(f"{name!r} is not a label of {key}; {nearest(name, labels)}")
            for name in labels:
                if name in mapped and name in dropped:
                    raise ValueError(f"{name!r} of {key} is both mapped and dropped")
                if name not in mapped and name not in dropped:
                    raise ValueError(f"{name!r} of {key} is missing; map it, or name it in drop: {{{key}: […]}}")
        return self

    @property
    def kept(self) -> list[str]:
        """The labels of `to` to which a label of `from` maps, in the order of `to`."""
        return [name for name in self.target.labels if name in self.map.values()]

    def check_source(self, labels: Sequence[str], *, whose: str) -> None:
        """Check that `from` has exactly these labels, in any order.

        Args:
            labels: the labels.
            whose: what has them, for the message.

        Raises:
            ConfigError: it does not; the message names the first difference.
        """
        _check_side("from", self.source, labels, whose)

    def check_target(self, labels: Sequence[str], *, whose: str) -> None:
        """Check that `to` has exactly these labels, in any order.

        Args:
            labels: the labels.
            whose: what has them, for the message.

        Raises:
            ConfigError: it does not; the message names the first difference.
        """
        _check_side("to", self.target, labels, whose)


def _check_side(key: str, side: Side, labels: Sequence[str], whose: str) -> None:
    missing = [name for name in labels if name not in side.labels]
    if missing:
        raise ConfigError(f"{key} ({side.name}) of the label map lacks {missing[0]!r}, a label of {whose}")
    unknown = [name for name in side.labels if name not in labels]
    if unknown:
        raise ConfigError(
            f"{key} ({side.name}) of the label map names {unknown[0]!r}, which is not a label of {whose}; "
            f"its labels are {', '.join(labels) or 'none'}"
        )


def read_label_map(uri: str) -> LabelMap:
    """Read a label map.

    Raises:
        ConfigError: it does not exist, is not YAML, or lacks a label, which the message names.
    """
    place = open_location(uri)
    if not place.exists():
        raise ConfigError(f"there is no label map at {place.uri}")
    try:
        content: Any = read_yaml(place.read_text())
    except NOT_YAML as error:
        raise ConfigError(f"{place.uri} is not YAML: {' '.join(str(error).split())}") from None
    try:
        return LabelMap.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"label map {place.uri}: {f'{where}: ' if where else ''}{message}") from None


def identity_map(name: str, labels: Sequence[str]) -> LabelMap:
    """A map from every label to itself."""
    side = {"name": name, "labels": list(labels)}
    return LabelMap.model_validate({"from": side, "to": side, "map": {label: label for label in labels}})
