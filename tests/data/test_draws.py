from __future__ import annotations

import itertools

import pytest
import torch
from scipy import stats

from joyful_ray.data.draws import GOLDEN, at, grouped, kept, key_of, numbered, uniform

KEYS = at(torch.arange(2000), "test")


def test_words_are_those_of_splitmix64() -> None:
    # The first outputs of Vigna's splitmix64.c for the seeds 0 and 1234567.
    known = {
        0: [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F],
        1234567: [6457827717110365317, 3203168211198807973, 9817491932198370423],
    }
    for seed, words in known.items():
        assert [int(numbered(torch.tensor([seed]), torch.tensor([n]))) % 2**64 for n in range(3)] == words
    assert GOLDEN % 2**64 == 0x9E3779B97F4A7C15


@pytest.mark.parametrize("numbers", [uniform(KEYS), uniform(numbered(KEYS[:1], torch.arange(2000)))])
def test_numbers_are_uniform(numbers: torch.Tensor) -> None:
    assert numbers.dtype == torch.float64
    assert stats.kstest(numbers.numpy(), "uniform").pvalue > 0.001


def test_places_numbers_and_keys_are_independent() -> None:
    first = numbered(KEYS, torch.zeros(2000, dtype=torch.int64))
    streams = [uniform(keys) for keys in (at(KEYS, "one"), at(KEYS, "two"), first)]
    for one, other in itertools.combinations(streams, 2):
        assert abs(stats.pearsonr(one.numpy(), other.numpy()).statistic) < 0.09  # four deviations


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9])
def test_a_mask_has_its_ratio_in_every_bit_position_row_and_column(ratio: float) -> None:
    dropped = 1.0 - kept(KEYS, 64, ratio).double()
    assert float(dropped.mean()) == pytest.approx(ratio, abs=4 * (ratio * (1 - ratio) / 128_000) ** 0.5)
    rows, columns = dropped.sum(dim=1), dropped.sum(dim=0)
    for counts, size in ((rows, 64), (columns, 2000)):
        spread = ((counts - size * ratio) ** 2).sum() / (size * ratio * (1 - ratio))
        assert 0.0005 < stats.chi2.cdf(float(spread), len(counts)) < 0.9995


def test_neighbouring_values_of_a_mask_are_independent() -> None:
    centred = kept(KEYS, 512, 0.5).double() - 0.5
    for apart in (1, 2, 3, 4, 8):
        assert abs(float((centred[:, apart:] * centred[:, :-apart]).mean())) < 0.0012  # four deviations
        assert abs(float((centred[apart:] * centred[:-apart]).mean())) < 0.0012


@pytest.mark.parametrize("width", [1, 3, 4, 5])
def test_a_narrow_mask_is_the_beginning_of_a_wide_one(width: int) -> None:
    assert torch.equal(kept(KEYS, width, 0.3), kept(KEYS, 9, 0.3)[:, :width])


def test_an_order_within_groups_does_not_depend_on_the_number_of_the_group() -> None:
    first, later = (torch.argsort(grouped(KEYS, torch.full((2000,), group))) for group in (0, 5000))
    assert torch.equal(first, later)
    mixed = torch.argsort(grouped(KEYS, torch.arange(2000) % 7))
    assert (torch.diff(mixed % 7) >= 0).all()


def test_keys_of_names_and_numbers_differ() -> None:
    assert len({key_of(1, 2), key_of(2, 1), key_of("1", 2), key_of("12"), key_of(12)}) == 5
