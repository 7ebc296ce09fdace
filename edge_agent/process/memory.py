"""The memory of a process that lives for months: how the C library keeps it, and how much there is.

glibc maps large blocks one by one and gives them back when they are freed; smaller ones are cut from arenas, one for each few
threads, which give back only what lies at their end. What counts as large begins at 128 KiB and *grows* to the size of the largest block
that was ever freed (mallopt(3), M_MMAP_THRESHOLD): after the first array of 2 MB, arrays of 1 MB lie among the small blocks, and the
arenas grow in steps of megabytes over hours (seen in benchmarks/soak.py). So the threshold is set, which also keeps it, and two arenas
are enough: Python's threads take turns anyhow.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""From malloc.h; they are the same on every processor."""
LARGE_BYTES = 256 << 10
ARENAS = 2


def settle() -> bool:
    """Before there are threads. Whether the C library took it: another one than glibc has no such thing."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    taken = {
        mallopt(M_MMAP_THRESHOLD, LARGE_BYTES),
        mallopt(M_TRIM_THRESHOLD, LARGE_BYTES),
        mallopt(M_ARENA_MAX, ARENAS),
    }
    return taken == {1}


def resident_mb() -> float | None:
    """Resident memory of this process, where the kernel says it."""
    try:
        with Path("/proc/self/status").open(encoding="ascii") as file:
            for line in file:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) / 1024
    except (OSError, ValueError, IndexError):
        return None
    return None
