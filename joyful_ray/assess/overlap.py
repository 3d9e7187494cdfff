"""Finds test conversations that repeat lines of the training data word for word.

MELD and EmoryNLP, for example, come from the same television series, so the same conversation may be in both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from joyful_ray.corpora.shards import Corpus
from joyful_ray.schema import Split

MIN_WORDS = 5
"""Shorter lines occur in many conversations by chance."""
_WORD = re.compile(r"\w+")
TRAINING_SPLITS: tuple[Split, ...] = ("train", "dev")


def training_lines(corpora: Iterable[Corpus]) -> frozenset[str] | None:
    """Return the lines of five words or more in train and dev, or None if a corpus has no texts."""
    lines: set[str] = set()
    for corpus in corpora:
        if not corpus.manifest.has_texts:
            return None
        for split in TRAINING_SPLITS:
            for table in corpus.tables(split):
                lines.update(filter(None, map(line_of, table["texts"].combine_chunks().flatten().to_pylist())))
    return frozenset(lines)


def line_of(text: str | None) -> str | None:
    """Return a text without case and punctuation, or None if it has fewer than five words."""
    words = _WORD.findall((text or "").lower().replace("’", "'").replace("'", ""))
    return " ".join(words) if len(words) >= MIN_WORDS else None


def repeats(texts_N: Sequence[str], owner_N: NDArray[np.int64], known: frozenset[str]) -> NDArray[np.bool_]:
    """Return for each utterance whether its conversation contains a known line."""
    known_N = np.array([line_of(text) in known for text in texts_N], bool)
    by_conversation = np.bincount(owner_N, known_N, minlength=int(owner_N.max()) + 1 if len(owner_N) else 0) > 0
    return by_conversation[owner_N]
