"""The alignment term: closed values, a slow reference, and what counts."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from joyful_ray.config import resolve
from joyful_ray.data.batch import Batch
from joyful_ray.errors import ConfigError
from joyful_ray.objective.alignment import aligned, alignment
from joyful_ray.schema import Modality
from tests.batches import pick, random_batch, spans


def random_vectors(batch: Batch, width: int = 5) -> dict[Modality, Tensor]:
    draw = torch.Generator().manual_seed(3)
    return {name: torch.randn(batch.utterances, width, generator=draw) for name in batch.features}


def by_cross_entropy(shared: dict[Modality, Tensor], batch: Batch, temperature: float, *, in_batch: bool) -> Tensor:
    """The loss of CLIP, as its paper writes it: cross-entropy of the similarities, by rows and by columns."""
    groups = [slice(None)] if in_batch else spans(batch.layout)
    total = torch.zeros(())
    for first, second in combinations(batch.features, 2):
        for group in groups:
            both = batch.present[first][group] & batch.present[second][group]
            if not both.any():
                continue
            ours, theirs = (F.normalize(shared[name][group][both], dim=1) for name in (first, second))
            logits, own = ours @ theirs.T / temperature, torch.arange(int(both.sum()))
            total = total + sum(F.cross_entropy(one, own, reduction="sum") for one in (logits, logits.T)) / 2
    return total


@pytest.mark.parametrize("in_batch", [True, False])
@pytest.mark.parametrize("gaps", [0.0, 0.4])
def test_it_is_the_symmetric_cross_entropy_of_clip(in_batch: bool, gaps: float) -> None:
    batch = random_batch(5, 1, 4, 2, absent_vectors=gaps)
    shared = random_vectors(batch)
    found = alignment(shared, batch, temperature=0.3, in_batch=in_batch)
    torch.testing.assert_close(found, by_cross_entropy(shared, batch, 0.3, in_batch=in_batch))


def test_equal_vectors_cost_the_log_of_the_group() -> None:
    batch = random_batch(4, 3, widths={"text": 2, "audio": 2})
    shared = {name: torch.ones(7, 3) for name in batch.features}
    whole = alignment(shared, batch, temperature=0.1, in_batch=True)
    parts = alignment(shared, batch, temperature=0.1, in_batch=False)
    assert float(whole) == pytest.approx(7 * math.log(7), rel=1e-5)
    assert float(parts) == pytest.approx(4 * math.log(4) + 3 * math.log(3), rel=1e-5)
    assert float(aligned(batch)) == 7


def test_orthogonal_pairs_cost_nothing_at_a_low_temperature() -> None:
    batch = random_batch(5, widths={"text": 2, "audio": 2})
    shared = {name: torch.eye(5) for name in batch.features}
    assert float(alignment(shared, batch, temperature=0.02, in_batch=True)) == pytest.approx(0.0, abs=1e-6)


def test_only_utterances_with_both_modalities_count() -> None:
    batch = random_batch(6, 5, absent_vectors=0.5)
    pairs = combinations(batch.present.values(), 2)
    assert float(aligned(batch)) == sum(int((one & other).sum()) for one, other in pairs)
    shared = random_vectors(batch)
    before = alignment(shared, batch, temperature=0.3, in_batch=True)
    for name, values in shared.items():
        values[~batch.present[name]] = 100.0
    torch.testing.assert_close(alignment(shared, batch, temperature=0.3, in_batch=True), before)


def test_negatives_of_the_conversation_do_not_depend_on_the_other_conversations() -> None:
    batch = random_batch(5, 4, absent_vectors=0.2)
    shared = random_vectors(batch)
    parts = [
        alignment({n: v[rows] for n, v in shared.items()}, pick(batch, place), temperature=0.3, in_batch=False)
        for place, rows in enumerate(spans(batch.layout))
    ]
    torch.testing.assert_close(sum(parts), alignment(shared, batch, temperature=0.3, in_batch=False))


def test_a_batch_without_pairs_costs_nothing() -> None:
    batch = random_batch(3, widths={"text": 2, "audio": 2}, absent_vectors=1.0)
    assert float(alignment(random_vectors(batch), batch, temperature=0.3, in_batch=True)) == 0.0
    assert float(aligned(batch)) == 0.0


def test_a_fusion_without_shared_vectors_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"gives no vectors of text \(Fused\.shared\)"):
        alignment({}, random_batch(3), temperature=0.3, in_batch=True)
    for fusion in ({"kind": "concatenation"}, {"kind": "auto-fusion"}, {"specific_branch": False}):
        with pytest.raises(ConfigError, match="needs a basis that modalities share"):
            resolve({"objective": {"alignment_weight": 0.1}, "model": {"fusion": fusion}})
