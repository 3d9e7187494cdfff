"""Converts conversations given as dicts to the rows of a shard."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from joyful_ray.corpora.importers.base import nearest
from joyful_ray.corpora.importers.jsonl import draft_of_line, inline_vectors
from joyful_ray.corpora.importers.jsonl_scan import KEYS
from joyful_ray.corpora.tables import table_from_conversations
from joyful_ray.corpora.validation import Draft, Problem, Rules, problems_of
from joyful_ray.errors import CorpusError
from joyful_ray.schema import MODALITIES, Modality


def rows_of(
    conversations: Iterable[Mapping[str, Any]],
    widths: Mapping[Modality, int],
    *,
    reads_texts: bool = False,
    called: Callable[[int], str] = "conversation {}".format,
) -> pa.Table:
    """Check conversations given as dicts, and convert them to the columns of a shard, without labels.

    Args:
        conversations: dicts with the keys of the JSONL format.
        widths: modalities that the model reads, with their widths.
        reads_texts: whether the model reads words; a conversation without `texts` then counts as having no words.
        called: what messages call the conversation of a number, counted from 1.

    Raises:
        CorpusError: a conversation is invalid; the message names the first one by its number, from 1.
    """
    rules = Rules("single-label", (), dict(widths), has_texts=reads_texts)
    valid, seen = [], set()
    for number, content in enumerate(conversations, start=1):
        draft = _draft(content, number, widths)
        draft.texts = (draft.texts or [""] * len(draft.utterance_ids)) if reads_texts else None
        draft.speaker_attributes = {}  # no model reads them
        problems = problems_of(draft, rules)
        if not problems and draft.conversation_id in seen:
            problems = [Problem(f"an earlier conversation has the same id, {draft.conversation_id}")]
        if problems:
            raise CorpusError(f"{called(number)}: {problems[0].reason}")
        seen.add(draft.conversation_id)
        valid.append(draft.conversation())
    return table_from_conversations(valid, task="single-label", modalities=list(widths), has_texts=reads_texts)


def _draft(content: object, number: int, widths: Mapping[Modality, int]) -> Draft:
    if not isinstance(content, Mapping):
        return Draft("", problems=[Problem(f"expected a dict, found a value of type {type(content).__name__}")])
    for key in content:
        if key not in KEYS:
            return Draft("", problems=[Problem(f"unknown key {key!r}; {nearest(str(key), KEYS)}")])
    unread = [name for name in MODALITIES if name in content and name not in widths]
    if unread:
        return Draft("", problems=[Problem(f"the bundle does not read {unread[0]}; it reads {', '.join(widths)}")])
    named = {"conversation_id": f"conversation-{number}", **content}
    draft = draft_of_line(named, file="", line=number, has_texts=True)
    draft.labels = [None] * len(draft.utterance_ids)
    for name, width in widths.items():
        vectors = content.get(name)
        try:
            draft.vectors[name] = (
                np.ma.asarray(vectors)
                if isinstance(vectors, np.ndarray)
                else inline_vectors(vectors, len(draft.utterance_ids), width)
            )
        except ValueError as error:
            draft.problems.append(Problem(f"{name}: {error}"))
    return draft
