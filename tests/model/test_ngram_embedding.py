from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from joyful_ray.config import JobConfig
from joyful_ray.data.batch import NgramIds
from joyful_ray.model.joyful import Joyful
from joyful_ray.model.ngram_embedding import NgramEmbedding
from joyful_ray.model_settings import NgramsConfig
from tests.batches import WIDTHS, layout_of, random_batch

WORDS = NgramIds(torch.tensor([3, 1, 3, 0, 2], dtype=torch.int32), torch.tensor([2, 0, 3], dtype=torch.int32))


def bag(*, dropout: float = 0.0) -> NgramEmbedding:
    made = NgramEmbedding(5, NgramsConfig(width=4, dropout=dropout))
    torch.manual_seed(0)
    torch.nn.init.normal_(made.vectors_BE)
    return made


def slow_bag(vectors_BE: Tensor, ngrams: NgramIds) -> Tensor:
    rows, ids = [], ngrams.ids_T.tolist()
    for count in ngrams.counts_N.tolist():
        mine, ids = ids[:count], ids[count:]
        total = sum((vectors_BE[place] for place in mine), torch.zeros(vectors_BE.shape[1]))
        rows.append(total / max(count, 1) ** 0.5)
    return torch.stack(rows)


def test_a_bag_is_the_sum_divided_by_the_root_of_the_count() -> None:
    made = bag()
    torch.testing.assert_close(made(WORDS, layout_of(3)), slow_bag(made.vectors_BE, WORDS))


def test_unseen_words_have_no_effect() -> None:
    assert not NgramEmbedding(5, NgramsConfig(width=4))(WORDS, layout_of(3)).any()


def test_dropout_removes_whole_words_and_only_in_training() -> None:
    made = bag(dropout=0.5)
    one = NgramIds(torch.zeros(1000, dtype=torch.int32), torch.ones(1000, dtype=torch.int32))
    out = made(one, layout_of(400, 600))
    kept = (out != 0).all(dim=1)
    assert (kept | (out == 0).all(dim=1)).all()
    assert kept.float().mean().item() == pytest.approx(0.5, abs=0.07)
    torch.testing.assert_close(out[kept], (2 * made.vectors_BE[:1]).expand(int(kept.sum()), 4))
    torch.testing.assert_close(made.eval()(WORDS, layout_of(3)), slow_bag(made.vectors_BE, WORDS))


@pytest.mark.parametrize("names", [("text", "audio"), ("audio",)])
def test_words_extend_the_text_vectors_or_replace_them(names: tuple[str, ...]) -> None:
    job = JobConfig()
    widths = {name: width for name, width in WIDTHS.items() if name in names}
    model = Joyful(job.model, job.graph, job.augment, widths=widths, classes=3, word_buckets=50)
    ngrams = NgramIds(torch.arange(6, dtype=torch.int32), torch.ones(6, dtype=torch.int32))
    batch = replace(random_batch(4, 2, widths=widths), ngrams=ngrams)
    model(batch, with_views=True).scores_NK.sum().backward()
    assert model.ngrams is not None
    assert model.ngrams.vectors_BE.grad is not None
    reached = model.ngrams.vectors_BE.grad.abs().sum(dim=1) > 0
    assert reached[:6].any()  # dropout removes some
    assert not reached[6:].any()
