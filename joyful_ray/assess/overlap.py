"""Whether a corpus to test on repeats what a model was trained on: the same lines, word for word.

MELD and EmoryNLP, for one, come from the same television series, so conversations of one may stand in the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from joyful_ray.corpora.shards import Corpus
from joyful_ray.schema import Split

SHORTEST_WORDS = 5
"""Shorter lines are said everywhere."""
_WORD = re.compile(r"\w+")
READ: tuple[Split, ...] = ("train", "dev")


def known_lines(corpora: Iterable[Corpus]) -> frozenset[str] | None:
    """The lines of five words or more that training could see; None where a corpus holds no texts."""
    found: set[str] = set()
    for corpus in corpora:
        if not corpus.manifest.has_texts:
            return None
        for split in READ:
            for table in corpus.tables(split):
                found.update(filter(None, map(line_of, table["texts"].combine_chunks().flatten().to_pylist())))
    return frozenset(found)


def line_of(text: str | None) -> str | None:
    """A text without case and punctuation; None where it is short."""
    words = _WORD.findall((text or "").lower().replace("’", "'").replace("'", ""))
    return " ".join(words) if len(words) >= SHORTEST_WORDS else None


def repeats(texts_N: Sequence[str], owner_N: NDArray[np.int64], known: frozenset[str]) -> NDArray[np.bool_]:
    """Of each utterance, whether its conversation holds a line that is known."""
    known_N = np.array([line_of(text) in known for text in texts_N], bool)
    by_conversation = np.bincount(owner_N, known_N, minlength=int(owner_N.max()) + 1 if len(owner_N) else 0) > 0
    return by_conversation[owner_N]
