"""The ledger of a search: what happened, event by event, only ever added to. It is the truth; Ray's state is a cache.

In a folder it is one file, `ledger.jsonl`; in a bucket, where nothing can be appended to, one small object an event in
`ledger/`, which are listed and sorted.
"""

from __future__ import annotations

import os
import time
import uuid
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from joyful_ray.errors import CheckpointError
from joyful_ray.records import Scores
from joyful_ray.storage import Location

FILE, FOLDER = "ledger.jsonl", "ledger"
Role = Literal["search", "confirm"]
Outcome = Literal["finished", "stopped", "failed"]


class Event(BaseModel):
    """Something that happened.

    Attributes:
        at: seconds of the epoch, from the driver's clock.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: float = Field(default_factory=time.time)


class Opened(Event):
    """A sitting began: a command that works on the search."""

    kind: Literal["opened"] = "opened"
    session: int
    fingerprint: str
    corpus: str
    search: dict[str, Any]
    goals: list[str]


class Extended(Event):
    """More trials were asked for than `search.max_trials`."""

    kind: Literal["extended"] = "extended"
    trials: int


class Drawn(Event):
    """A trial was chosen.

    Attributes:
        number: its place in the order of draws; None of a trial that was not drawn here.
        config: what trials of the same settings share.
        origin: the search that it was merged from.
    """

    kind: Literal["drawn"] = "drawn"
    trial: str
    role: Role = "search"
    number: int | None = None
    config: str
    settings: dict[str, Any]
    seed: int
    origin: str | None = None


class Started(Event):
    """A trial began to run, or went on."""

    kind: Literal["started"] = "started"
    trial: str
    session: int


class Epoch(Event):
    """A trial ended an epoch.

    Attributes:
        dev: dev scores by name, and `loss`.
        seconds: of this epoch.
    """

    kind: Literal["epoch"] = "epoch"
    trial: str
    epoch: int
    dev: dict[str, float]
    train_loss: float
    seconds: float
    is_best: bool


class Changed(Event):
    """A trial went on from a copy of another one, with other settings (pbt)."""

    kind: Literal["changed"] = "changed"
    trial: str
    epoch: int
    source: str
    settings: dict[str, Any]


class Restarted(Event):
    """A trial's process was lost, and begun again."""

    kind: Literal["restarted"] = "restarted"
    trial: str
    reason: str


class Ended(Event):
    """A trial ended, for this reason."""

    kind: Literal["ended"] = "ended"
    trial: str
    outcome: Outcome
    reason: str


class Tested(Event):
    """The test split was read, for the chosen config."""

    kind: Literal["tested"] = "tested"
    trial: str
    scores: Scores


AnyEvent = Opened | Extended | Drawn | Started | Epoch | Changed | Restarted | Ended | Tested
_EVENT: TypeAdapter[AnyEvent] = TypeAdapter(Annotated[AnyEvent, Field(discriminator="kind")])


class Ledger:
    """The events of one search.

    Args:
        home: the search's directory.
    """

    def __init__(self, home: Location) -> None:
        self.home = home
        self._file, self._folder = home.join(FILE), home.join(FOLDER)

    def exists(self) -> bool:
        """Whether anything was written."""
        return self._folder.is_dir() if self.home.is_remote else self._file.exists()

    def add(self, *events: AnyEvent) -> None:
        """Add events; they are on disk, or in the bucket, when this returns."""
        lines = [event.model_dump_json() for event in events]
        if self.home.is_remote:
            for line in lines:
                self._folder.join(f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.json").write_text(line)
            return
        self._file.append_text("".join(line + "\n" for line in lines))
        with open(self._file.local_path(), "rb") as file:
            os.fsync(file.fileno())

    def events(self) -> list[AnyEvent]:
        """All events in the order in which they were written; a last line that a crash cut off is left out.

        Raises:
            CheckpointError: a line is none that this version wrote.
        """
        if self.home.is_remote:
            return [self._event(self._folder.join(name).read_text(), name) for name in self._folder.list()]
        if not self._file.exists():
            return []
        lines = self._file.read_text().split("\n")
        return [self._event(line, f"{FILE}:{place}") for place, line in enumerate(lines[:-1], start=1) if line]

    def mend(self) -> None:
        """Drop a last line that a crash cut off, so that the next event begins a line of its own."""
        if self.home.is_remote or not self._file.exists():
            return
        text = self._file.read_text()
        if text and not text.endswith("\n"):
            self._file.write_text(text[: text.rfind("\n") + 1])

    def _event(self, line: str, place: str) -> AnyEvent:
        try:
            return _EVENT.validate_json(line)
        except ValidationError as error:
            problem = error.errors()[0]["msg"]
            raise CheckpointError(f"{self.home.uri}/{place} is no event of this version: {problem}") from None
