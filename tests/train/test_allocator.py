from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes
import sys
import torch
from joyful_ray.train.allocator import return_large_blocks

NAMES = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in NAMES]

info = ctypes.CDLL(None).mallinfo2
info.restype = Info

if sys.argv[1] == "set":
    assert return_large_blocks()
for _ in range(3):
    torch.ones(31 << 18)  # 31 MiB: glibc raises its threshold to this when it is freed
before = info().hblks
held = [torch.ones(12 << 18) for _ in range(4)]
print(info().hblks - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="counts blocks with glibc's mallinfo2")
@pytest.mark.parametrize(("how", "mapped"), [("set", 4), ("not-set", 0)])
def test_large_tensors_get_their_own_mapping_even_after_larger_ones(how: str, mapped: int) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
    assert int(done.stdout) == mapped
