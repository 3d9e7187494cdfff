"""An exact index of vectors by cosine similarity.

Shapes: N = indexed vectors, Q = queries, D = width, K = matches per query.
"""

from __future__ import annotations

import faiss
import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


class CosineIndex:
    """Finds the vectors with the highest cosine similarity, without approximation (FAISS, `IndexFlatIP`).

    Args:
        vectors_ND: what is searched; a row of NaN is never found.
    """

    def __init__(self, vectors_ND: Vectors) -> None:
        self._rows = np.flatnonzero(~np.isnan(vectors_ND).any(axis=1))
        self._index = faiss.IndexFlatIP(vectors_ND.shape[1])
        self._index.add(unit(vectors_ND[self._rows]))

    def __len__(self) -> int:
        """Number of vectors that can be found."""
        return len(self._rows)

    def nearest(self, queries_QD: Vectors, count: int) -> tuple[Vectors, NDArray[np.int64]]:
        """Return the similarities, highest first, and the rows of the nearest vectors, both (Q, K), K <= count."""
        similarity_QK, places_QK = self._index.search(unit(queries_QD), min(count, len(self)))
        return similarity_QK, self._rows[places_QK]


def unit(vectors_ND: Vectors) -> Vectors:
    """The vectors with length 1; a vector of zeros stays one."""
    lengths_N1 = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    return np.ascontiguousarray(vectors_ND / np.maximum(lengths_N1, 1e-12), dtype=np.float32)
