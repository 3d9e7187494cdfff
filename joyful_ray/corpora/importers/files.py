"""Reads CSV and npy files, and names the file and line of every fault."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from joyful_ray.errors import CorpusError
from joyful_ray.storage import Location

csv.field_size_limit(2**24)


@dataclass(frozen=True, slots=True)
class Row:
    """A record of a CSV file and the line on which it begins, counted from 1."""

    line: int
    cells: dict[str, str]


def read_csv(place: Location, columns: Sequence[str]) -> list[Row]:
    """All records of a CSV file with a header.

    Raises:
        CorpusError: a column is missing, or a record has more or fewer cells than the header.
    """
    records = records_of(place)
    header = next(records, (0, []))[1]
    missing = [column for column in columns if column not in header]
    if missing:
        raise CorpusError(f"{place.uri} has no column {missing[0]}; its columns are {', '.join(header) or 'none'}")
    rows = []
    for line, cells in records:
        if len(cells) != len(header):
            raise CorpusError(f"{place.uri}, line {line}: {len(cells)} cells, the header has {len(header)}")
        rows.append(Row(line, dict(zip(header, cells, strict=True))))
    return rows


def records_of(place: Location) -> Iterator[tuple[int, list[str]]]:
    """(first line, cells) of each record of a CSV file without empty lines."""
    text = place.read_text().removeprefix("\ufeff")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    try:
        for cells in reader:
            if cells:
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise CorpusError(f"{place.uri}, line {line}: {error}") from None


def numbers(cells: Sequence[str]) -> np.ma.MaskedArray:
    """A row of numbers; an empty cell is masked.

    Raises:
        ValueError: a cell is not a number; the message names it.
    """
    mask = [not cell.strip() for cell in cells]
    values = np.zeros(len(cells))
    for index, cell in enumerate(cells):
        if not mask[index]:
            try:
                values[index] = float(cell)
            except ValueError:
                raise ValueError(f"{cell!r} is not a number") from None
    return np.ma.MaskedArray(values, mask=mask)


def read_npy(place: Location) -> NDArray[Any]:
    """A numeric array with two dimensions from a .npy file; nothing is unpickled.

    Raises:
        CorpusError: the file does not have such an array.
    """
    if not place.exists():
        raise CorpusError(f"there is no {place.uri}")
    try:
        if place.is_remote:
            array = np.load(io.BytesIO(place.read_bytes()), allow_pickle=False)
        else:
            array = np.load(place.local_path(), mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise CorpusError(f"{place.uri} is not a .npy file of numbers: {error}") from None
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind not in "fiu" or not array.shape[1]:
        shape = getattr(array, "shape", None)
        raise CorpusError(f"{place.uri}: expected numbers of shape (rows, width), found {shape} of {array.dtype}")
    return array
