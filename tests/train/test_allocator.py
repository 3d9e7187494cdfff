from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
import torch
from joyful_ray.train.allocator import give_large_blocks_back

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 >> 20

if sys.argv[1] == "set":
    assert give_large_blocks_back()
for _ in range(3):
    torch.ones(31 << 18)  # 31 MiB: glibc takes it as the new limit when it is freed
before = resident()
large = [(torch.ones(12 << 18), torch.ones(1 << 15)) for _ in range(16)]
stay = [small for _, small in large]
del large
print(resident() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's mallopt")
def test_freed_tensors_leave_no_holes_between_those_that_stay() -> None:
    kept = {
        how: int(
            subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True).stdout
        )
        for how in ("set", "not-set")
    }
    assert kept["set"] < 40, "MiB of 192 that were freed"
    assert kept["not-set"] > 100, "the allocator no longer needs this setting"
