"""The base of every record, and the functions that read records back from JSON."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from joyful_ray.errors import CheckpointError


class Record(BaseModel):
    """A frozen model that refuses unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


RecordType = TypeVar("RecordType", bound=Record)


def read_as(kind: type[RecordType], text: str, *, place: str) -> RecordType:
    """Read one record from JSON that this project wrote.

    Args:
        kind: class of the record.
        text: the JSON.
        place: file, and line number if the file has several records; it appears in the error message.

    Raises:
        CheckpointError: the JSON is damaged, or was written by another version.
    """
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"])
        reason = f"{field}: {problem['msg']}" if field else problem["msg"]
        raise CheckpointError(f"{place} is damaged, or was written by another version ({reason})") from None


def read_lines_as(kind: type[RecordType], text: str, *, place: str) -> list[RecordType]:
    """Read one record per line, each with `read_as`; an incomplete last line (no newline) is skipped."""
    lines = text.split("\n")[:-1]
    return [read_as(kind, line, place=f"{place}:{number}") for number, line in enumerate(lines, start=1) if line]
