"""Large blocks go back to the system when they are freed, whatever was freed before."""

from __future__ import annotations

import subprocess
import sys

import pytest

MEASURE = """
import ctypes, platform, sys
from edge_agent.process import memory as heap
libc = ctypes.CDLL(None)
if not hasattr(libc, "mallinfo2"):
    print("no glibc"); sys.exit()
fields = [(name, ctypes.c_size_t) for name in "arena a b hblks hblkhd c d e f g".split()]
libc.mallinfo2.restype = type("Info", (ctypes.Structure,), {"_fields_": fields})
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes, libc.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
if sys.argv[1] == "settled":
    assert heap.settle()
libc.free(libc.malloc(2 << 20))
before = libc.mallinfo2().arena
held = libc.malloc(1 << 20)
print("among the small ones" if libc.mallinfo2().arena > before else "mapped")
"""


@pytest.mark.parametrize(("how", "lies"), [("settled", "mapped"), ("as-it-was", "among the small ones")])
def test_a_block_that_was_freed_does_not_make_large_ones_small(how: str, lies: str) -> None:
    ran = subprocess.run([sys.executable, "-c", MEASURE, how], capture_output=True, text=True, check=True)
    if ran.stdout.strip() == "no glibc":
        pytest.skip("the C library is not glibc 2.33 or newer")
    assert ran.stdout.strip() == lies
