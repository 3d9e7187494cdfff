"""The ledger of a search: an append-only list of events. It is the source of truth; Ray's state is a cache.

In a folder it is one file, `ledger.jsonl`. In a bucket, where nothing can be appended, it is one small object per event
in `ledger/`; the objects are listed and sorted. Now and then, all of them are packed into one, named after the last
event in it: what comes before that name counts no more.
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
EVENT, PACK = ".json", ".jsonl"
EVENTS_OF_A_PACK = 500
"""In a bucket, so many events are packed into one object."""
Role = Literal["search", "confirm"]
Outcome = Literal["finished", "stopped", "failed"]


class Event(BaseModel):
    """An event.

    Attributes:
        at: Unix time in seconds, from the driver's clock.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: float = Field(default_factory=time.time)


class Opened(Event):
    """A session started: a command that works on the search."""

    kind: Literal["opened"] = "opened"
    session: int
    fingerprint: str
    corpus: str
    search: dict[str, Any]
    goals: list[str]


class Extended(Event):
    """Trials were added to `search.max_trials`."""

    kind: Literal["extended"] = "extended"
    trials: int


class Drawn(Event):
    """A trial was sampled.

    Attributes:
        number: its position in the order of sampling; None if the trial was not sampled here.
        config: name that trials with the same settings share.
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
    """A trial started or continued."""

    kind: Literal["started"] = "started"
    trial: str
    session: int


class Epoch(Event):
    """A trial finished an epoch.

    Attributes:
        epoch: counted from 0.
        dev: dev scores by name, and `loss`.
        seconds: wall time of the epoch.
    """

    kind: Literal["epoch"] = "epoch"
    trial: str
    epoch: int
    dev: dict[str, float]
    train_loss: float
    seconds: float
    is_best: bool


class Changed(Event):
    """A trial continued from a copy of another one, with changed settings (pbt)."""

    kind: Literal["changed"] = "changed"
    trial: str
    epoch: int
    source: str
    settings: dict[str, Any]


class Restarted(Event):
    """The process of a trial was lost, and the trial restarted."""

    kind: Literal["restarted"] = "restarted"
    trial: str
    reason: str


class Ended(Event):
    """A trial ended, for the given reason."""

    kind: Literal["ended"] = "ended"
    trial: str
    outcome: Outcome
    reason: str


class Tested(Event):
    """The test split was read for the chosen config."""

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
        self._added = 0

    def exists(self) -> bool:
        """Whether any event was written."""
        return self._folder.is_dir() if self.home.is_remote else self._file.exists()

    def add(self, *events: AnyEvent) -> None:
        """Append events. When this returns, they are on disk or in the bucket."""
        lines = [event.model_dump_json() for event in events]
        if self.home.is_remote:
            for line in lines:
                self._folder.join(f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}{EVENT}").write_text(line)
            self._added += len(lines)
            if self._added >= EVENTS_OF_A_PACK:
                self._pack()
            return
        self._file.append_text("".join(line + "\n" for line in lines))
        with open(self._file.local_path(), "rb") as file:
            os.fsync(file.fileno())

    def events(self) -> list[AnyEvent]:
        """All events in the order of writing; an incomplete last line is skipped.

        Raises:
            CheckpointError: a line is damaged, or another version wrote it.
        """
        if self.home.is_remote:
            return [self._event(line, name) for name, line in self._lines(self._folder.list())]
        if not self._file.exists():
            return []
        lines = self._file.read_text().split("\n")
        return [self._event(line, f"{FILE}:{place}") for place, line in enumerate(lines[:-1], start=1) if line]

    def repair(self) -> None:
        """Prepare for writing: remove an incomplete last line, which a crash may have left; pack events of a bucket."""
        if self.home.is_remote:
            self._pack()
            return
        if not self._file.exists():
            return
        text = self._file.read_text()
        if text and not text.endswith("\n"):
            self._file.write_text(text[: text.rfind("\n") + 1])

    def _lines(self, names: list[str]) -> list[tuple[str, str]]:
        """The events in a bucket, each with the name of its object: those of the newest pack, then the later ones."""
        pack = max((name for name in names if name.endswith(PACK)), default=None)
        later = [name for name in names if name.endswith(EVENT) and (pack is None or _stem(name) > _stem(pack))]
        read = [*([pack] if pack is not None else []), *later]
        return [
            (name, line)
            for name, content in zip(read, self._folder.read_children(read), strict=True)
            for line in content.decode().split("\n")
            if line
        ]

    def _pack(self) -> None:
        """Pack all events into one object; only what it has is removed then, so a crash at any point loses nothing."""
        self._added, names = 0, self._folder.list()
        if len(names) < EVENTS_OF_A_PACK:
            return
        last = max(_stem(name) for name in names)
        self._folder.join(last + PACK).write_text("".join(line + "\n" for _, line in self._lines(names)))
        self._folder.remove_children([name for name in names if name != last + PACK])

    def _event(self, line: str, place: str) -> AnyEvent:
        try:
            return _EVENT.validate_json(line)
        except ValidationError as error:
            problem = error.errors()[0]["msg"]
            raise CheckpointError(f"{self.home.uri}/{place} is not an event of this version: {problem}") from None


def _stem(name: str) -> str:
    return name.removesuffix(PACK).removesuffix(EVENT)
