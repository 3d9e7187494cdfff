"""What an importer is, and what it hands over."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from joyful_ray.corpora.validation import Draft
from joyful_ray.errors import ConfigError
from joyful_ray.schema import FeatureContract, Modality, Split, Task
from joyful_ray.storage import Location

NAME_OPTION = {"name": "the corpus's name in its manifest"}


@dataclass
class ImportSource:
    """A published data set as read: what its manifest will say, and its conversations in order.

    Attributes:
        drafts: yields (split, draft); read once.
        notes: goes into the manifest when all drafts are read, so an importer may fill it while they are.
    """

    name: str
    task: Task
    labels: list[str]
    modalities: dict[Modality, FeatureContract]
    drafts: Iterator[tuple[Split, Draft]]
    has_texts: bool = False
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Importer:
    """One format.

    Attributes:
        options: name and what it sets, for `--help` and for messages.
        read: (where the files are, the options given) -> a Source.
    """

    format: str
    summary: str
    read: Callable[[Location, Mapping[str, str]], ImportSource]
    options: dict[str, str] = field(default_factory=dict)

    @property
    def description(self) -> str:
        """What the files look like: the docstring of the module, or of the user's class, that reads them."""
        owner = getattr(self.read, "__self__", None)
        text = inspect.getdoc(owner) if owner is not None else inspect.getdoc(inspect.getmodule(self.read))
        return text or self.summary

    @property
    def all_options(self) -> dict[str, str]:
        """Every option and what it sets."""
        return {**NAME_OPTION, **self.options}

    def check_options(self, given: Mapping[str, str]) -> None:
        """Raise ConfigError for an option that this format does not have, naming the nearest one."""
        known = self.all_options
        for name, value in given.items():
            if name not in known:
                raise ConfigError(f"unknown option {name} of format {self.format}; " + nearest(name, known))
            if name.endswith("_vectors"):
                _check_pattern(name, value)


def _check_pattern(name: str, pattern: str) -> None:
    try:
        pattern.format(split="train")
    except (LookupError, ValueError, AttributeError):
        raise ConfigError(f"option {name} is {pattern!r}; only {{split}} may stand in braces") from None


def nearest(name: str, known: Iterable[str]) -> str:
    """`did you mean X?` where something is near, else the list of all."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]}?" if close else f"known are {', '.join(names)}"
