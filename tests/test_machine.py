from __future__ import annotations

import platform
from pathlib import Path

import pytest

from tests.helpers import forked

TENSORS, MEGABYTES = 40, 3
HELD = f"""
import torch
from pathlib import Path
from compress.machine import return_freed_memory

def resident() -> int:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) // 1024

torch.ones({MEGABYTES + 1} << 18)  # from now on glibc by itself keeps blocks of that size
before, large, between = resident(), [], []
for _ in range({TENSORS}):
    large.append(torch.ones({MEGABYTES} << 18))
    between.append(torch.ones(1 << 14))
large.clear()
RETURN
print(resident() - before)
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or not Path("/proc/self/status").exists(), reason="only glibc keeps them"
)
def test_large_tensors_leave_no_gaps_between_small_ones() -> None:
    """Megabytes that a process still has when its large tensors are gone: with the call next to none."""
    kept, returned = (
        int(forked.run(["-c", HELD.replace("RETURN", call)]).stdout.strip()) for call in ("", "return_freed_memory()")
    )
    assert kept > TENSORS * MEGABYTES / 2
    assert returned < TENSORS * MEGABYTES / 5
