"""Random numbers that belong to utterances: each is a function of a key and of the place that draws it alone.

The key of an utterance comes from the seed, the epoch, the id of its conversation and its position. So a draw does not
depend on which conversations share a forward pass, on the order of operations, or on the device.

The generator is SplitMix64, counter-based: word i of the stream of a key is a bijection of key + i * GOLDEN.

Shapes: N = utterances (or whatever the keys belong to), D = width.

Source: Steele, Lea and Flood, OOPSLA 2014; the constants of Vigna's public-domain implementation.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import torch
from torch import Tensor

GOLDEN, _FIRST, _SECOND = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15
STEPS = 1 << 16
WORDS_AT_A_TIME = 1 << 15
_BITS = 64


def key_of(*parts: int | str) -> int:
    """A 64-bit key, signed, from numbers and names."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def at(key_N: Tensor, place: str) -> Tensor:
    """The keys of the same utterances at one place of the model, (N,): places draw independently of each other."""
    return _mixed(key_N + _key_of_place(place))


def numbered(key_N: Tensor, number_N: Tensor) -> Tensor:
    """The key of one of the things that a key has many of, such as utterances or edges, (N,)."""
    return _mixed(key_N + (number_N + 1) * GOLDEN)


def uniform(key_N: Tensor) -> Tensor:
    """One number in [0, 1) for each key, float64 with 53 random bits: (N,)."""
    return _shifted(key_N, 11).double() * 2.0**-53


def grouped(key_N: Tensor, group_N: Tensor) -> Tensor:
    """Numbers whose order is that of the groups, and random within each; the order does not depend on other groups."""
    return (group_N << 40) + _shifted(key_N, 24)


def kept(key_N: Tensor, width: int, ratio: float) -> Tensor:
    """A mask, True for values that are kept, (N, D); 16 bits decide each value.

    Args:
        key_N: keys of the rows.
        width: D; the mask of a smaller width is the beginning of it.
        ratio: share of values that are not kept; rounded to the nearest multiple of 2^-16.
    """
    words = torch.arange(1, -(-width // 4) + 1, device=key_N.device) * GOLDEN
    least = round(ratio * STEPS) - STEPS // 2
    # A few rows at a time, whose words stay in the cache.
    rows = key_N.split(max(WORDS_AT_A_TIME // len(words), 1)) if key_N.device.type == "cpu" else [key_N]
    parts = [_mixed(some[:, None] + words).view(torch.int16)[:, :width] >= least for some in rows]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


@lru_cache(maxsize=4096)
def _key_of_place(place: str) -> int:
    return key_of(place)


def _mixed(x: Tensor) -> Tensor:
    """SplitMix64's bijection of 64-bit numbers, in place on a fresh tensor."""
    x = x ^ _shifted(x, 30)
    x *= _FIRST
    x ^= _shifted(x, 27)
    x *= _SECOND
    return x.bitwise_xor_(_shifted(x, 31))


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Shifted to the right as unsigned numbers are; torch's own shift repeats the sign."""
    return (x >> bits).bitwise_and_((1 << (_BITS - bits)) - 1)
