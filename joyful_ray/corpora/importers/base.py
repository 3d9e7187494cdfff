"""Importers, and what they return."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from joyful_ray.corpora.validation import Draft
from joyful_ray.errors import ConfigError, CorpusError, UserError
from joyful_ray.schema import FeatureContract, Modality, Split, Task
from joyful_ray.storage import Location

COMMON_OPTIONS = {
    "name": "name of the corpus in its manifest",
    "speaker_attributes": "a CSV file with a column `speaker` and one for each attribute, such as gender",
}


@dataclass
class ImportSource:
    """A data set that is being imported: entries of its manifest, and its conversations in order.

    Attributes:
        drafts: yields (split, draft); read once.
        utterances: number of utterances of all drafts, to show progress; None if it is unknown.
        speaker_attributes: names of the attributes that every draft has of its speakers.
        notes: entries of the manifest, written after the last draft; an importer may add to them until then.
    """

    name: str
    task: Task
    labels: list[str]
    modalities: dict[Modality, FeatureContract]
    drafts: Iterator[tuple[Split, Draft]]
    has_texts: bool = False
    speaker_attributes: Sequence[str] = ()
    utterances: int | None = None
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Importer:
    """Imports one format.

    Attributes:
        format: its name on the command line.
        summary: one line that says what it imports.
        read: function of the location of the files and the given options that reads the data set.
        options: name and meaning of each option.
        is_own: whether it is a class of the user.
    """

    format: str
    summary: str
    read: Callable[[Location, Mapping[str, str]], ImportSource]
    options: dict[str, str] = field(default_factory=dict)
    is_own: bool = False

    def open(self, source: Location, options: Mapping[str, str]) -> ImportSource:
        """Read a data set; conversations follow lazily.

        Raises:
            UserError: an option or a file cannot be used.
            CorpusError: an importer of your own failed, or did not return an ImportSource.
        """
        if not self.is_own:
            return self.read(source, options)
        with self._named():
            found = self.read(source, options)
        if not isinstance(found, ImportSource):
            raise CorpusError(f"importer {self.format} returned {type(found).__name__}, not an ImportSource")
        found.drafts = self._guarded(found.drafts)
        return found

    def _guarded(self, drafts: Iterator[tuple[Split, Draft]]) -> Iterator[tuple[Split, Draft]]:
        with self._named():
            for draft in drafts:
                if not (isinstance(draft, tuple) and len(draft) == 2 and isinstance(draft[1], Draft)):
                    raise CorpusError(f"importer {self.format} yielded {draft!r:.60}, not a pair of split and Draft")
                yield draft

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # any error in the user's code is a fault of the importer, and the message says so
            raise CorpusError(f"importer {self.format} failed: {type(error).__name__}: {error}") from error

    @property
    def description(self) -> str:
        """What the files look like: the docstring of the module, or of the user's class, that reads them."""
        owner = getattr(self.read, "__self__", None)
        text = inspect.getdoc(owner) if owner is not None else inspect.getdoc(inspect.getmodule(self.read))
        return text or self.summary

    @property
    def all_options(self) -> dict[str, str]:
        """Every option and what it sets."""
        return {**COMMON_OPTIONS, **self.options}

    def check_options(self, given: Mapping[str, str]) -> None:
        """Check that the format has these options.

        Raises:
            ConfigError: it does not; the message names the nearest one.
        """
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
        raise ConfigError(f"option {name} is {pattern!r}; only {{split}} may be in braces") from None


def nearest(name: str, known: Iterable[str]) -> str:
    """`did you mean X?` if a known name is similar, otherwise the list of all."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}"
