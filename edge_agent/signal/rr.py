"""RR intervals as a model wants them: causal context of a beat in numbers, and sequences of intervals.

No absolute interval is among the numbers: ratios to the patient's own past carry over to other patients, seconds do not
(and rates that lie, or children, would break them).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_agent.journey import Samples

Intervals = NDArray[np.float64]

LONGEST_RR_S = 3.0
"""Longer than this is a pause or a missed beat, not an interval to learn from."""
HISTORY = 1024
"""Five minutes at 200 /min: the longest baseline that a feature asks for."""
FEWEST = 3
"""Intervals that a baseline is made of at the least."""


class RrHistory:
    """The last intervals of one channel, gap-aware."""

    def __init__(self, fs: float) -> None:
        self.fs = fs
        self.intervals_s: deque[float] = deque(maxlen=HISTORY)
        self._last: int | None = None
        self._closed = False

    def beat(self, sample: int) -> float | None:
        """Take a beat; the interval that it closes in seconds, None for the first one after a gap."""
        rr_s = None if self._last is None else (sample - self._last) / self.fs
        self._last = sample
        self._closed = rr_s is not None and 0 < rr_s <= LONGEST_RR_S
        if rr_s is not None and self._closed:
            self.intervals_s.append(rr_s)
        return rr_s

    def gap(self) -> None:
        """Nothing bridges a gap; the intervals before it stay as the patient's own past."""
        self._last = None
        self._closed = False

    def features(self, names: Sequence[str]) -> Samples:
        """The context features of the newest beat, in the order asked; 0 where the history is too short.

        All are 0 when that beat closed no interval (after a gap or a pause): the newest interval is not its own.
        """
        if not self._closed:
            return np.zeros(len(names), np.float32)
        past = _past(np.fromiter(self.intervals_s, np.float64))
        return np.array([_FEATURES[name](past) for name in names], np.float32)

    def sequence(self, n: int, normalisation: str) -> Samples | None:
        """The last n intervals, oldest first; None while there are fewer."""
        if len(self.intervals_s) < n:
            return None
        intervals = np.fromiter(self.intervals_s, np.float64)[-n:]
        if normalisation == "log_median":
            intervals = np.log(intervals / np.median(intervals))
        return intervals.astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Past:
    """What the features are made of, worked out once per beat."""

    rr: Intervals
    """All intervals, oldest first; the last is the one that the newest beat closed."""
    minute: Intervals
    """The intervals before it that fit into 60 s, oldest first."""
    sorted_60s: Intervals
    sorted_300s: Intervals


def _past(rr: Intervals) -> _Past:
    before = rr[:-1]
    age_s = np.cumsum(before[::-1])[::-1]
    minute = before[age_s <= 60.0]
    return _Past(rr, minute, np.sort(minute), np.sort(before[age_s <= 300.0]))


def _percentile(ordered: Intervals, percent: float) -> float:
    """As numpy.percentile does it (linear), a tenth of its time on values already in order."""
    place = (ordered.size - 1) * percent / 100.0
    low = int(place)
    high = min(low + 1, ordered.size - 1)
    return float(ordered[low] + (ordered[high] - ordered[low]) * (place - low))


def _log_ratio(value: float, reference: float) -> float:
    return float(np.log(value / reference))


def _last(past: _Past) -> float:
    return _log_ratio(past.rr[-1], past.rr[-2]) if past.rr.size >= 2 else 0.0


def _median8(past: _Past) -> float:
    return _log_ratio(past.rr[-1], float(np.median(past.rr[-9:-1]))) if past.rr.size >= 3 else 0.0


def _previous_median8(past: _Past) -> float:
    return _log_ratio(past.rr[-2], float(np.median(past.rr[-10:-2]))) if past.rr.size >= 4 else 0.0


def _mean32(past: _Past) -> float:
    return _log_ratio(past.rr[-1], float(np.mean(past.rr[-33:-1]))) if past.rr.size >= 3 else 0.0


def _against_60s(percent: float) -> Callable[[_Past], float]:
    """This interval against the minute's. The long ones expose a patient whose premature beats are the median."""

    def feature(past: _Past) -> float:
        ordered = past.sorted_60s
        return _log_ratio(past.rr[-1], _percentile(ordered, percent)) if ordered.size >= FEWEST else 0.0

    return feature


def _against_300s(percent: float) -> Callable[[_Past], float]:
    def feature(past: _Past) -> float:
        ordered = past.sorted_300s
        return _log_ratio(past.rr[-1], _percentile(ordered, percent)) if ordered.size >= FEWEST else 0.0

    return feature


def _previous_p90_60s(past: _Past) -> float:
    return _log_ratio(past.rr[-2], _percentile(past.sorted_60s, 90)) if past.sorted_60s.size >= FEWEST else 0.0


def _cv(intervals: Intervals) -> float:
    return float(np.std(intervals) / np.mean(intervals)) if intervals.size >= 4 else 0.0


def _step(intervals: Intervals) -> float:
    """Median step from one interval to the next, as a part of their mean: large in fibrillation."""
    return float(np.median(np.abs(np.diff(intervals))) / np.mean(intervals)) if intervals.size >= 4 else 0.0


def _mad_60s(past: _Past) -> float:
    if past.sorted_60s.size < FEWEST:
        return 0.0
    median = _percentile(past.sorted_60s, 50)
    return float(np.median(np.abs(past.sorted_60s - median)) / median)


_FEATURES: dict[str, Callable[[_Past], float]] = {
    "rr_last_log": _last,
    "rr_median8_log": _median8,
    "rr_mean32_log": _mean32,
    "rr_p10_60s_log": _against_60s(10),
    "rr_p50_60s_log": _against_60s(50),
    "rr_p75_60s_log": _against_60s(75),
    "rr_p90_60s_log": _against_60s(90),
    "rr_p75_300s_log": _against_300s(75),
    "rr_p90_300s_log": _against_300s(90),
    "rr_prev_median8_log": _previous_median8,
    "rr_prev_p90_60s_log": _previous_p90_60s,
    "rr_cv16": lambda past: _cv(past.rr[-16:]),
    "rr_step8": lambda past: _step(past.rr[-9:]),
    "rr_cv_60s": lambda past: _cv(past.minute),
    "rr_mad_60s": _mad_60s,
    "rr_step_60s": lambda past: _step(past.minute),
}
