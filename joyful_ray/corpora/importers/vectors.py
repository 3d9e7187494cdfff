"""Vectors of one modality in a separate file: a .npy with rows in the order of the utterances, or a CSV with a key.

Shapes: R = vectors in the file, n = requested utterances, W = width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from joyful_ray.corpora.importers.files import numbers, read_csv, read_npy, records_of
from joyful_ray.corpora.validation import Problem
from joyful_ray.errors import ConfigError, CorpusError
from joyful_ray.schema import FeatureContract, Modality, Split
from joyful_ray.storage import Location
from joyful_ray.wording import counted

NAN_CHOICES = ("refuse", "absent")
CONTRACT_OPTIONS = ("extractor", "version", "licence")


@dataclass
class VectorFile:
    """The vectors of one modality and split.

    Attributes:
        values: (R, W); masked cells are not present.
        row_of: row of each key of a CSV file; None if rows have the order of the utterances.
        faults: faults of a CSV file, by row.
        used: rows that belong to an utterance.
    """

    place: Location
    values: NDArray | np.ma.MaskedArray
    row_of: dict[str, int] | None = None
    faults: dict[int, Problem] = field(default_factory=dict)
    used: set[int] = field(default_factory=set)

    @property
    def width(self) -> int:
        """W."""
        return int(self.values.shape[1])

    @property
    def unused_rows(self) -> int:
        """Number of rows that belong to no utterance."""
        return len(self.values) - len(self.used)

    def take(self, indices: Sequence[int], keys: Sequence[str]) -> tuple[np.ma.MaskedArray, list[Problem]]:
        """The vectors of some utterances, (n, W), masked if there is none, and their faults.

        Args:
            indices: position of each utterance in the split.
            keys: name of each utterance in a CSV file.
        """
        rows = list(indices) if self.row_of is None else [self.row_of.get(key, -1) for key in keys]
        found_n = np.array(rows) >= 0
        taken_nW = np.asarray(np.ma.getdata(self.values)[rows], dtype=np.float32)
        mask_nW = np.zeros(taken_nW.shape, dtype=bool)
        if isinstance(self.values, np.ma.MaskedArray):
            mask_nW = np.ma.getmaskarray(self.values[rows])
        mask_nW = mask_nW | ~found_n[:, None]
        self.used.update(row for row in rows if row >= 0)
        return np.ma.MaskedArray(taken_nW, mask=mask_nW), [self.faults[row] for row in rows if row in self.faults]


def open_vectors(place: Location, *, utterances: int, key: str, nan_is_absent: bool = False) -> VectorFile:
    """Open a .npy file with rows in the order of the utterances, or a .csv file whose column `key` names them.

    Raises:
        CorpusError: the number of rows is wrong, the key column is missing, or a key appears twice.
    """
    if place.name.endswith(".npy"):
        values: NDArray | np.ma.MaskedArray = read_npy(place)
        if len(values) != utterances:
            raise CorpusError(
                f"{place.uri}: expected {counted(utterances, 'row')}, one per utterance, found {len(values)}"
            )
        if nan_is_absent:
            values = np.ma.masked_invalid(np.asarray(values, dtype=np.float32))
        return VectorFile(place, values)
    if place.name.endswith(".csv"):
        return _open_keyed(place, key, nan_is_absent)
    raise ConfigError(f"vectors must be in a .npy or .csv file, not in {place.name}")


def _open_keyed(place: Location, key: str, nan_is_absent: bool) -> VectorFile:
    columns = [column for column in next(records_of(place), (0, []))[1] if column != key]
    rows = read_csv(place, [key])
    if not columns or not rows:
        raise CorpusError(f"{place.uri} has no vectors")
    values = np.ma.masked_all((len(rows), len(columns)), dtype=np.float32)
    file = VectorFile(place, values, row_of={})
    assert file.row_of is not None
    for index, row in enumerate(rows):
        name = row.cells[key].strip()
        stem = name.rsplit(".", 1)[0] if "." in name else name
        if stem in file.row_of:
            raise CorpusError(f"{place.uri}, line {row.line}: {key} {name} appears twice")
        file.row_of[stem] = index
        try:
            found = numbers([row.cells[column] for column in columns])
        except ValueError as error:
            file.faults[index] = Problem(str(error), place.uri, row.line)
            continue
        values[index] = np.ma.masked_invalid(found) if nan_is_absent else found
    return file


@dataclass(frozen=True)
class DefaultVectors:
    """A usual file of vectors of a data set, read if no option names another."""

    pattern: str
    extractor: str
    version: str
    licence: str
    parameters: dict[str, Any] = field(default_factory=dict)


VECTOR_OPTIONS = {
    **{
        f"{modality}_vectors": f"file of the {modality} vectors, with {{split}} in its name: .npy (rows in order) or "
        ".csv (column filename); `none` leaves them out"
        for modality in ("text", "audio", "vision")
    },
    **{
        f"{modality}_{part}": f"{part} of the {modality} vectors, for the manifest"
        for modality in ("text", "audio", "vision")
        for part in CONTRACT_OPTIONS
    },
    "nan": "how to read NaN in a file of vectors: refuse (an error, the default) or absent (not present)",
}


def nan_is_absent(options: Mapping[str, str]) -> bool:
    """The option `nan`.

    Raises:
        ConfigError: it is neither refuse nor absent.
    """
    choice = options.get("nan", "refuse")
    if choice not in NAN_CHOICES:
        raise ConfigError(f"option nan is {' or '.join(NAN_CHOICES)}, not {choice}")
    return choice == "absent"


def vector_patterns(
    source: Location,
    options: Mapping[str, str],
    defaults: Mapping[Modality, DefaultVectors],
    splits: Sequence[Split],
) -> dict[Modality, str]:
    """The file pattern of each modality that will be read.

    Raises:
        ConfigError: there is none, or a pattern lacks {split}.
    """
    patterns: dict[Modality, str] = {}
    modalities: tuple[Modality, ...] = ("text", "audio", "vision")
    for modality in modalities:
        given = options.get(f"{modality}_vectors")
        if given == "none":
            continue
        if given:
            patterns[modality] = given
        elif modality in defaults:
            pattern = defaults[modality].pattern
            if any(source.join(pattern.format(split=split)).exists() for split in splits):
                patterns[modality] = pattern
    if not patterns:
        usual = ", ".join(default.pattern for default in defaults.values())
        raise ConfigError(
            f"{source.uri} has no vectors ({usual}); name files with --option text_vectors=…, audio_vectors=… or "
            "vision_vectors=…"
        )
    for modality, pattern in patterns.items():
        if "{split}" not in pattern:
            raise ConfigError(f"option {modality}_vectors must name one file per split, but {pattern} lacks {{split}}")
    return patterns


def contract_of(
    modality: Modality, pattern: str, width: int, options: Mapping[str, str], default: DefaultVectors | None
) -> FeatureContract:
    """The feature contract: from the options, else from the default if its file is read, else from the file name."""
    known = default if default is not None and default.pattern == pattern else None
    return FeatureContract(
        extractor=options.get(f"{modality}_extractor") or (known.extractor if known else pattern),
        version=options.get(f"{modality}_version") or (known.version if known else "unknown"),
        licence=options.get(f"{modality}_licence") or (known.licence if known else "unknown"),
        parameters=known.parameters if known else {},
        width=width,
    )
