"""Another rate for a signal: polyphase, linear phase, the same however the signal is cut.

The filter is a sinc under a Kaiser window (Kaiser 1974; Oppenheim & Schafer, *Discrete-Time Signal Processing*, 7.5), one set of
taps for each phase of the output between two input samples. Of the lower of the two rates' Nyquist frequency it passes all up to
``PASS`` (ripple below 0.1 dB) and nothing from 1 on (60 dB down), so that nothing is folded back. Each phase's taps are made
to sum to 1: a pressure keeps its mean to the last digit, whatever the ripple.

Output k lies at time k / fs_out, input n at n / fs_in: both begin together and no phase is shifted. The price is that an output
needs ``reach`` input samples after it, and that is the delay, ``delay_s``: 22 samples of the lower rate.

Where samples are missing (NaN, or before the beginning and after the end) the weights of those that are there are made to sum to
1 instead; an output whose nearest input is missing is missing, too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edge_agent.journey import Samples

Table = NDArray[np.float64]

PASS = 0.8
"""Of the lower Nyquist frequency."""
DESIGN_DB = 70.0
"""More than the 60 that are promised: phases of a windowed sinc differ a little."""
BETA = 0.1102 * (DESIGN_DB - 8.7)
REACH = math.ceil((DESIGN_DB - 7.95) / (14.36 * (1 - PASS) / 2) / 2)
"""Samples of the lower rate to either side: Kaiser's estimate of the length for a transition from PASS to 1."""
MOST_PHASES = 1024
"""Ratios that need more (no pair of common rates does) have their phases rounded to so many: 1/2048 of a sample."""
MOST_AT_ONCE = 2048
"""Outputs: what bounds the memory for a long recording."""
LEAST_WEIGHT = 0.25
"""With less of the filter left than this, an output is taken from the line between its neighbours."""


