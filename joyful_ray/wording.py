"""Counts with their nouns, for everything that is printed."""

from __future__ import annotations


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """A count with its noun: `1 epoch`, `2 epochs`, `1,200 utterances`.

    Args:
        count: how many.
        noun: the singular.
        plural: the plural, unless it is the singular with an `s`.
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
