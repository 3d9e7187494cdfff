"""Counts with their nouns, and names of scores, for everything that is printed."""

from __future__ import annotations

from collections.abc import Sequence


def counted(count: float, noun: str, plural: str | None = None) -> str:
    """Return a count with its noun: `1 epoch`, `2 epochs`, `1,200 utterances`, `0.5 GPUs`, `4 micro-batches`.

    Args:
        count: how many; whole numbers get thousands separators.
        noun: the singular.
        plural: the plural, unless it is the singular with `s`, or with `es` after `s`, `x` or `tch`.
    """
    number = f"{int(count):,}" if float(count).is_integer() else f"{count:g}"
    return f"{number} {noun if count == 1 else plural or _plural(noun)}"


def listed(names: Sequence[str], *, most: int) -> str:
    """Names in one line, with the number of those beyond `most`: `a, b, c and 13 more`."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _plural(noun: str) -> str:
    return noun + ("es" if noun.endswith(("tch", "s", "x")) else "s")


def metric_name(name: str) -> str:
    """The name of a score for people: `weighted_f1` becomes `weighted F1`."""
    return name.replace("_", " ").replace("f1", "F1")
