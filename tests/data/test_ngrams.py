from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
import torch

from joyful_ray.data.encode import Encoding
from joyful_ray.data.ngrams import TOKEN, NgramHasher
from joyful_ray.data.store import SplitStore

HASHING = NgramHasher(longest=2, buckets=1 << 20)
TALKS = {"a": ["Oh no!", "no", None], "b": ["well, well, well"], "c": ["", "Oh no!"]}


def tokens(text: str) -> list[str]:
    return [match.group() for match in TOKEN.finditer(text)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Oh my God!!! Really?", ["Oh", "my", "God", "!!!", "Really", "?"]),
        ("it's 5 o'clock...", ["it", "'", "s", "5", "o", "'", "clock", "..."]),
        ("?!", ["?", "!"]),
        ("très bien", ["très", "bien"]),
        ("我很好。", ["我", "很", "好", "。"]),
        ("   ", []),
    ],
)
def test_words_and_runs_of_punctuation_are_tokens(text: str, found: list[str]) -> None:
    assert tokens(text) == found


def test_a_text_has_its_words_then_its_pairs() -> None:
    ids, counts = HASHING.ids(["oh no oh"])
    (oh, no, again, *pairs) = ids.tolist()
    assert counts.tolist() == [5]
    assert oh == again != no
    assert len({*pairs, oh, no}) == 4


def test_a_null_or_empty_text_has_none() -> None:
    ids, counts = HASHING.ids([None, "", "yes"])
    assert counts.tolist() == [0, 0, 1]
    assert ids.dtype == counts.dtype == np.int32


def test_case_makes_no_difference() -> None:
    assert HASHING.ids(["OH No"])[0].tolist() == HASHING.ids(["oh no"])[0].tolist()


def test_another_process_gives_the_same_ids() -> None:
    program = "from joyful_ray.data.ngrams import NgramHasher; print(NgramHasher(2, 999).ids(['Oh no!'])[0].tolist())"
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert there.strip() == str(NgramHasher(2, 999).ids(["Oh no!"])[0].tolist())


def encoded(names: str, encoding: Encoding, *, texts: bool = True) -> pa.Table:
    lengths = [len(TALKS[name]) for name in names]
    columns = {
        "conversation_id": list(names),
        "utterance_ids": [[str(place) for place in range(n)] for n in lengths],
        "speakers": [["A"] * n for n in lengths],
        "labels": pa.array([["x"] * n for n in lengths], pa.list_(pa.string())),
    }
    return encoding.table(pa.table(columns | ({"texts": [TALKS[name] for name in names]} if texts else {})))


def test_a_batch_has_the_words_of_its_conversations_for_every_division_into_tables() -> None:
    encoding = Encoding("single-label", ("x",), {}, {}, HASHING)
    whole = encoded("cab", encoding)
    for tables in ([whole], [encoded("b", encoding), encoded("ca", encoding)], [whole.slice(1), whole.slice(0, 1)]):
        store = SplitStore(tables, encoding)
        ngrams = store.batch([2, 0]).ngrams
        assert ngrams is not None
        ids, counts = HASHING.ids(TALKS["c"] + TALKS["a"])
        assert ngrams.ids_T.tolist() == ids.tolist()
        assert ngrams.counts_N.tolist() == counts.tolist()


def test_a_corpus_without_texts_has_no_words_in_it() -> None:
    encoding = Encoding("single-label", ("x",), {}, {}, HASHING)
    ngrams = SplitStore([encoded("ab", encoding, texts=False)], encoding).batch([0, 1]).ngrams
    assert ngrams is not None
    assert ngrams.ids_T.numel() == 0
    assert ngrams.counts_N.tolist() == [0] * 4


def test_texts_are_not_read_if_no_words_are_requested() -> None:
    encoding = Encoding("single-label", ("x",), {}, {})
    batch = SplitStore([encoded("ab", encoding)], encoding).batch([0])
    assert batch.ngrams is None
    assert batch.to(torch.device("cpu")) is batch
