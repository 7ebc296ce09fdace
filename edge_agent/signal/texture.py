"""What the last three seconds of an ECG lead look like, four times a second, without finding a beat in them.

A beat detector answers in beats whatever it is shown: in a ventricular flutter, a fibrillation or an electrode that is being moved its
answers say little. These numbers look at the signal as a texture instead: does it repeat itself and how soon, does anything in it
resemble the patient's own usual beat, how slow is it, how much of it is there against what is usual. They are evidence for alarm rules and
for the second opinion (`alarms.opinion`); none of them is a verdict.

The autocorrelation of a few seconds as a sign of fibrillation is Chen, Thakor & Mower 1987, the share of power around one peak
Barro et al. 1989 (both reviewed by Amann et al. 2005, "Reliability of old and new ventricular fibrillation detection algorithms").
What is new here is that everything is held against the patient: the usual beat is the median of the beats that the detector found
between 16 s and 150 s ago, the usual size that of those windows. What happens now cannot have become usual yet.

The lead is thinned to about 62 Hz with a triangle over two groups of samples, freed of its baseline below 1 Hz, and everything else is
worked out a whole second at a time, for its four quarters at once. Seconds lie on the absolute index, so the numbers are the same however
the signal was cut, and small blocks cost no more than large ones; the price is up to a second's wait.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_agent.journey import Beat, BeatShape, Texture
from edge_agent.signal.measure import band_power, centred, column_medians, high_pass, likeness, look
from edge_agent.signal.quality_grid import WILD

Array = NDArray[np.float64]

GRID_HZ = 62.5
STEPS_PER_S = 4
WINDOW_S = 3.0
HIGH_PASS_HZ = 1.0
BAND_HZ = (1.0, 20.0)
SLOW_HZ = 6.0
PEAK_MOST_HZ = 10.0
PEAK_REACH_HZ = 0.75
LAGS_S = (0.2, 0.62)
SAME_PEAK = 0.9
MOST_MISSING = 0.05
USUAL_FROM_S, USUAL_TO_S = 150.0, 16.0
"""The usual is learned from this long ago until this long ago."""
MOST_SIZES = round(USUAL_FROM_S * STEPS_PER_S)
LEARN_EVERY_S = 4
LEAST_BEATS = 8
MOST_BEATS = 96
BEAT_BEFORE_S, BEAT_AFTER_S = 0.24, 0.48
QRS_BEFORE_S, QRS_AFTER_S = 0.13, 0.19
RESEMBLES = 0.75
LEAST_PART = 0.3
"""An instant smaller than this part of the usual beat resembles nothing."""
LEAST_SIZE_LOG = -6.0


class EcgTexture:
    """One lead's texture. Fed any cut of the same samples (with the beats that each cut made known), it says the same."""

    def __init__(self, fs: float, channel: str, first: int = 0) -> None:
        self.fs = fs
        self.channel = channel
        group = self._group = max(1, round(fs / GRID_HZ))
        hz = self._hz = fs / group
        self._weights = (group - np.abs(np.arange(2 * group) - (group - 1.0))) / (group * group)
        self._piece = round(hz)
        """Groups that are worked out together: a second."""
        self._steps = np.array([round(self._piece * (k + 1) / STEPS_PER_S) for k in range(STEPS_PER_S)])
        n = self._n = round(WINDOW_S * hz)
        self._before, self._after = round(BEAT_BEFORE_S * hz), round(BEAT_AFTER_S * hz)
        self._width = self._before + self._after + 1
        self._qrs = slice(self._before - round(QRS_BEFORE_S * hz), self._before + round(QRS_AFTER_S * hz) + 1)
        low, high = round(LAGS_S[0] * hz), round(LAGS_S[1] * hz)
        self._lags = slice(low - 1, high + 2)
        self._unbias = n / (n - np.arange(low - 1, high + 2))
        # Long enough that the lags looked at do not wrap around.
        self._padded = 24 * math.ceil((n + high + 2) / 24)
        bins = np.fft.rfftfreq(self._padded, 1.0 / hz).astype(np.float64)
        self._band = slice(int(np.searchsorted(bins, BAND_HZ[0])), int(np.searchsorted(bins, BAND_HZ[1])))
        self._bins = bins[self._band]
        self._slow = int(np.searchsorted(self._bins, SLOW_HZ))
        self._peaks = int(np.searchsorted(self._bins, PEAK_MOST_HZ))
        self._measured = (
            *(self._bins, self._unbias, self._band.start, self._slow, self._peaks, self._lags.start, self._width),
            *(PEAK_REACH_HZ, SAME_PEAK, RESEMBLES),
        )
        omega = math.tan(math.pi * HIGH_PASS_HZ / hz)
        scale = 1.0 + math.sqrt(2.0) * omega + omega * omega
        self._b0 = 1.0 / scale
        self._a1 = 2.0 * (omega * omega - 1.0) / scale
        self._a2 = (1.0 - math.sqrt(2.0) * omega + omega * omega) / scale
        self._kept = n + self._width + (LEARN_EVERY_S + 1) * self._piece
        # Where in what is kept each quarter's window begins.
        self._starts = (self._kept - self._piece + self._steps - n).astype("l")
        self._windows = np.empty((STEPS_PER_S, n))
        self._powers = np.empty((STEPS_PER_S, len(bins)))
        self.reset(first)

    def reset(self, first: int) -> None:
        """Begin anew at ``first``: nothing before it is known any more."""
        self._next = first
        self._start = -(-first // self._group)  # first whole group
        self._at = self._start  # the group after the last one taken
        self._rest: list[NDArray[np.float32]] = []
        self._held = 0.0
        self._tail: Array | None = None
        self._passed = np.zeros(4)
        # The newest values, the last one at the end; how much each resembled the usual beat; what part had no value.
        self._y = np.zeros(self._kept)
        self._like = np.zeros(self._kept)
        self._missing = np.zeros(self._kept)
        self._waiting: list[Beat] = []
        self._beats: deque[tuple[int, Array]] = deque(maxlen=MOST_BEATS * 4)
        # Of each quarter; those that are old enough to be usual stand by size, too.
        self._young_sizes: deque[tuple[int, float]] = deque()
        self._old_sizes: deque[tuple[int, float]] = deque()
        self._sizes_in_order: list[float] = []
        self._usual: Array | None = None
        self._usual_qrs: Array | None = None
        self._usual_norm = self._usual_qrs_norm = self._usual_slope = 0.0
        self._usual_size = 0.0
        self._usual_worth = 0.0
        self._last_qrs: Array | None = None
        self._resembled = self._start  # the last group that did, or when comparing began

    # -- feeding -------------------------------------------------------------------------------------------------------

    def feed(self, x: NDArray[np.float32], first: int, beats: Sequence[Beat]) -> list[Texture | BeatShape]:
        """What the next samples show; ``beats`` are those that they made known."""
        if first != self._next:
            self.reset(first)
        self._next = first + len(x)
        self._waiting.extend(beats)
        out: list[Texture | BeatShape] = []
        done = 0
        while done < len(x):
            due = self._due()
            piece = x[done : done + due - (first + done)]
            self._rest.append(piece)
            done += len(piece)
            if first + done == due:
                self._second()
                out += self._shapes()
                out += self._look()
                if self._at // self._piece % LEARN_EVERY_S == 0:
                    self._learn()
        return out

    def _due(self) -> int:
        """Index after the second that is being filled: seconds (of whole groups) lie on the absolute index."""
        return (self._at // self._piece + 1) * self._piece * self._group

    def _second(self) -> None:
        """A second is whole: thin it, take its baseline away and compare it with the usual beat."""
        whole = np.concatenate(self._rest).astype(np.float64)
        self._rest.clear()
        group = self._group
        whole = whole[len(whole) % group :]  # only after a reset: the first group that is whole
        n = len(whole) // group
        self._at = (self._at // self._piece + 1) * self._piece
        if not n:
            return
        missing: Array | float = 0.0
        if not (float(whole.min()) > -WILD and float(whole.max()) < WILD):
            bad = ~(np.abs(whole) < WILD)
            missing = bad.reshape(n, group).mean(axis=1)
            at = np.maximum.accumulate(np.where(bad, -1, np.arange(len(whole))))
            whole = np.where(at >= 0, whole[at], self._held)
        self._held = float(whole[-1])
        if self._tail is None:
            self._tail = np.full(group, whole[0])
            self._passed[:2] = whole[0]
        padded = np.concatenate((self._tail, whole))
        self._tail = whole[-group:]
        # Weighted means around the middle of every two groups.
        pairs: Array = np.ndarray((n, 2 * group), np.float64, padded, 0, (8 * group, 8))  # each overlaps the next
        thinned = pairs @ self._weights
        for kept in (self._y, self._like, self._missing):
            kept[:-n] = kept[n:]
        high_pass(thinned, self._passed, self._y[-n:], self._b0, self._a1, self._a2)
        self._missing[-n:] = missing
        if self._usual is None:
            self._like[-n:] = 0.0
        else:
            likeness(self._y, self._usual, self._like[-n:], LEAST_PART * self._usual_norm)

    # -- beat by beat --------------------------------------------------------------------------------------------------

    def _shapes(self) -> list[BeatShape]:
        """Of the beats known by now whose stretch is whole."""
        last_known = self._at * self._group - 1
        waiting: list[Beat] = []
        out: list[BeatShape] = []
        # A beat that a search back found is known after later ones: their order must not depend on how they were handed over.
        for beat in sorted(self._waiting, key=lambda beat: (beat.known, beat.sample)):
            middle = round((beat.sample + 1) / self._group)
            begin, end = middle - self._before, middle + self._after + 1
            if beat.known > last_known or end > self._at:
                waiting.append(beat)
            elif begin >= max(self._start, self._at - self._kept):
                origin = self._at - self._kept
                window = self._y[begin - origin : end - origin].copy()
                self._beats.append((middle, window))
                out.append(self._shape(beat, window, last_known))
        self._waiting = waiting
        return out

    def _shape(self, beat: Beat, window: Array, known: int) -> BeatShape:
        qrs = window[self._qrs] - window[self._qrs].mean()
        norm = _norm(qrs)
        slope = _norm(qrs[1:] - qrs[:-1]) / norm
        last, self._last_qrs = self._last_qrs, qrs / norm
        usual = self._usual_qrs
        return BeatShape(
            channel=self.channel,
            sample=beat.sample,
            known=known,
            alike=0.0 if usual is None else float(qrs @ usual) / norm,
            again=0.0 if last is None else float(self._last_qrs @ last),
            slope_log=0.0 if usual is None else math.log(max(slope, 1e-6) / self._usual_slope),
            size_log=_log_ratio(norm, self._usual_qrs_norm),
        )

    # -- what it looks like --------------------------------------------------------------------------------------------

    def _look(self) -> list[Texture]:
        """At every quarter of the second that has passed."""
        windows, powers = self._windows, self._powers
        centred(self._y, self._starts, windows)
        band_power(np.fft.rfft(windows, self._padded), powers, powers.shape[1], self._band.start, self._band.stop)
        again = np.fft.irfft(powers, self._padded)
        holes = bool(self._missing.any())
        out = []
        for k, (step, start) in enumerate(zip(self._steps.tolist(), self._starts.tolist(), strict=True)):
            end = self._at - self._piece + step
            here = slice(start, start + self._n)
            numbers = look(windows[k], powers[k], again[k], self._like[here], *self._measured)
            repeats, lag, slow, concentration, peak_hz, peaked, steady, whole, last, alike, resembling = numbers
            if resembling >= 0:
                self._resembled = max(self._resembled, end - self._n + resembling)
            if (holes and float(self._missing[here].mean()) > MOST_MISSING) or end - self._n < self._start:
                continue
            size = math.sqrt(whole * (2.0 / self._padded)) / math.sqrt(self._n)
            self._young_sizes.append((end, size))
            out.append(
                Texture(
                    channel=self.channel,
                    sample=end * self._group,
                    known=self._at * self._group - 1,
                    repeats=repeats,
                    period_s=(self._lags.start + 1 + lag) / self._hz,
                    alike=alike,
                    slow=slow,
                    concentration=concentration,
                    peak_hz=peak_hz,
                    peaked=peaked,
                    steady=steady,
                    size_log=_log_ratio(size, self._usual_size),
                    last_size_log=_log_ratio(last, self._usual_size),
                    unlike_s=(end - self._resembled) / self._hz,
                    usual=self._usual_worth,
                )
            )
        return out

    # -- what is usual -------------------------------------------------------------------------------------------------

    def _learn(self) -> None:
        """The usual beat and the usual size, from what was long enough ago; called at fixed indices."""
        now = self._at
        since, until = now - USUAL_FROM_S * self._hz, now - USUAL_TO_S * self._hz
        while self._beats and self._beats[0][0] < since:
            self._beats.popleft()
        shapes = [shape for middle, shape in self._beats if middle < until][-MOST_BEATS:]
        sizes = self._usual_sizes(since, until)
        if len(shapes) < LEAST_BEATS or len(sizes) < LEAST_BEATS:
            return
        many = np.array(shapes)
        many -= many.mean(axis=1, keepdims=True)
        usual = np.empty(self._width)
        column_medians(many, usual)
        usual -= usual.mean()
        middle = len(sizes) // 2
        size = sizes[middle] if len(sizes) % 2 else (sizes[middle - 1] + sizes[middle]) / 2
        norm = _norm(usual)
        agree = (many @ usual) / np.maximum(np.sqrt((many * many).sum(axis=1)) * norm, 1e-30)
        if self._usual is None:
            self._resembled = now
        qrs = usual[self._qrs] - usual[self._qrs].mean()
        self._usual, self._usual_norm, self._usual_worth, self._usual_size = (
            usual / norm,
            norm,
            float(agree.mean()),
            size,
        )
        self._usual_qrs_norm = _norm(qrs)
        self._usual_qrs = qrs / self._usual_qrs_norm
        self._usual_slope = max(1e-6, _norm(self._usual_qrs[1:] - self._usual_qrs[:-1]))

    def _usual_sizes(self, since: float, until: float) -> list[float]:
        """Those from ``since`` to ``until``, in order; both only grow."""
        young, old, in_order = self._young_sizes, self._old_sizes, self._sizes_in_order
        while young and young[0][0] < until:
            insort(in_order, young[0][1])
            old.append(young.popleft())
        while old and (old[0][0] < since or len(old) + len(young) > MOST_SIZES):
            del in_order[bisect_left(in_order, old.popleft()[1])]
        return in_order


def _norm(x: Array) -> float:
    return max(1e-12, math.sqrt(float(x @ x)))


def _log_ratio(value: float, usual: float) -> float:
    """Natural logarithm, and 0 while nothing is usual."""
    if usual <= 0.0:
        return 0.0
    return max(LEAST_SIZE_LOG, math.log(max(value, 1e-30) / usual))
