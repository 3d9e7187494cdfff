"""One modality's vectors from a file beside a data set's own: rows of a .npy in the same order, or a csv with a key.

Shapes: R = vectors in the file, n = utterances asked for, W = width.
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

NAN_CHOICES = ("refuse", "absent")
CONTRACT_OPTIONS = ("extractor", "version", "licence")


@dataclass
class VectorFile:
    """The vectors of one modality and split.

    Attributes:
        values: (R, W); masked cells are absent.
        row_of: csv: the row of each key; None where rows follow the utterances' own order.
        faults: csv: what is wrong with a row.
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
        """Rows that no utterance has asked for."""
        return len(self.values) - len(self.used)

    def take(self, indices: Sequence[int], keys: Sequence[str]) -> tuple[np.ma.MaskedArray, list[Problem]]:
        """The vectors of some utterances, (n, W), masked where there is none, and what is wrong with them.

        Args:
            indices: each utterance's position among all of the split.
            keys: each utterance's name in a keyed file.
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
    """Open a .npy whose rows follow the utterances, or a .csv whose column `key` names them.

    Raises:
        CorpusError: another number of rows than utterances, a missing key column, a key that stands twice.
    """
    if place.name.endswith(".npy"):
        values: NDArray | np.ma.MaskedArray = read_npy(place)
        if len(values) != utterances:
            raise CorpusError(f"{place.uri}: expected a row for each of {utterances} utterances, found {len(values)}")
        if nan_is_absent:
            values = np.ma.masked_invalid(np.asarray(values, dtype=np.float32))
        return VectorFile(place, values)
    if place.name.endswith(".csv"):
        return _open_keyed(place, key, nan_is_absent)
    raise ConfigError(f"vectors come from .npy or .csv, not {place.name}")


def _open_keyed(place: Location, key: str, nan_is_absent: bool) -> VectorFile:
    columns = [column for column in next(records_of(place), (0, []))[1] if column != key]
    rows = read_csv(place, [key])
    if not columns or not rows:
        raise CorpusError(f"{place.uri}: no vectors in it")
    values = np.ma.masked_all((len(rows), len(columns)), dtype=np.float32)
    file = VectorFile(place, values, row_of={})
    assert file.row_of is not None
    for index, row in enumerate(rows):
        name = row.cells[key].strip()
        stem = name.rsplit(".", 1)[0] if "." in name else name
        if stem in file.row_of:
            raise CorpusError(f"{place.uri}, line {row.line}: {key} {name} stands twice")
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
    """The vectors that usually lie beside a data set, used where no option names others."""

    pattern: str
    extractor: str
    version: str
    licence: str
    parameters: dict[str, Any] = field(default_factory=dict)


VECTOR_OPTIONS = {
    **{
        f"{modality}_vectors": f"file of the {modality} vectors with {{split}} in its name: .npy (a row a csv row) "
        "or .csv (with a filename column); none leaves them out"
        for modality in ("text", "audio", "vision")
    },
    **{
        f"{modality}_{part}": f"{part} of the {modality} vectors, for the manifest"
        for modality in ("text", "audio", "vision")
        for part in CONTRACT_OPTIONS
    },
    "nan": "what NaN means in a file of vectors: refuse (an error, the default) or absent (not present)",
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
        ConfigError: there is none.
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
        wanted = ", ".join(default.pattern for default in defaults.values())
        raise ConfigError(f"{source.uri} holds no vectors ({wanted}); name files with text_vectors=, audio_vectors= …")
    for modality, pattern in patterns.items():
        if "{split}" not in pattern:
            raise ConfigError(f"option {modality}_vectors names one file a split: {pattern} lacks {{split}}")
    return patterns


def contract_of(
    modality: Modality, pattern: str, width: int, options: Mapping[str, str], default: DefaultVectors | None
) -> FeatureContract:
    """The feature contract: the options', else the default's where its own file is read, else the file's name."""
    known = default if default is not None and default.pattern == pattern else None
    return FeatureContract(
        extractor=options.get(f"{modality}_extractor") or (known.extractor if known else pattern),
        version=options.get(f"{modality}_version") or (known.version if known else "unknown"),
        licence=options.get(f"{modality}_licence") or (known.licence if known else "unknown"),
        parameters=known.parameters if known else {},
        width=width,
    )