@dataclass(frozen=True)
class Polyphase:
    """The filter from one rate to another; without state."""

    step: Fraction
    """Input samples per output sample."""
    phases: int
    reach: int
    """Input samples that an output needs after it (and before it)."""
    taps: Table
    """(phases + 1, 2 reach): for the inputs -reach+1 .. reach from the one at or before the output."""

    def outputs(self, n: int) -> int:
        """How many outputs lie within n inputs."""
        return math.ceil(n / self.step)

    def complete(self, n: int) -> int:
        """How many outputs need nothing beyond the first n inputs: floor(k step) + reach < n."""
        return max(0, math.ceil((n - self.reach) / self.step))

    def span(self, k0: int, k1: int) -> tuple[int, int]:
        """The inputs that outputs k0..k1-1 need."""
        return math.floor(k0 * self.step) - self.reach + 1, math.floor((k1 - 1) * self.step) + self.reach + 1

    def at(self, x: Samples, first: int, k0: int, k1: int) -> Samples:
        """Outputs k0..k1-1 from inputs ``x`` (..., n) that begin at index ``first``; what lies outside them is missing.

        Each output is a sum along a row of its own, of the same length and in the same order however many are asked for
        together: no matrix product, whose order of summation depends on its size.
        """
        if k1 <= k0:
            return np.empty((*x.shape[:-1], 0), np.float32)
        if k1 - k0 > MOST_AT_ONCE:
            parts = [self.at(x, first, k, min(k1, k + MOST_AT_ONCE)) for k in range(k0, k1, MOST_AT_ONCE)]
            return np.concatenate(parts, axis=-1)
        low, high = self.span(k0, k1)
        have0, have1 = max(low, first), min(high, first + x.shape[-1])
        padded = np.full((*x.shape[:-1], high - low), np.nan)
        if have1 > have0:
            padded[..., have0 - low : have1 - low] = x[..., have0 - first : have1 - first]
        there = np.isfinite(padded)
        values = np.where(there, padded, 0.0)
        whole, phase = self._places(k0, k1)
        index = whole - low - self.reach + 1  # of the first tap
        windows = index[:, None] + np.arange(2 * self.reach)
        taps = self.taps[phase]
        weighted = np.add.reduce(np.take(values, windows, axis=-1) * taps, axis=-1)
        if not there.all():
            whole_there = np.take(there, windows, axis=-1)
            weight = np.add.reduce(whole_there * taps, axis=-1)
            complete: NDArray[np.bool_] = np.logical_and.reduce(whole_there, axis=-1)
            have = (have0 - low, have1 - low)
            weighted = self._without_missing(weighted, weight, complete, values, there, index, phase, have)
        y: Samples = weighted.astype(np.float32)
        return y

    def _places(self, k0: int, k1: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """For each output the input at or before it, and its phase between that and the next. In whole numbers: no drift."""
        up, down = self.step.denominator, self.step.numerator
        begin = k0 * down // up
        rest = (k0 * down % up) + np.arange(k1 - k0, dtype=np.int64) * down
        whole, part = begin + rest // up, rest % up
        return whole, part if up == self.phases else np.rint(part * (self.phases / up)).astype(np.int64)

    def _without_missing(
        self,
        weighted: Table,
        weight: Table,
        complete: NDArray[np.bool_],
        values: Table,
        there: NDArray[np.bool_],
        index: NDArray[np.int64],
        phase: NDArray[np.int64],
        have: tuple[int, int],
    ) -> Table:
        before = index + self.reach - 1
        after = before + 1
        part = phase / self.phases
        line = values[..., before] * (1 - part) + values[..., after] * part
        line = np.where(there[..., after], line, values[..., before])
        line = np.where(there[..., before], line, values[..., after])
        scaled = weighted / np.where(weight > LEAST_WEIGHT, weight, 1.0)
        found = np.where(complete, weighted, np.where(weight > LEAST_WEIGHT, scaled, line))
        nearest = np.clip(before + (2 * phase > self.phases), have[0], max(have[0], have[1] - 1))
        return np.where(there[..., nearest], found, np.nan)


@lru_cache(maxsize=32)
def polyphase(fs_in: float, fs_out: float) -> Polyphase:
    """The filter between two rates; their ratio is taken as a fraction of whole numbers."""
    step = Fraction(fs_in).limit_denominator(10**6) / Fraction(fs_out).limit_denominator(10**6)
    narrow = min(1.0, float(1 / step))  # the lower rate, in input samples
    width = REACH / narrow
    reach = math.ceil(width)
    phases = step.denominator if step.denominator <= MOST_PHASES else MOST_PHASES
    from_tap = np.arange(-reach + 1, reach + 1)[None, :] - np.arange(phases + 1)[:, None] / phases
    cutoff = (1 + PASS) / 2 * narrow
    inside = np.clip(1 - (from_tap / width) ** 2, 0, None)
    window = np.where(np.abs(from_tap) < width, np.i0(BETA * np.sqrt(inside)), 0.0)
    taps = np.sinc(cutoff * from_tap) * window
    taps /= taps.sum(axis=1, keepdims=True)
    return Polyphase(step, phases, reach, taps)


class Resampler:
    """The same, for a signal that comes bit by bit: each output as soon as the inputs that it needs are there."""

    def __init__(self, fs_in: float, fs_out: float) -> None:
        self._filter = polyphase(fs_in, fs_out)
        self.delay_s = self._filter.reach / fs_in
        """From an output's own time to that of the newest input that it needed."""
        self._held: Samples | None = None  # the inputs that outputs to come will need
        self._held_first = 0
        self._end = 0  # inputs so far
        self._given = 0  # outputs so far

    def feed(self, x: Samples) -> Samples:
        """Inputs (channels, n) in, outputs (channels, m) out."""
        held = x if self._held is None else np.concatenate([self._held, x], axis=-1)
        self._end += x.shape[-1]
        return self._take(held, self._filter.complete(self._end))

    def flush(self) -> Samples:
        """The outputs that were waiting for inputs that will not come."""
        if self._held is None:
            return np.empty((0, 0), np.float32)
        return self._take(self._held, self._filter.outputs(self._end))

    def _take(self, held: Samples, until: int) -> Samples:
        until = max(until, self._given)
        y = self._filter.at(held, self._held_first, self._given, until)
        self._given = until
        keep = max(self._held_first, min(self._filter.span(until, until + 1)[0], self._end))
        self._held = held[..., keep - self._held_first :]
        self._held_first = keep
        return y
