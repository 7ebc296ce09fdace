"""RR intervals as a model wants them: causal context of a beat in numbers, and sequences of intervals.

No absolute interval is among the numbers: ratios to the patient's own past carry over to other patients, seconds do not
(and rates that lie, or children, would break them). Names say what they are: ``rr_p90_60s_log`` is the logarithm of this
interval over the 90th percentile of those in the 60 s before it, ``rr_p90_p50_60s_log`` of that percentile over their
median, ``rr_cv_60s``, ``rr_mad_60s`` and ``rr_step_60s`` their spread, all as parts of their mean or median.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice, pairwise
from math import log, sqrt

import numpy as np

from edge_agent.journey import Samples
from edge_agent.signal.windows import normalise

LONGEST_RR_S = 3.0
"""Longer than this is a pause or a missed beat, not an interval to learn from."""
HISTORY = 1024
"""Five minutes at 200 /min: the longest baseline that a feature asks for."""
FEWEST = 3
"""Intervals that a baseline is made of at the least; a spread takes one more."""
SPANS_S = (10, 30, 60, 300)


class RrHistory:
    """The last intervals of one channel, gap-aware."""

    def __init__(self, fs: float) -> None:
        self.fs = fs
        self.intervals_s: deque[float] = deque(maxlen=HISTORY)
        self._spans = {seconds: _Span(round(seconds * fs)) for seconds in SPANS_S}
        self._newest: int | None = None
        """In samples; the spans hold what was before it."""
        self._last: int | None = None
        self._closed = False
        self._past: _Past | None = None
        """What the newest beat's features are made of, once somebody asked."""

    def beat(self, sample: int) -> float | None:
        """Take a beat; the interval that it closes in seconds, None for the first one after a gap."""
        self._past = None
        steps = None if self._last is None else sample - self._last
        self._last = sample
        self._closed = steps is not None and 0 < steps <= LONGEST_RR_S * self.fs
        if steps is None:
            return None
        if self._closed:
            if self._newest is not None:
                for span in self._spans.values():
                    span.add(self._newest)
            self._newest = steps
            self.intervals_s.append(steps / self.fs)
        return steps / self.fs

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
        past = self._newest_past()
        return np.array([_FEATURES[name](past) for name in names], np.float32)

    def feature(self, name: str) -> float:
        """One of them, with its rounding."""
        return float(np.float32(_FEATURES[name](self._newest_past()))) if self._closed else 0.0

    def _newest_past(self) -> _Past:
        past = self._past = self._past or _Past(self)
        return past

    def sequence(self, n: int, normalisation: str) -> Samples | None:
        """The last n intervals, oldest first; None while there are fewer."""
        if len(self.intervals_s) < n:
            return None
        newest = list(islice(reversed(self.intervals_s), n))[::-1]
        intervals = np.array(newest)
        match normalisation:
            case "seconds":
                pass
            case "milliseconds":
                intervals = intervals * 1000
            case "log_median":
                intervals = np.log(intervals / _median(newest))
            case "ratio_median":
                intervals = intervals / _median(newest)
            case _:
                return normalise(intervals.astype(np.float32), normalisation)
        return intervals.astype(np.float32)


class _Span:
    """The newest intervals that together last no longer than a given time; whole samples, so that nothing drifts.

    Lists and bisection: for some hundred numbers they cost a tenth of what arrays do.
    """

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._total = 0
        self._squares = 0
        self._percentiles: dict[float, float] = {}
        """Those asked for since the last interval came."""
        self.in_order: list[int] = []
        """By length."""
        self.in_time: deque[int] = deque()
        self._steps: list[int] = []
        """From each interval to the next, by size."""

    def add(self, interval: int) -> None:
        self._percentiles.clear()
        if self.in_time:
            insort(self._steps, abs(interval - self.in_time[-1]))
        self.in_time.append(interval)
        insort(self.in_order, interval)
        self._total += interval
        self._squares += interval * interval
        while self._total > self._longest or len(self.in_time) >= HISTORY:
            gone = self.in_time.popleft()
            del self.in_order[bisect_left(self.in_order, gone)]
            self._total -= gone
            self._squares -= gone * gone
            if self.in_time:
                del self._steps[bisect_left(self._steps, abs(self.in_time[0] - gone))]

    def __len__(self) -> int:
        return len(self.in_order)

    def percentile(self, percent: float) -> float:
        known = self._percentiles.get(percent)
        if known is None:
            known = self._percentiles[percent] = _percentile(self.in_order, percent)
        return known

    def cv(self) -> float:
        """As ``_cv`` has it; of whole numbers, so that nothing is rounded before the root."""
        n = len(self)
        return sqrt(n * self._squares - self._total * self._total) / self._total if n > FEWEST else 0.0

    def mad(self) -> float:
        """The median distance from the median, as a part of it. The nearest half of them lie side by side in order."""
        n = len(self)
        if n < FEWEST:
            return 0.0
        in_order, middle = self.in_order, self.percentile(50)
        near = (n - 1) // 2 + 1
        first, last = 0, n - near
        while first < last:
            half = (first + last) // 2
            if middle - in_order[half] > in_order[half + near] - middle:
                first = half + 1
            else:
                last = half
        end = first + near
        farthest = max(middle - in_order[first], in_order[end - 1] - middle)
        if n % 2:
            return farthest / middle
        next_one = min(
            middle - in_order[first - 1] if first else float("inf"),
            in_order[end] - middle if end < n else float("inf"),
        )
        return (farthest + (next_one - farthest) * 0.5) / middle

    def step(self) -> float:
        """As ``_step`` has it, of whole numbers kept in order."""
        n = len(self)
        return _percentile(self._steps, 50) * n / self._total if n > FEWEST else 0.0


