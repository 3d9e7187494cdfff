"""Writes numbers with their nouns, so that singular and plural agree in everything that is printed."""

from __future__ import annotations


def counted(count: float, noun: str) -> str:
    """Return a number with its noun.

    Args:
        count: how many; whole numbers get thousands separators, fractions stay as they are.
        noun: the singular, such as "worker", "micro-batch" or "process".

    Returns:
        "1 worker", "2 workers", "12,000 utterances", "0.5 GPUs".
    """
    number = f"{int(count):,}" if float(count).is_integer() else f"{count:g}"
    return f"{number} {noun if count == 1 else _plural(noun)}"


def _plural(noun: str) -> str:
    return noun + ("es" if noun.endswith(("tch", "s", "x")) else "s")
