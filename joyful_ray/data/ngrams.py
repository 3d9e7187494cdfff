"""Turns texts into ids of hashed word n-grams, the same in every process and on every machine.

Shapes: N = utterances, T = n-grams of all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

# A word, a run of the same punctuation, or one character of a script that is written without spaces.
TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+|([^\w\s])\1*")


@dataclass(frozen=True)
class NgramHasher:
    """Hashes word n-grams.

    Attributes:
        longest: number of words of the longest n-grams.
        buckets: number of ids; n-grams with the same hash share one.

    Source: Joulin et al., EACL 2017 (fastText), section 2.
    """

    longest: int
    buckets: int

    def ids(self, texts: Iterable[str | None]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Ids of all texts, one text after the other (T,), and their number per text (N,); a null text has none."""
        found: list[int] = []
        counts: list[int] = []
        for text in texts:
            before = len(found)
            tokens = [match.group() for match in TOKEN.finditer((text or "").lower())]
            for length in range(1, self.longest + 1):
                found += [
                    _bucket(tuple(tokens[start : start + length]), self.buckets)
                    for start in range(len(tokens) - length + 1)
                ]
            counts.append(len(found) - before)
        return np.array(found, np.int32), np.array(counts, np.int32)


@lru_cache(maxsize=1 << 17)
def _bucket(ngram: Sequence[str], buckets: int) -> int:
    return crc32("\x1f".join(ngram).encode()) % buckets
