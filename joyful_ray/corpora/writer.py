"""Writes conversations as shards, and then the manifest, so that an incomplete corpus never looks complete."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any

import pyarrow as pa

from joyful_ray.corpora.manifest import split_entry, write_manifest
from joyful_ray.corpora.replaced import earlier_files, free_suffix
from joyful_ray.corpora.shard_file import write_shard
from joyful_ray.corpora.side_files import KINDS, write_side_files
from joyful_ray.corpora.statistics import Statistics, conversation_list, statistics_of
from joyful_ray.corpora.tables import table_from_conversations
from joyful_ray.corpora.validation import Draft, Problem, Rules, draft_of, problems_of
from joyful_ray.errors import CorpusError
from joyful_ray.schema import (
    MANIFEST_NAME,
    QUARANTINE_NAME,
    SPLITS,
    Conversation,
    FeatureContract,
    Manifest,
    Modality,
    ShardEntry,
    Split,
    SplitEntry,
    Task,
)
from joyful_ray.storage import open_location
from joyful_ray.wording import counted

SHARD_BYTES = 64 * 2**20
SHARD_CONVERSATIONS = 4096
PARTS_OF_A_SHARD = 16
"""How exactly shards made of rows have the size that is asked for."""
REASONS_IN_A_MESSAGE = 3


@dataclass
class _OpenSplit:
    """A split that is being written; `tables` come before `waiting`."""

    tables: list[pa.Table] = field(default_factory=list)
    waiting: list[Conversation] = field(default_factory=list)
    waiting_bytes: int = 0
    shards: list[ShardEntry] = field(default_factory=list)
    conversations: list[pa.Table] = field(default_factory=list)
    statistics: Statistics = field(default_factory=Statistics)


class CorpusWriter:
    """Streams conversations into a corpus; use it as a context manager.

    A bad conversation raises CorpusError, or is written to `quarantine.jsonl` as long as the share of bad conversations
    is at most `max_bad`. The manifest is written when the block ends. If it ends with an error, everything that was
    written is removed.

    Args:
        uri: a path or s3:// prefix where nothing exists yet.
        name: name of the corpus.
        task: single-label, multi-label or regression.
        labels: label names in the order of their ids; empty for regression.
        modalities: feature contract of each modality.
        has_texts: whether conversations have texts.
        speaker_attributes: names of the attributes that conversations have of their speakers.
        notes: further entries of the manifest.
        max_bad: maximum share of bad conversations, 0 to 1.
        overwrite: replace an existing corpus once the new one is complete. Until then, and if anything fails, the old
            one stays as it was.
        shard_bytes, shard_conversations: a shard is closed when it reaches either.

    Raises:
        CorpusError: something exists at `uri`, a conversation is bad, or the name of an attribute is.
    """

    def __init__(
        self,
        uri: str,
        *,
        name: str,
        task: Task,
        labels: Iterable[str],
        modalities: Mapping[Modality, FeatureContract],
        has_texts: bool = False,
        speaker_attributes: Iterable[str] = (),
        notes: Mapping[str, Any] | None = None,
        max_bad: float = 0.0,
        overwrite: bool = False,
        shard_bytes: int = SHARD_BYTES,
        shard_conversations: int = SHARD_CONVERSATIONS,
    ) -> None:
        if not 0 <= max_bad <= 1:
            raise CorpusError(f"max_bad must be between 0 and 1, not {max_bad}")
        self.location = open_location(uri)
        self.manifest: Manifest | None = None
        self.problems: list[Problem] = []
        self.notes = dict(notes or {})
        self._modalities = dict(modalities)
        widths = {modality: contract.width for modality, contract in self._modalities.items()}
        self._rules = Rules(task, tuple(labels), widths, has_texts, tuple(sorted(speaker_attributes)))
        self._description = Manifest(
            name=name,
            task=task,
            labels=list(self._rules.labels),
            modalities=self._modalities,
            splits={},
            has_texts=has_texts,
            speaker_attributes=list(self._rules.speaker_attributes),
        )
        self._max_bad = max_bad
        self._shard_bytes = shard_bytes
        self._shard_conversations = shard_conversations
        self._splits: dict[Split, _OpenSplit] = {}
        self._splits_of_ids: dict[str, Split] = {}
        self._quarantine: list[str] = []
        self._seen = 0
        self._is_complete = False
        self._earlier = earlier_files(self.location, overwrite=overwrite)
        self._shard_suffix = free_suffix(self._earlier)

    def __enter__(self) -> CorpusWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._discard()
            return
        try:
            self.close()
        except BaseException:
            self._discard()
            raise

    def add_split(self, split: Split) -> None:
        """Add a split to the manifest, even if it stays empty."""
        self._splits.setdefault(split, _OpenSplit())

    def write(self, split: Split, item: Conversation | Draft) -> bool:
        """Check a conversation and add it; returns False if it went to the quarantine."""
        draft = item if isinstance(item, Draft) else draft_of(item)
        self._seen += 1
        found = problems_of(draft, self._rules)
        earlier = self._splits_of_ids.get(draft.conversation_id)
        if not found and earlier is not None:
            reason = f"this conversation id is already in {earlier}"
            found = [Problem(reason, draft.file, draft.rows[0] if draft.rows else None, draft.conversation_id)]
        if found:
            self._quarantine_draft(split, draft, found)
            return False
        self._splits_of_ids[draft.conversation_id] = split
        conversation = item if isinstance(item, Conversation) else draft.conversation()
        self._collect(self._splits.setdefault(split, _OpenSplit()), split, conversation)
        return True

    def write_rows(self, split: Split, rows: pa.Table) -> None:
        """Add rows of shards with the columns of this corpus, which have been checked when they were read.

        Raises:
            CorpusError: a conversation is already in a split.
        """
        for name in rows["conversation_id"].to_pylist():
            if name in self._splits_of_ids:
                raise CorpusError(f"conversation {name} is already in {self._splits_of_ids[name]}")
            self._splits_of_ids[name] = split
        collected = self._splits.setdefault(split, _OpenSplit())
        at_a_time = max(self._shard_bytes * rows.num_rows // max(rows.nbytes, 1) // PARTS_OF_A_SHARD, 1)
        for start in range(0, rows.num_rows, min(at_a_time, self._shard_conversations)):
            some = rows.slice(start, min(at_a_time, self._shard_conversations))
            count = sum(table.num_rows for table in collected.tables)
            is_full = collected.waiting_bytes + some.nbytes > self._shard_bytes
            if is_full or count + some.num_rows > self._shard_conversations:
                self._close_shard(split, collected)
            collected.tables.append(some)
            collected.waiting_bytes += some.nbytes

    def close(self) -> Manifest:
        """Write the last shards, the quarantine, and then the manifest."""
        for split, collected in self._splits.items():
            self._close_shard(split, collected)
        if not any(collected.shards for collected in self._splits.values()):
            raise CorpusError(f"there is no conversation to write to {self.location.uri}" + self._summary_of_bad())
        if self._seen and len(self._quarantine) / self._seen > self._max_bad:
            verb = "is" if len(self._quarantine) == 1 else "are"
            raise CorpusError(
                f"{len(self._quarantine)} of {counted(self._seen, 'conversation')} {verb} bad, "
                f"more than --max-bad allows ({self._max_bad:g})" + self._summary_of_bad()
            )
        if self._quarantine:
            self.location.join(QUARANTINE_NAME).write_text("".join(self._quarantine))
            self.notes["quarantined_conversations"] = len(self._quarantine)
        splits = {split: self._entry(split, self._splits[split]) for split in SPLITS if split in self._splits}
        self.manifest = self._description.model_copy(update={"splits": splits, "notes": self.notes})
        write_manifest(self.location, self.manifest)
        self._is_complete = True
        self._remove_earlier()
        return self.manifest

    def _remove_earlier(self) -> None:
        for name in self._earlier:
            if name != MANIFEST_NAME and not (name == QUARANTINE_NAME and self._quarantine):
                self.location.join(name).remove()
        for folder in {name.split("/")[0] for name in self._earlier if "/" in name} - set(self._splits):
            self.location.join(folder).remove()

    def _quarantine_draft(self, split: Split, draft: Draft, found: list[Problem]) -> None:
        if self._max_bad == 0:
            more = f" (and {len(found) - 1} more in this conversation)" if len(found) > 1 else ""
            raise CorpusError(f"{found[0]}{more}; fix it, or leave bad conversations out with --max-bad SHARE")
        self.problems.extend(found)
        entry = {
            "split": split,
            "conversation_id": draft.conversation_id,
            "problems": [asdict(problem) for problem in found],
            "utterance_ids": draft.utterance_ids,
            "speakers": draft.speakers,
            "labels": draft.labels,
            "texts": draft.texts,
            "speaker_attributes": draft.speaker_attributes,
        }
        self._quarantine.append(json.dumps(entry, ensure_ascii=False, default=str) + "\n")

    def _collect(self, collected: _OpenSplit, split: Split, conversation: Conversation) -> None:
        size = sum(values.nbytes for values in conversation.features.values()) + 64 * len(conversation)
        if collected.waiting_bytes and collected.waiting_bytes + size > self._shard_bytes:
            self._close_shard(split, collected)
        collected.waiting.append(conversation)
        collected.waiting_bytes += size
        if len(collected.waiting) >= self._shard_conversations:
            self._close_shard(split, collected)

    def _close_shard(self, split: Split, collected: _OpenSplit) -> None:
        if not collected.waiting and not collected.tables:
            return
        table = table_from_conversations(
            collected.waiting,
            task=self._rules.task,
            modalities=list(self._modalities),
            has_texts=self._rules.has_texts,
            speaker_attributes=self._rules.speaker_attributes,
        )
        table = pa.concat_tables([*collected.tables, table]).combine_chunks()
        name = f"{split}/part-{len(collected.shards):05d}{self._shard_suffix}.parquet"
        collected.shards.append(write_shard(self.location.join(name), table, name=name))
        collected.conversations.append(conversation_list(table))
        collected.statistics += statistics_of(table, self._description)
        collected.tables, collected.waiting, collected.waiting_bytes = [], [], 0

    def _entry(self, split: Split, collected: _OpenSplit) -> SplitEntry:
        side_files = {}
        if collected.shards:
            side_files = write_side_files(
                self.location,
                split,
                shards=collected.shards,
                conversations=collected.conversations,
                statistics=collected.statistics,
                suffix=self._shard_suffix,
            )
        return split_entry(collected.statistics, collected.shards, side_files, self._description)

    def _summary_of_bad(self) -> str:
        shown = "; ".join(str(problem) for problem in self.problems[:REASONS_IN_A_MESSAGE])
        return f". First: {shown}" if shown else ""

    def _discard(self) -> None:
        """Remove what this writer has written, unless the manifest is complete; an earlier corpus stays."""
        if self._is_complete:
            return
        if not self._earlier:
            for name in (MANIFEST_NAME, *self._splits, QUARANTINE_NAME):
                self.location.join(name).remove()
            return
        for split, collected in self._splits.items():
            names = [f"{split}/{kind}{self._shard_suffix}.parquet" for kind in KINDS]
            for name in [*(shard.name for shard in collected.shards), *names]:
                self.location.join(name).remove()


def write_corpus(
    uri: str,
    *,
    name: str,
    task: Task,
    labels: Iterable[str],
    modalities: Mapping[Modality, FeatureContract],
    splits: Mapping[Split, Iterable[Conversation | Draft]],
    **settings: Any,
) -> Manifest:
    """Write a corpus; `settings` are those of `CorpusWriter` (has_texts, notes, max_bad, …)."""
    with CorpusWriter(uri, name=name, task=task, labels=labels, modalities=modalities, **settings) as writer:
        for split, items in splits.items():
            writer.add_split(split)
            for item in items:
                writer.write(split, item)
    assert writer.manifest is not None
    return writer.manifest
