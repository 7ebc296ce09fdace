"""QRS detection by py-ecg-detectors (Howell & Porr), for those who must compare with earlier work.

Its detectors look at a whole recording. Here one of them is run over the last ``STRETCH_S`` of the signal every
``HOP_S``, at instants that are fixed in the stream (whole multiples of the hop), so that what comes out never depends
on how the signal was cut into blocks. What it says of the last ``GUARD_S`` is left to the next run, since a detection
near the edge may still change. ``known`` is the run that reported the beat: a mean delay of ``GUARD_S + HOP_S / 2``
and a worst of one hop more when only the next run saw it.

Departures from the package: its marks lie up to 0.1 s after the R peak (they are maxima of a filtered, averaged
signal), so each is moved to the largest deflection near it; marks on a flat line are dropped, and so are those within
``REFRACTORY_S`` of the beat before (two runs may mark one beat differently). It gives no confidence: each beat has 0.5.

The package is under the GPL and needs SciPy and PyWavelets. It is imported when a detector is asked for and not before.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.journey import Beat

PREFIX = "ecgdetectors:"
NAMES = ("pan_tompkins", "hamilton", "two_average", "christov", "engzee", "swt", "matched_filter", "wqrs")
TEMPLATE_RATES = (250.0, 360.0)
"""The package holds templates for the matched filter at these rates alone."""

STRETCH_S = 10.0
HOP_S = 0.5
GUARD_S = 0.5
LEARN_S = 3.0
"""The first run comes when this much has been seen (``wqrs`` needs the whole stretch and finds nothing before)."""
REFRACTORY_S = 0.2
BEFORE_S, AFTER_S = 0.15, 0.15
"""Where the R peak is looked for, about the package's mark."""
STEP_S = 0.02
"""Steepness is the change over this long."""
NEAR_S = 0.06
"""The peak lies within this of the steepest place; no change of signal there is a flat line."""
CONFIDENCE = 0.5


class MissingExtraError(ImportError):
    """A detector was asked for whose package is not installed."""


class EcgDetectors:
    """One of py-ecg-detectors over a sliding stretch; the interface of every QRS detector here."""

    def __init__(self, fs: float, channel: str, name: str, first: int = 0) -> None:
        self.fs = fs
        self.channel = channel
        self._detect = _load(name, fs)
        self._hop = _samples(HOP_S, fs)
        self._guard = _samples(GUARD_S, fs)
        self._learn = _samples(LEARN_S, fs)
        self._refractory = _samples(REFRACTORY_S, fs)
        self._stretch: NDArray[np.float64] = np.zeros(_samples(STRETCH_S, fs))
        self.reset(first)

    @property
    def learned(self) -> bool:
        """Whether enough has been seen for a first run."""
        return self._held >= self._learn

    def reset(self, first: int) -> None:
        """Forget the signal; the next sample has index ``first``."""
        self._end = first
        self._held = 0
        self._level = 0.0
        self._settled = first
        """Beats before this index were the business of earlier runs."""
        self._last = first - self._refractory - 1

    def feed(self, x: NDArray[np.float32], first: int) -> list[Beat]:
        """Take samples ``first``, ``first + 1``, ...; a gap before them resets: no beat may be found across it."""
        if first != self._end:
            self.reset(first)
        beats: list[Beat] = []
        at = 0
        while at < len(x):
            take = min(len(x) - at, self._hop - self._end % self._hop)
            self._append(x[at : at + take])
            at += take
            if self._end % self._hop == 0 and self.learned:
                beats += self._run(self._guard)
        return beats

    def flush(self) -> list[Beat]:
        """The stream has ended: also the beats that would have waited for the next run."""
        return self._run(0) if self.learned else []

    def _append(self, x: NDArray[np.float32]) -> None:
        """The newest samples in, the oldest out; what is missing is held at the value before it."""
        values = x.astype(np.float64)
        good = np.isfinite(values)
        if not good.all():
            newest = np.maximum.accumulate(np.where(good, np.arange(len(values)), -1))
            values = np.where(newest >= 0, values[newest], self._level)
        self._level = float(values[-1])
        self._end += len(values)
        size = len(self._stretch)
        over = self._held + len(values) - size
        if over > 0:
            self._stretch[:-over] = self._stretch[over:].copy()
            self._held -= over
        self._stretch[self._held : self._held + len(values)] = values
        self._held += len(values)

    def _run(self, guard: int) -> list[Beat]:
        stretch = self._stretch[: self._held]
        start = self._end - self._held
        upto = self._end - guard
        beats: list[Beat] = []
        for mark in self._detect(stretch.copy()):
            peak = _r_peak(stretch, mark, self.fs)
            if peak is None:
                continue
            sample = start + peak
            if self._settled - self._refractory <= sample < upto and sample - self._last > self._refractory:
                beats.append(Beat(self.channel, sample, self._end - 1, CONFIDENCE))
                self._last = sample
        self._settled = upto
        return beats


def make_ecgdetectors(fs: float, channel: str, method: str, first: int = 0) -> EcgDetectors:
    """``method`` is ``ecgdetectors:NAME``."""
    return EcgDetectors(fs, channel, method.removeprefix(PREFIX), first)


def _load(name: str, fs: float) -> Callable[[NDArray[np.float64]], list[int]]:
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, 1)
        hint = f"; did you mean {PREFIX}{near[0]}?" if near else ""
        raise ValueError(f"unknown detector {PREFIX}{name}: one of {', '.join(NAMES)}{hint}")
    if name == "matched_filter" and fs not in TEMPLATE_RATES:
        raise ValueError(f"{PREFIX}{name} has templates for 250 and 360 samples per second, not for {fs:g}")
    if fs < 100:
        raise ValueError(f"{PREFIX}{name} needs at least 100 samples per second, not {fs:g}")
    if name == "wqrs" and fs != int(fs):
        raise ValueError(f"{PREFIX}{name} needs a whole number of samples per second, not {fs:g}")
    try:
        module: Any = import_module("ecgdetectors")
    except ImportError as missing:
        raise MissingExtraError(
            f"{PREFIX}{name} needs the package py-ecg-detectors ({missing}): pip install py-ecg-detectors"
        ) from missing
    method = getattr(module.Detectors(int(fs) if fs == int(fs) else fs), f"{name}_detector")

    def detect(x: NDArray[np.float64]) -> list[int]:
        with np.errstate(all="ignore"):
            try:
                found = method(x - x[0])  # from zero: its filters would ring from a step, and learn from that
            except (ArithmeticError, IndexError, ValueError):
                return []  # several of them fail where a stretch holds no beat at all
        return sorted({int(mark) for mark in found})

    return detect


def _r_peak(x: NDArray[np.float64], mark: int, fs: float) -> int | None:
    """The largest deflection from the level around it, at the steepest place about a mark; None on a flat line.

    The steepest place first, since a P or T wave near the mark may be as tall as the QRS complex.
    """
    low, high = max(0, mark - _samples(BEFORE_S, fs)), min(len(x), mark + _samples(AFTER_S, fs) + 1)
    step = max(1, _samples(STEP_S, fs))
    if high - low <= step:
        return None
    steep = low + int(np.argmax(np.abs(x[low + step : high] - x[low : high - step]))) + step // 2
    near = _samples(NEAR_S, fs)
    low, high = max(0, steep - near), min(len(x), steep + near + 1)
    about = x[max(0, low - 4 * near) : high + 4 * near]
    if not np.ptp(x[low:high]) > 0:
        return None
    return low + int(np.argmax(np.abs(x[low:high] - np.median(about))))


def _samples(seconds: float, fs: float) -> int:
    return round(seconds * fs)
