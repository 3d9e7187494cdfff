"""Which trials share a prepared corpus."""

from __future__ import annotations

from typing import Any

import pytest

from joyful_ray.corpora.shards import open_corpus
from joyful_ray.schema import Manifest
from joyful_ray.tune.search_context import data_key
from tests.tiny_corpus import small_job
from tests.train.test_ngrams import write_spoken


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return open_corpus(write_spoken(tmp_path_factory.mktemp("spoken") / "corpus")).manifest


def key(manifest: Manifest, **data: Any) -> str:
    return data_key(small_job(data=data), manifest)


@pytest.mark.parametrize(
    "data",
    [
        {"word_ngrams": 0},
        {"word_ngrams": 2},
        {"word_ngrams": 1, "word_buckets": 64},
        {"word_ngrams": 1, "normalise": False},
        {"word_ngrams": 1, "modalities": ["text"]},
    ],
    ids=str,
)
def test_trials_that_encode_the_corpus_in_another_way_do_not_share_it(manifest: Manifest, data: dict[str, Any]) -> None:
    is_same = data == {"word_ngrams": 1, "modalities": ["text"]}  # the corpus has no other modality
    assert (key(manifest, **data) == key(manifest, word_ngrams=1)) == is_same


def test_settings_that_do_not_change_the_encoding_are_not_part_of_the_key(manifest: Manifest) -> None:
    assert key(manifest, word_ngrams=0, word_buckets=64) == key(manifest, word_ngrams=0, word_buckets=128)
    first = data_key(small_job(seed=1, train={"learning_rate": 0.1}), manifest)
    assert first == data_key(small_job(seed=2), manifest)
