"""QRS complexes in one ECG channel, online, at any rate from 100 to 1000 Hz and any gain and polarity.

    detector = make_qrs_detector(360, "MLII")
    for block in blocks:
        beats = detector.feed(block.values[0], block.first)
    beats = detector.flush()

A beat's ``sample`` is its R peak: the largest deflection, of either polarity, from what is before and after it. Its
``confidence`` is the probability the verifier gives it (the rules: how far above their threshold it is). Three methods:

``native``
    candidates and a learned verifier, about 0.34 s behind the R peak; never longer once it has learned the patient.
``native:rules``
    the same candidates and as long a look-ahead, decided by rules alone; a search back may add to the delay.
``native:rules-fast``
    the rules with a shorter look-ahead: about 0.25 s.

``qrs_reference`` is the specification, in plain Python; ``_kernel`` is the same, bit for bit, compiled. Without the kernel
(``KERNEL`` is false) the reference does the work, some hundred times slower, yet fast enough for a few channels live.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_agent.journey import Beat
from edge_agent.signal.qrs_design import METHODS, Design, Weights, design
from edge_agent.signal.qrs_reference import Found, Reference

__all__ = ["KERNEL", "METHODS", "QrsDetector", "design", "make_core", "make_qrs_detector", "read_weights", "weights"]

KERNEL = True
"""Whether the compiled kernel is there."""
try:
    from edge_agent.signal._kernel import Kernel
except ImportError:  # no compiler where it was installed
    KERNEL = False

LEAST_FS, MOST_FS = 100.0, 1000.0


class Core(Protocol):
    """What ``Reference`` and the kernel's ``Kernel`` have in common."""

    @property
    def learned(self) -> bool: ...
    def feed(self, x: NDArray[np.float32], first: int) -> list[Found] | None: ...
    def flush(self) -> list[Found] | None: ...
    def reset(self, first: int) -> None: ...


@cache
def weights() -> Weights:
    """The verifier that ships; the file says how it was trained."""
    return read_weights(Path(__file__).with_name("qrs_weights.json"))


def read_weights(file: Path) -> Weights:
    found = json.loads(file.read_text(encoding="utf-8"))
    w1 = tuple(tuple(map(float, row)) for row in found["w1"])
    return Weights(w1, tuple(map(float, found["b1"])), tuple(map(float, found["w2"])), float(found["b2"]))


def make_core(numbers: Design, learned: Weights | None, first: int, compiled: bool = KERNEL) -> Core:
    if not compiled:
        return Reference(numbers, learned, first)
    return Kernel(numbers.packed(), learned.packed() if learned else b"", first)


class QrsDetector:
    """One channel's detector. Feed it the channel's samples in order; a jump of ``first`` is taken as a gap."""

    __slots__ = ("_core", "_feed", "channel", "fs")

    def __init__(self, fs: float, channel: str, core: Core) -> None:
        self.fs = fs
        self.channel = channel
        self._core = core
        self._feed: Callable[[NDArray[np.float32], int], list[Found] | None] = core.feed

    @property
    def learned(self) -> bool:
        """Whether it knows the patient's levels: 2.5 s after the first sample that differed from its predecessors."""
        return self._core.learned

    def feed(self, x: NDArray[np.float32], first: int) -> list[Beat]:
        """``x``: contiguous samples in any unit, NaN where there are none; ``first``: the absolute index of the first."""
        found = self._feed(x, first)
        return [Beat(self.channel, *beat) for beat in found] if found else []

    def flush(self) -> list[Beat]:
        """At the end of the stream: what can still be decided, as if the last value went on."""
        return [Beat(self.channel, *beat) for beat in self._core.flush() or ()]

    def reset(self, first: int) -> None:
        """After a gap: filters and rhythm begin anew at ``first``; what was learned of the patient's levels stays for a
        gap of up to 30 s."""
        self._core.reset(first)


def make_qrs_detector(fs: float, channel: str, method: str = "native", first: int = 0) -> QrsDetector:
    if method not in METHODS:
        raise ValueError(f"no QRS method is called {method!r}: {', '.join(METHODS)}")
    if not LEAST_FS <= fs <= MOST_FS:
        raise ValueError(f"{fs:g} samples per second: the QRS detector is made for {LEAST_FS:g} to {MOST_FS:g}")
    numbers = design(fs, method)
    return QrsDetector(fs, channel, make_core(numbers, weights() if numbers.verifier else None, first))