class _Past:
    """What the features are made of."""

    __slots__ = ("newest", "previous", "recent", "spans")

    def __init__(self, history: RrHistory) -> None:
        assert history._newest is not None  # a beat that closed an interval made one
        self.spans = history._spans
        self.newest = float(history._newest)
        intervals = history.intervals_s
        many = min(len(intervals), 33)
        self.recent = [intervals[i] * history.fs for i in range(-many, 0)]
        """In samples, oldest first, the newest included."""
        self.previous = self.recent[-2] if many > 1 else None


def _percentile(ordered: Sequence[float], percent: float) -> float:
    """As numpy.percentile does it (linear), a tenth of its time on values already in order."""
    place = (len(ordered) - 1) * percent / 100.0
    low = int(place)
    if low + 1 >= len(ordered):
        return float(ordered[-1])
    return ordered[low] + (ordered[low + 1] - ordered[low]) * (place - low)


def _median(values: Sequence[float]) -> float:
    """As numpy.median does it."""
    ordered, middle = sorted(values), len(values) // 2
    return ordered[middle] if len(values) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _cv(intervals: Sequence[float]) -> float:
    n = len(intervals)
    if n <= FEWEST:
        return 0.0
    mean = sum(intervals) / n
    return sqrt(sum([(one - mean) ** 2 for one in intervals]) / n) / mean


def _step(intervals: Sequence[float]) -> float:
    """Median step from one interval to the next, as a part of their mean: large in fibrillation."""
    n = len(intervals)
    if n <= FEWEST:
        return 0.0
    steps = sorted([abs(b - a) for a, b in pairwise(intervals)])
    return _percentile(steps, 50) * n / sum(intervals)


def _last(past: _Past) -> float:
    return log(past.newest / past.previous) if past.previous else 0.0


def _median8(past: _Past) -> float:
    return log(past.newest / _percentile(sorted(past.recent[-9:-1]), 50)) if len(past.recent) >= 3 else 0.0


def _previous_median8(past: _Past) -> float:
    return log(past.recent[-2] / _percentile(sorted(past.recent[-10:-2]), 50)) if len(past.recent) >= 4 else 0.0


def _mean32(past: _Past) -> float:
    before = past.recent[-33:-1]
    return log(past.newest * len(before) / sum(before)) if len(before) >= 2 else 0.0


def _against(percent: float, seconds: int, past: _Past) -> float:
    """This interval against the past's. The long ones expose a patient whose premature beats are the median."""
    span = past.spans[seconds]
    return log(past.newest / span.percentile(percent)) if len(span) >= FEWEST else 0.0


def _previous_against(percent: float, seconds: int, past: _Past) -> float:
    span = past.spans[seconds]
    return log(past.previous / span.percentile(percent)) if past.previous and len(span) >= FEWEST else 0.0


def _percentiles(percent: float, seconds: int, past: _Past) -> float:
    """A percentile against the median: how long or short the other intervals are."""
    span = past.spans[seconds]
    return log(span.percentile(percent) / span.percentile(50)) if len(span) >= FEWEST else 0.0


def _spread(of: Callable[[_Span], float], seconds: int, past: _Past) -> float:
    return of(past.spans[seconds])


_FEATURES: dict[str, Callable[[_Past], float]] = {
    "rr_last_log": _last,
    "rr_median8_log": _median8,
    "rr_mean32_log": _mean32,
    "rr_prev_median8_log": _previous_median8,
    "rr_cv16": lambda past: _cv(past.recent[-16:]),
    "rr_step8": lambda past: _step(past.recent[-9:]),
    **{
        f"rr_p{percent}_{seconds}s_log": partial(_against, percent, seconds)
        for seconds in (60, 300)
        for percent in (10, 50, 75, 90)
    },
    **{
        f"rr_prev_p{percent}_{seconds}s_log": partial(_previous_against, percent, seconds)
        for seconds in (60, 300)
        for percent in (75, 90)
    },
    **{
        f"rr_p{percent}_p50_{seconds}s_log": partial(_percentiles, percent, seconds)
        for seconds in (10, 60, 300)
        for percent in (10, 90)
    },
    **{
        f"rr_{name}_{seconds}s": partial(_spread, of, seconds)
        for seconds in (10, 30, 60)
        for name, of in (("cv", _Span.cv), ("mad", _Span.mad), ("step", _Span.step))
    },
}
