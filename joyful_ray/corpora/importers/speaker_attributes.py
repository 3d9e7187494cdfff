"""Adds attributes of the speakers, such as their gender, from a CSV file of your own.

Shapes: n = utterances of one conversation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from joyful_ray.corpora.importers.files import records_of
from joyful_ray.corpora.validation import Draft
from joyful_ray.errors import CorpusError
from joyful_ray.schema import ATTRIBUTE_NAME
from joyful_ray.storage import open_location

SPEAKER = "speaker"


@dataclass
class SpeakerTable:
    """A table of speakers and their attributes.

    Attributes:
        uri: the file.
        names: the attributes.
        by_speaker: values of each speaker, in the order of `names`; None is unknown.
        seen: speakers of the table that a draft had.
    """

    uri: str
    names: tuple[str, ...]
    by_speaker: Mapping[str, Sequence[str | None]]
    seen: set[str] = field(default_factory=set)

    def add_to(self, draft: Draft) -> None:
        """Give every utterance of a draft the attributes of its speaker; unknown speakers have None."""
        self.seen.update(name for name in draft.speakers if name in self.by_speaker)
        unknown = (None,) * len(self.names)
        values_n = [self.by_speaker.get(name, unknown) for name in draft.speakers]
        for index, name in enumerate(self.names):
            draft.speaker_attributes[name] = [values[index] for values in values_n]

    def check_was_used(self) -> dict[str, int]:
        """Count the speakers that the corpus has, and those that it has not.

        Raises:
            CorpusError: it has none of them.
        """
        if not self.seen:
            shown = ", ".join(list(self.by_speaker)[:3])
            raise CorpusError(f"{self.uri}: the corpus has none of its speakers ({shown}, …); check their names")
        return {"speakers": len(self.seen), "not_in_the_corpus": len(self.by_speaker) - len(self.seen)}


def read_speaker_table(uri: str, taken: Sequence[str] = ()) -> SpeakerTable:
    """Read a CSV file with a column `speaker`, and one for each attribute; an empty cell is unknown.

    Args:
        uri: a path or s3:// URI.
        taken: attributes that the data set has already.

    Raises:
        CorpusError: the file cannot be used; the message has the line and the reason.
    """
    place = open_location(uri)
    if not place.exists():
        raise CorpusError(f"there is no file of speaker attributes at {place.uri}")
    records = records_of(place)
    header = [cell.strip() for cell in next(records, (0, []))[1]]
    names = [name for name in header if name != SPEAKER]
    problem = _problem_of(names, taken)
    if header.count(SPEAKER) != 1 or not names:
        problem = f"expected a column {SPEAKER} and one for each attribute, such as gender"
    if problem:
        raise CorpusError(f"{place.uri}, line 1: {problem}")
    by_speaker: dict[str, list[str | None]] = {}
    for line, row in records:
        if len(row) != len(header):
            raise CorpusError(f"{place.uri}, line {line}: {len(row)} cells, the header has {len(header)}")
        cells = dict(zip(header, (cell.strip() for cell in row), strict=True))
        speaker = cells.pop(SPEAKER)
        if not speaker or speaker in by_speaker:
            reason = f"{speaker} has a line already" if speaker else "the speaker is empty"
            raise CorpusError(f"{place.uri}, line {line}: {reason}")
        by_speaker[speaker] = [cells[name] or None for name in names]
    if not by_speaker:
        raise CorpusError(f"{place.uri} has no speakers")
    return SpeakerTable(place.uri, tuple(names), by_speaker)


def _problem_of(names: Sequence[str], taken: Sequence[str]) -> str | None:
    for name in names:
        if not re.fullmatch(ATTRIBUTE_NAME, name):
            return f"{name!r} is not a name of lowercase letters, digits and _"
        if names.count(name) > 1:
            return f"the column {name} is there twice"
        if name in taken:
            return f"the data set has an attribute {name} already"
    return None
