"""Random numbers that are the same on every machine, at any index, in any order.

SplitMix64 (Steele, Lea & Flood 2014) is already a function of a counter: the n-th output mixes ``key + n * gamma``. So
there is no state to carry from chunk to chunk, and any stretch can be asked for alone. numpy promises nothing of the
kind for its distributions; only integer arithmetic, ``log``, ``sqrt`` and ``cos`` are used here, and what leaves the
simulator is rounded to a physical step far coarser than the last bit in which those may differ between machines.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15
_M1 = 0xBF58476D1CE4E5B9
_M2 = 0x94D049BB133111EB
_UNIT = 2.0**-53


def stream_key(seed: int, name: str) -> int:
    """The key of one independent stream of a seed."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "little")


def uniform(key: int, index: int) -> float:
    """The number at `index`, in (0, 1)."""
    z = (key + (index + 1) * _GAMMA) & _MASK
    z = ((z ^ (z >> 30)) * _M1) & _MASK
    z = ((z ^ (z >> 27)) * _M2) & _MASK
    z ^= z >> 31
    return ((z >> 11) + 0.5) * _UNIT


def normal(key: int, index: int) -> float:
    """A standard normal at `index` (Box-Muller; uses two numbers of the stream)."""
    radius = math.sqrt(-2.0 * math.log(uniform(key, 2 * index)))
    return radius * math.cos(2.0 * math.pi * uniform(key, 2 * index + 1))


def uniforms(key: int, first: int, count: int) -> Floats:
    """The numbers at `first` to `first + count`, as `uniform` gives them one by one."""
    start = (key + (first + 1) * _GAMMA) & _MASK
    z = np.arange(count, dtype=np.uint64)
    z *= np.uint64(_GAMMA)
    z += np.uint64(start)
    z ^= z >> np.uint64(30)
    z *= np.uint64(_M1)
    z ^= z >> np.uint64(27)
    z *= np.uint64(_M2)
    z ^= z >> np.uint64(31)
    z >>= np.uint64(11)
    return (z.astype(np.float64) + 0.5) * _UNIT


def normals(key: int, first: int, count: int) -> Floats:
    """Standard normals at `first` to `first + count`: number n is always the same, however they are asked for.

    Both halves of Box-Muller's pair are used: an even and the next odd index share a radius.
    """
    if count <= 0:
        return np.zeros(0)
    pair = first // 2
    pairs = (first + count + 1) // 2 - pair
    u = uniforms(key, 2 * pair, 2 * pairs)
    radius = np.sqrt(-2.0 * np.log(u[0::2]))
    angle = (2.0 * math.pi) * u[1::2]
    out = np.empty(2 * pairs)
    out[0::2] = radius * np.cos(angle)
    out[1::2] = radius * np.sin(angle)
    lead = first - 2 * pair
    return out[lead : lead + count]
