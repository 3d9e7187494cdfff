"""A foreign pickle is read as data: what real files hold comes back, and nothing inside is imported or run."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from joyful_ray.corpora.importers.pickles import Record, read_pickle
from joyful_ray.errors import CorpusError
from joyful_ray.storage import open_location


def read_back(tmp_path: Path, content: Any, protocol: int = 4) -> Any:
    path = tmp_path / "file.pkl"
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol=protocol))
    return read_pickle(open_location(str(path)))


@pytest.mark.parametrize("protocol", range(6))
def test_containers_and_arrays_come_back_from_every_protocol(tmp_path: Path, protocol: int) -> None:
    content = {
        "text": np.arange(6, dtype=np.float32).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
        "big endian": np.arange(3, dtype=">f8"),
        "strings": np.array(["a", "bcd"]),
        "flags": np.array([True, False]),
        "scalar": np.float64(1.5),
        "bytes": b"\xff\x00",
        "set": {"x", "y"},
        "ordered": OrderedDict(a=1),
        "default": defaultdict(list, b=[2]),
        "none": None,
        "ids": ("v1", 2),
    }
    found = read_back(tmp_path, content, protocol)
    assert list(found) == list(content)
    for name, value in content.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(found[name], value)
        else:
            assert found[name] == value
    assert type(found["default"]) is dict


def test_arrays_of_objects_become_lists(tmp_path: Path) -> None:
    ragged = np.empty(2, dtype=object)
    ragged[0], ragged[1] = np.zeros(2), "words"
    found = read_back(tmp_path, ragged)
    np.testing.assert_array_equal(found[0], [0, 0])
    assert found[1] == "words"
    assert read_back(tmp_path, np.array([[1, None], ["a", 2]], dtype=object)) == [[1, None], ["a", 2]]


def test_python_2_pickles_of_arrays_are_read(tmp_path: Path) -> None:
    """Protocol 2 of Python 2 writes array bytes as a string of that time and names numpy.core."""
    raw = np.array([1.5, -2.0], dtype="<f4").tobytes()
    written = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"U" + bytes([len(raw)]) + raw + b"tb."
    )
    np.testing.assert_array_equal(read_back(tmp_path, written), np.array([1.5, -2.0], dtype=np.float32))


@pytest.mark.parametrize("protocol", range(5))
def test_a_sample_of_a_module_that_is_not_installed_is_a_record(tmp_path: Path, protocol: int) -> None:
    code = (
        "import pickle, sys, types, numpy as np\n"
        "module = types.ModuleType('joyful.Sample'); sys.modules['joyful'] = sys.modules['joyful.Sample'] = module\n"
        "class Sample:\n    pass\n"
        "Sample.__module__ = 'joyful.Sample'; module.Sample = Sample\n"
        "sample = Sample(); sample.vid = 'v'; sample.audio = np.ones(2)\n"
        f"pickle.dump({{'train': [sample]}}, open(r'{tmp_path}/s.pkl', 'wb'), protocol={protocol})\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    found: Any = read_pickle(open_location(str(tmp_path / "s.pkl")))["train"][0]
    assert type(found) is Record
    assert vars(found)["vid"] == "v"
    np.testing.assert_array_equal(vars(found)["audio"], [1, 1])
    assert "joyful" not in sys.modules


class Runs:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.what = (function, arguments)

    def __reduce__(self) -> Any:
        return self.what


def test_a_malicious_file_runs_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "it ran"
    for attack in (
        Runs(os.system, f"touch '{mark}'"),
        Runs(eval, f"open(r'{mark}', 'w')"),
        Runs(exec, f"open(r'{mark}', 'w')"),
        Runs(subprocess.check_call, ["touch", str(mark)]),
        Runs(getattr, {}, "keys"),
        Runs(__import__, "antigravity"),
    ):
        data = pickle.dumps({"train": [attack]})
        with pytest.raises(CorpusError, match=r"cannot be read as data \(it names .*nothing was run"):
            read_back(tmp_path, data)
    pickle.loads(pickle.dumps(Runs(os.system, f"touch '{mark}'")))
    assert mark.exists(), "the attack is a real one where a plain pickle.load reads it"


def test_nothing_is_imported(tmp_path: Path) -> None:
    data = b"\x80\x02cantigravity\nfly\n."
    with pytest.raises(CorpusError, match=r"it names antigravity\.fly"):
        read_back(tmp_path, data)
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    ("what", "data"),
    [
        ("attributes of an allowed function", b"\x80\x02c_codecs\nencode\nN}X\x04\x00\x00\x00nameK\x01s\x86b."),
        ("attributes of an allowed class", b"\x80\x02cnumpy\ndtype\nN}X\x05\x00\x00\x00plainK\x01s\x86b."),
        ("attributes of Sample itself", b"\x80\x02cx\nSample\nN}X\x03\x00\x00\x00vidK\x01s\x86b."),
        ("a giant bytearray", b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R."),
        ("something outside", b"\x80\x02X\x01\x00\x00\x00aQ."),
        ("a dotted name", b"\x80\x04\x8c\x05numpy\x8c\x0cdtype.newbyt\x93."),
        ("another codec", b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00zip\x86R."),
        ("an unfinished file", pickle.dumps({"a": np.zeros(9)})[:-30]),
        ("no pickle at all", b"hello"),
        ("nothing", b""),
    ],
)
def test_odd_files_are_refused_in_one_line(tmp_path: Path, what: str, data: bytes) -> None:
    with pytest.raises(CorpusError, match=r"file\.pkl cannot be read as data") as caught:
        read_back(tmp_path, data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(2, dtype=[("a", "f4"), ("b", "O")]),
        np.array(["2020-01-01"], dtype="datetime64[D]"),
        np.zeros(2, dtype="V8"),
        np.zeros(2, dtype=np.complex64),
    ],
)
def test_arrays_of_odd_types_are_refused(tmp_path: Path, array: np.ndarray) -> None:
    with pytest.raises(CorpusError, match="an array"):
        read_back(tmp_path, array)


def test_an_array_whose_bytes_do_not_fit_its_shape_is_refused(tmp_path: Path) -> None:
    data = pickle.dumps(np.zeros(3, dtype=np.float32), protocol=2)
    changed = data.replace(b"K\x03\x85", b"K\x09\x85")
    assert changed != data
    with pytest.raises(CorpusError, match=r"an array of shape \(9,\) with 12 bytes"):
        read_back(tmp_path, changed)
