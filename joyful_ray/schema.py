"""The conversation record and the corpus manifest, on which all other packages build. No torch, no ray.

Shapes: n = utterances of one conversation, W = width of one modality's vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

FORMAT_VERSION = 2
READABLE_VERSIONS = (1, FORMAT_VERSION)
"""Version 1 lists the shards in the manifest, and has no statistics; `joyful corpus upgrade` adds them."""
UNKNOWN_VALUE = "(unknown)"
"""What tables call the group of speakers without a value of an attribute."""
LABEL_BIN = 0.1
"""Width of the bins in which labels that are numbers are counted."""
MANIFEST_NAME = "manifest.json"
QUARANTINE_NAME = "quarantine.jsonl"

Modality: TypeAlias = Literal["text", "audio", "vision"]
Split: TypeAlias = Literal["train", "dev", "test"]
Task: TypeAlias = Literal["single-label", "multi-label", "regression"]
MODALITIES: tuple[Modality, ...] = ("text", "audio", "vision")
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
TASKS: tuple[Task, ...] = ("single-label", "multi-label", "regression")

ATTRIBUTE_NAME = r"[a-z][a-z0-9_]*"
"""Form of the name of a speaker attribute."""

Label: TypeAlias = str | list[str] | float | None
"""Label of an utterance: a name, a list of names (multi-label), a number (regression), or None if it is unlabeled."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation with its utterances.

    Attributes:
        features: per modality a float32 array (n, W); NaN marks a cell that is not present.
        present: per modality a bool array (n,); False if the whole vector is not present (then its row is NaN).
        texts: one text per utterance; None if the corpus has no texts.
        speaker_attributes: by name of the attribute, such as gender, its value for the speaker of each utterance; None
            is unknown.
    """

    conversation_id: str
    utterance_ids: list[str]
    speakers: list[str]
    labels: list[Label]
    features: dict[Modality, NDArray[np.float32]]
    present: dict[Modality, NDArray[np.bool_]]
    texts: list[str] | None = None
    speaker_attributes: dict[str, list[str | None]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.utterance_ids)


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FeatureContract(_Entry):
    """How the vectors of one modality were extracted; only vectors with equal contracts may be mixed."""

    extractor: str
    version: str
    width: int = Field(gt=0)
    parameters: dict[str, Any] = {}
    licence: str = "unknown"

    def difference(self, found: FeatureContract) -> tuple[str, str] | None:
        """The first difference to another contract as (expected, found); unknown values differ from nothing."""
        for key in ("width", "extractor", "version", "parameters"):
            mine, other = getattr(self, key), getattr(found, key)
            if mine != other and not any(value in ("unknown", {}) for value in (mine, other)):
                return f"{key} {mine}", f"{key} {other}"
        return None


class ShardEntry(_Entry):
    """One Parquet file of a split; `rows` counts conversations, and `bytes` are those of the file."""

    name: str
    rows: int = Field(ge=1)
    utterances: int = Field(ge=1)
    sha256: str
    bytes: int = 0


class SideFile(_Entry):
    """A small file beside the shards of a split."""

    name: str
    sha256: str


class SplitEntry(_Entry):
    """What is known of a split.

    Attributes:
        labels: number of utterances per label.
        present: number of utterances with each modality.
        lengths: number of conversations by number of utterances.
        speakers: largest number of speakers in a conversation.
        speaker_names: all of them; None if they are many.
        label_histogram: number of labels that are numbers, by their nearest multiple of `LABEL_BIN`.
        side_files: by what they have: shards, conversations, features; none if the split is empty.
        shards: not in the manifest's file, but in a side file.
    """

    conversations: int = Field(ge=0)
    utterances: int = Field(ge=0)
    labels: dict[str, int] = {}
    unlabeled: int = 0
    present: dict[Modality, int] = {}
    lengths: dict[int, int] = {}
    speakers: int = 0
    speaker_names: list[str] | None = None
    label_histogram: dict[int, int] = {}
    side_files: dict[str, SideFile] = {}
    shards: list[ShardEntry] = []


class Manifest(_Entry):
    """Description of a corpus. It is written last, so its presence means that the corpus is complete."""

    format_version: int = FORMAT_VERSION
    name: str
    task: Task
    labels: list[str] = []
    modalities: dict[Modality, FeatureContract]
    splits: dict[Split, SplitEntry]
    has_texts: bool = False
    speaker_attributes: list[str] = []
    notes: dict[str, Any] = {}

    @property
    def widths(self) -> dict[Modality, int]:
        """Width of each modality's vectors, in the order text, audio, vision."""
        return {name: self.modalities[name].width for name in MODALITIES if name in self.modalities}


def attribute_column(name: str) -> str:
    """The column of a speaker attribute."""
    return f"speaker_{name}"


def arrow_schema(
    *, task: Task, modalities: Sequence[Modality], has_texts: bool, speaker_attributes: Sequence[str] = ()
) -> pa.Schema:
    """Arrow schema of a shard, with one row per conversation.

    The column of a modality is flat and row-major (n * W values); a null value is a cell that is not present. A null
    in the column of a speaker attribute is unknown.
    """
    label_type = {
        "single-label": pa.string(),
        "multi-label": pa.list_(pa.string()),
        "regression": pa.float32(),
    }[task]
    fields = [
        pa.field("conversation_id", pa.string(), nullable=False),
        pa.field("utterance_ids", pa.list_(pa.string()), nullable=False),
        pa.field("speakers", pa.list_(pa.string()), nullable=False),
    ]
    fields += [
        pa.field(attribute_column(name), pa.list_(pa.string()), nullable=False) for name in sorted(speaker_attributes)
    ]
    if has_texts:
        fields.append(pa.field("texts", pa.list_(pa.string()), nullable=False))
    fields.append(pa.field("labels", pa.list_(label_type), nullable=False))
    for name in MODALITIES:
        if name in modalities:
            fields.append(pa.field(name, pa.list_(pa.float32()), nullable=False))
            fields.append(pa.field(f"{name}_present", pa.list_(pa.bool_()), nullable=False))
    return pa.schema(fields)
