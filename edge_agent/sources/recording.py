"""Recordings: a WFDB record, a CSV, an EDF or an ICM+ file as one thing that can be read stretch by stretch."""

from __future__ import annotations

import logging
import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol

from edge_agent.errors import SourceError
from edge_agent.journey import Samples
from edge_agent.signal.resample import polyphase
from edge_agent.sources.base import Signal, StreamInfo, guess_kind

log = logging.getLogger(__name__)

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
NO_UNIT = ("", "nu", "adu", "au", "raw")

Run = tuple[int, int]
"""A stretch without a gap: its first sample and the one after its last, on the stream's clock."""


class Recording(Protocol):
    """Opened once; read in any order."""

    info: StreamInfo
    runs: tuple[Run, ...]
    """Where there are samples, in order; what lies between two of them is a gap."""

    def read(self, first: int, n: int) -> Samples:
        """Samples first..first+n-1 of all channels, fewer at the end of a run, none in a gap. NaN where there is no value."""

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


def known_unit(label: str, unit: str, where: str) -> str:
    """A unit that is not known for a signal that matters would make its numbers wrong without a word."""
    (signal,), _ = make_signals([label], [unit])
    plain = (unit or "").strip().lower()
    if plain not in SCALE and plain not in NO_UNIT and signal.kind in ("ecg", "abp"):
        raise SourceError(
            f"{where}: {label!r} is in {unit!r}, a unit that is not known",
            remedy=f"known are {', '.join(sorted(SCALE))}; export it in one of these",
        )
    return unit or ""


@lru_cache(maxsize=256)
def warn(text: str) -> None:
    """Once a process: `edge-agent check` opens a file twice, and a stream may open it again and again."""
    log.warning("%s", text)


def warn_of_more(where: object, who: str, said: int, there: int, what: str) -> None:
    """A header that understates its length loses the rest."""
    warn(f"{where}: {who} says {said} {what}, {there} are there: the first {said} are played, the rest is not")


def run_at(runs: Sequence[Run], sample: int) -> Run | None:
    """The run that a sample lies in."""
    number = bisect_right(runs, (sample, math.inf)) - 1  # headers name lengths that no machine's integer holds
    return runs[number] if number >= 0 and sample < runs[number][1] else None


def runs_of(starts: Sequence[float], lengths: Sequence[int], fs: float) -> tuple[Run, ...]:
    """Runs from when they began (seconds after the first) and how long they are.

    A hole of less than half a sample is the rounding of the times: no sample is missing there. Where a clock went back, the
    samples follow on one another; where it comes forward again, the hole is that much smaller.
    """
    runs: list[Run] = []
    for start, length in zip(starts, lengths, strict=True):
        if length <= 0:
            continue
        first = round((start - starts[0]) * fs)
        if runs and first <= runs[-1][1]:
            runs[-1] = (runs[-1][0], runs[-1][1] + length)
        else:
            runs.append((first, first + length))
    return tuple(runs)


def resampled(
    read: Callable[[int, int], Samples], have: Run, fs: float, stream_fs: float, first: int, n: int
) -> Samples:
    """Samples first..first+n-1 on the stream's clock of a channel with a clock of its own.

    Both clocks begin at the channel's sample ``have[0]``, and nothing outside ``have`` is used; ``read(first, end)`` gives the
    channel's own samples.
    """
    filtering = polyphase(fs, stream_fs)
    low, high = filtering.span(first, first + n)
    low, high = max(0, low), min(have[1] - have[0], high)
    x = read(have[0] + low, have[0] + max(low, high))
    return filtering.at(x, low, first, first + n)


def missing_library(what: str, library: str) -> SourceError:
    return SourceError(f"reading {what} needs a library that is not installed", remedy=f"pip install {library}")
