"""Recordings: a WFDB record, a CSV or an EDF file as one thing that can be read stretch by stretch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from edge_agent.errors import SourceError
from edge_agent.journey import Samples
from edge_agent.sources.base import Signal, StreamInfo, guess_kind

# To millivolts and mmHg, by the unit's name in lower case; other units are kept as they are.
SCALE = {
    "v": ("mV", 1000.0),
    "mv": ("mV", 1.0),
    "uv": ("mV", 0.001),
    "µv": ("mV", 0.001),
    "μv": ("mV", 0.001),
    "nv": ("mV", 1e-6),
    "mmhg": ("mmHg", 1.0),
    "kpa": ("mmHg", 7.50062),
}


class Recording(Protocol):
    """Opened once; read in any order."""

    info: StreamInfo

    def read(self, first: int, n: int) -> Samples:
        """Samples first..first+n-1 of all channels (fewer at the end), NaN where there is none."""

    def close(self) -> None: ...


def make_signals(names: Sequence[str], units: Sequence[str]) -> tuple[tuple[Signal, ...], list[float]]:
    """Signals with unique names, kinds and units as we use them, and the factor to get there."""
    signals: list[Signal] = []
    factors: list[float] = []
    for number, (name, unit) in enumerate(zip(names, units, strict=True), 1):
        label = (name or "").strip() or f"ch{number}"
        while any(label == other.name for other in signals):
            label += "'"
        known, factor = SCALE.get((unit or "").strip().lower(), (unit or "", 1.0))
        signals.append(Signal(label, guess_kind(label, known), known))
        factors.append(factor)
    return tuple(signals), factors


def stretch(x: Samples, factor: int, following: float) -> Samples:
    """A slower channel on the stream's clock: linear between its samples, ``following`` being the one after the last."""
    if factor == 1:
        return x
    padded = np.append(x, np.float32(following))
    return np.interp(np.arange(x.size * factor) / factor, np.arange(padded.size), padded).astype(np.float32)


def whole_ratio(fs: float, slower: float, where: str) -> int:
    """How many samples of the stream's clock one of a slower channel lasts."""
    ratio = fs / slower
    if abs(ratio - round(ratio)) > 1e-6:
        raise SourceError(
            f"{where}: has channels at {fs:g} and {slower:g} Hz, which do not fit one clock",
            remedy="export the channels of one rate to a file of their own",
        )
    return round(ratio)


def missing_library(what: str, library: str) -> SourceError:
    return SourceError(f"reading {what} needs a library that is not installed", remedy=f"pip install {library}")
