"""Trained embeddings of word n-grams, in addition to the vectors that an extractor made of the whole sentence.

Shapes: N = utterances, T = n-grams of all utterances, B = buckets, E = width of an embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from joyful_ray.data.batch import Layout, NgramIds
from joyful_ray.data.draws import numbered
from joyful_ray.model.dropout import Dropout
from joyful_ray.model_settings import NgramsConfig


class NgramEmbedding(nn.Module):
    """The sum of an utterance's n-gram embeddings, divided by the square root of their number; zero without words.

    Embeddings start at zero, so n-grams that were not seen in training have no effect. Dropout removes whole n-grams.

    Shapes: ids (T,) and counts (N,), output (N, E).

    Source: Joulin et al., EACL 2017 (fastText), who divide by the number instead of its root.
    """

    def __init__(self, buckets: int, config: NgramsConfig) -> None:
        super().__init__()
        self.vectors_BE = nn.Parameter(torch.zeros(buckets, config.width))
        self.width, self.drop = config.width, Dropout(config.dropout)

    def forward(self, ngrams: NgramIds, layout: Layout) -> Tensor:
        """One vector per utterance of the layout."""
        counts_N = ngrams.counts_N.long()
        scale_N = counts_N.clamp(min=1).to(self.vectors_BE.dtype).rsqrt()
        starts_N = torch.cumsum(counts_N, 0) - counts_N
        weights_T = torch.repeat_interleave(scale_N, counts_N)
        if self.drop.is_active:
            start_T, key_T = (torch.repeat_interleave(each, counts_N) for each in (starts_N, layout.key_N))
            key_T = numbered(key_T, torch.arange(len(start_T), device=start_T.device) - start_T)
            weights_T = self.drop.rows(weights_T[:, None], key_T).squeeze(1)
        return F.embedding_bag(ngrams.ids_T.long(), self.vectors_BE, starts_N, mode="sum", per_sample_weights=weights_T)
