"""The index finds what scikit-learn's exact search finds."""

from __future__ import annotations

import numpy as np
from sklearn.neighbors import NearestNeighbors

from joyful_ray.retrieval.index import CosineIndex


def random(count: int, width: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def test_it_finds_the_nearest_by_cosine_similarity() -> None:
    vectors, queries = random(300), random(7, seed=1)
    similarity, rows = CosineIndex(vectors).nearest(queries, 10)
    distances, expected = NearestNeighbors(n_neighbors=10, metric="cosine").fit(vectors).kneighbors(queries)
    assert np.array_equal(rows, expected)
    np.testing.assert_allclose(similarity, 1.0 - distances, atol=1e-5)


def test_the_length_of_a_vector_does_not_matter() -> None:
    vectors, queries = random(50), random(3, seed=1)
    scaled = vectors * np.linspace(0.1, 9.0, 50, dtype=np.float32)[:, None]
    assert np.array_equal(CosineIndex(vectors).nearest(queries, 5)[1], CosineIndex(scaled).nearest(queries * 4, 5)[1])


def test_a_missing_vector_is_never_found_and_rows_keep_their_numbers() -> None:
    vectors = random(20)
    vectors[[0, 5, 19]] = np.nan
    index = CosineIndex(vectors)
    assert len(index) == 17
    rows = index.nearest(random(4, seed=1), 100)[1]
    assert rows.shape == (4, 17)
    assert set(rows[0]) == set(range(20)) - {0, 5, 19}
    assert index.nearest(vectors[[7]], 1)[1].item() == 7
