"""Reads pickles of other projects without importing or running anything in them.

A pickle is a program: it names functions and calls them. Here each allowed name is replaced by a small class of this
module, which only keeps its arguments; numpy's functions are not called with them either. Arrays of numbers and strings
are then made from the kept bytes. Any other name is an error.
"""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from joyful_ray.errors import CorpusError
from joyful_ray.storage import Location

NUMBER_OR_STRING = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248]|[SU]\d{1,7})\Z")
PLAIN = (str, float, int, bytes, np.ndarray, type(None))
MALFORMED = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    RecursionError,
    MemoryError,
)


class Record:
    """An object of the pickle: its attributes without its behaviour."""

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
            raise pickle.UnpicklingError("an object's state is not a dict of attributes")
        self.__dict__.update(state)


class _KeptType:
    """Replaces numpy.dtype: the name of a plain type, or `O`."""

    def __init__(self, spelling: Any, align: Any = False, copy: Any = False) -> None:
        self.spelling = spelling.decode("ascii") if isinstance(spelling, bytes) else str(spelling)
        self.byte_order = "="

    def __setstate__(self, state: Any) -> None:
        if state[3] is not None or state[4] is not None:
            raise pickle.UnpicklingError("an array with named fields")
        order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        if order in ("<", ">"):
            self.byte_order = order

    @property
    def is_object(self) -> bool:
        return self.spelling in ("O", "O8", "O4", "|O")

    def plain(self) -> np.dtype:
        """The numpy type of this name."""
        if not NUMBER_OR_STRING.match(self.spelling):
            raise pickle.UnpicklingError(f"an array of type {self.spelling!r}")
        return np.dtype(self.spelling.lstrip("<>|=")).newbyteorder(self.byte_order)  # type: ignore[arg-type]


class _KeptArray:
    """Replaces numpy.ndarray until everything is read."""

    value: Any = None

    def __setstate__(self, state: Any) -> None:
        _, shape, kept_type, is_fortran, content = state
        self.value = _array(content, kept_type, shape, "F" if is_fortran else "C")


def _array(content: Any, kept_type: Any, shape: Any, order: Any) -> Any:
    if not isinstance(kept_type, _KeptType) or not all(type(length) is int and length >= 0 for length in shape):
        raise pickle.UnpicklingError("an array without type or shape")
    if kept_type.is_object:
        if not isinstance(content, list):
            raise pickle.UnpicklingError("an array of objects without a list of them")
        return _nested(content, list(shape))
    data = content.encode("latin1") if isinstance(content, str) else content
    if not isinstance(data, bytes | bytearray):
        raise pickle.UnpicklingError("an array without bytes")
    plain = kept_type.plain()
    if int(np.prod(shape, dtype=object)) * plain.itemsize != len(data):
        raise pickle.UnpicklingError(f"an array of shape {tuple(shape)} with {len(data)} bytes")
    values = np.frombuffer(bytes(data), dtype=plain).reshape(shape, order="F" if order == "F" else "C")
    return values.astype(plain.newbyteorder("="))


def _nested(items: list[Any], shape: list[int]) -> list[Any]:
    if len(shape) <= 1:
        return items
    step = len(items) // max(1, shape[0])
    return [_nested(items[start : start + step], shape[1:]) for start in range(0, len(items), max(1, step))]


def _reconstruct(kind: Any, shape: Any = None, base: Any = None) -> _KeptArray:
    if kind is not _KeptArray:
        raise pickle.UnpicklingError("an array of an unknown class")
    return _KeptArray()


def _from_buffer(content: Any, kept_type: Any, shape: Any, order: Any = "C") -> _KeptArray:
    kept = _KeptArray()
    kept.value = _array(content, kept_type, shape, order)
    return kept


def _scalar(kept_type: Any, content: Any = b"") -> Any:
    return _array(content, kept_type, (), "C").item()


def _empty_record(kind: Any, base: Any = object, state: Any = None) -> Record:
    if kind is not Record:
        raise pickle.UnpicklingError("an object of an unknown class")
    return Record()


def _latin1_bytes(text: Any = "", encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("bytes in an unknown encoding")
    return text.encode("latin1")


def _plain(kind: type) -> Callable[..., Any]:
    def made(content: Any = (), *rest: Any) -> Any:
        if isinstance(content, int) or rest:
            raise pickle.UnpicklingError(f"a {kind.__name__} made in an unknown way")
        return kind(content)

    return made


class _KeptDict(dict):
    """Replaces OrderedDict and defaultdict; the function of a defaultdict is not kept."""

    def __init__(self, content: Any = ()) -> None:
        super().__init__(content if isinstance(content, list | tuple | dict) else ())

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a dict with attributes")


class _Call:
    """A function that a pickle may call, but not change."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a function with attributes")


ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _KeptArray,
    ("numpy", "dtype"): _KeptType,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Call(_reconstruct) for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _Call(_scalar) for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _Call(_from_buffer) for core in ("core", "_core")},
    ("_codecs", "encode"): _Call(_latin1_bytes),
    ("collections", "OrderedDict"): _KeptDict,
    ("collections", "defaultdict"): _KeptDict,
    **{(module, "_reconstructor"): _Call(_empty_record) for module in ("copyreg", "copy_reg")},
    **{
        (module, kind.__name__): _Call(_plain(kind))
        for module in ("builtins", "__builtin__")
        for kind in (set, frozenset, list, dict, tuple, bytearray)
    },
    **{(module, "object"): object for module in ("builtins", "__builtin__")},
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in ALLOWED:
            return ALLOWED[module, name]
        if name == "Sample":
            return Record
        raise pickle.UnpicklingError(f"it names {module}.{name}")

    def persistent_load(self, identifier: Any) -> Any:
        raise pickle.UnpicklingError("it refers to something outside")


def read_pickle(place: Location) -> Any:
    """The content of a pickle: dicts, lists, tuples, sets, strings, numbers, numpy arrays, and `Record` for a `Sample`.

    Raises:
        CorpusError: it is damaged, or names anything else; nothing was imported or run.
    """
    data = place.read_bytes()
    try:
        return _resolved(_Reader(io.BytesIO(data), encoding="latin1").load(), {})
    except MALFORMED as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CorpusError(
            f"{place.uri} cannot be read as data ({reason}); only containers and numpy arrays can; nothing was run"
        ) from None


def _resolved(item: Any, done: dict[int, Any]) -> Any:
    """The item with kept arrays replaced by their values."""
    if isinstance(item, PLAIN):
        return item
    if id(item) in done:
        return done[id(item)]
    if isinstance(item, _KeptArray):
        return _resolved(item.value, done) if isinstance(item.value, list) else item.value
    if isinstance(item, dict):
        made: Any = {}
        done[id(item)] = made
        made.update({_resolved(key, done): _resolved(value, done) for key, value in item.items()})
        return made
    if isinstance(item, list):
        made = []
        done[id(item)] = made
        made.extend(_resolved(value, done) for value in item)
        return made
    if isinstance(item, tuple):
        return tuple(_resolved(value, done) for value in item)
    if isinstance(item, Record):
        done[id(item)] = item
        item.__dict__.update({key: _resolved(value, done) for key, value in vars(item).items()})
    return item
