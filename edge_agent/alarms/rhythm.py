"""Atrial fibrillation from the RR intervals alone, beat by beat.

Lake & Moorman 2011, "Accurate estimation of entropy in very short physiological time series": the coefficient of sample
entropy, i.e. sample entropy of the last intervals (m = 1) normalised for the tolerance and the heart rate, so that one
threshold serves slow and fast hearts. Here over 30 intervals instead of 12: a minute's delay at most, fewer false onsets.
Ectopic beats give irregular intervals too, but few different ones: their matches keep the entropy down.

Breathing sways a sinus rhythm as widely as that, too, but in waves: what comes next can be told from what came. So where more
than half of the intervals' variance is told by the four before (an autoregression, as in Task Force 1996), it is none, whatever
the entropy. In fibrillation it is nothing but what so few intervals
promise by chance: in LTAFDB's annotated intervals with an entropy over the threshold a seventh in the median, .36 in 98 of 100
stretches.

Premature atrial beats in a sinus rhythm that sways a little scatter the intervals as well. So where what is left without the early ones and
the one after each hardly varies (a coefficient of variation under .065), it is none either: in simulated sinus rhythm with 3 to 10 early
beats a minute and a variability of .05 that is so of 91 of 100 stretches whose entropy is over the threshold (of .06: 67), in LTAFDB's and
VitalDB's annotated fibrillation of fewer than 1 in 200. More (.08) takes what a pacemaker evens out: record 217 of mitdb.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from edge_agent.signal.measure import close_pairs

INTERVALS = 30
TOLERANCE_S = 0.03
LEAST_PAIRS = 5
ENTER = -1.2
LEAVE = -1.6
MOST_S = 90.0
"""Intervals from so far apart are no picture of now."""
TOLD_BY = 4
MOST_TOLD = 0.5
EARLY = 0.8
"""Of the median interval: a shorter one ends with a premature beat."""
STEADY = 0.065
CONFIRM = 10
"""Beats that must agree before the rhythm changes: single odd stretches do not flap it."""


def cosen(rr_s: np.ndarray) -> float:
    """Coefficient of sample entropy. The tolerance grows until at least 5 pairs match, as the paper does."""
    one, two, tolerance = close_pairs(rr_s, TOLERANCE_S, LEAST_PAIRS)
    if one == 0 or two == 0:
        return math.inf
    entropy = -math.log(two / one)
    return entropy + math.log(2 * tolerance) - math.log(float(np.add.reduce(rr_s)) / rr_s.size)


def told(rr_s: np.ndarray) -> float:
    """The share of the intervals' variance that a linear prediction from the ones before takes away, 0 to 1."""
    x = rr_s - rr_s.mean()
    before = np.array([x[TOLD_BY - 1 - lag : -1 - lag] for lag in range(TOLD_BY)])
    before -= before.mean(axis=1, keepdims=True)
    after = x[TOLD_BY:] - x[TOLD_BY:].mean()
    whole = float(after @ after)
    products = before @ before.T
    ridge = 1e-3 * float(np.trace(products)) / TOLD_BY + 1e-12  # intervals all alike are no division by nothing
    products += ridge * np.eye(TOLD_BY)
    left = after - np.linalg.solve(products, before @ after) @ before
    return 1.0 - float(left @ left) / whole if whole > 0.0 else 0.0


def steady(rr_s: np.ndarray) -> bool:
    """Whether only premature beats make the intervals irregular."""
    early = rr_s < EARLY * float(np.median(rr_s))
    own = rr_s[~(early | np.concatenate(([False], early[:-1])))]
    return bool(own.size > 1 and own.std() < STEADY * own.mean())


class RhythmFollower:
    """unknown, N or AFIB, of one lead; each change with the beat at which the new rhythm began to show.

    Only intervals between two beats of the heart's own are looked at (as heart rate variability does, Task Force
    1996): the short and the long
    one around a ventricular beat say nothing of the atria. And a model that looked at the same intervals and calls
    them ordered is believed:
    entropy alone cannot tell an irregular sinus rhythm, a model of 64 intervals can.
    """

    def __init__(self, fs: float) -> None:
        self._fs = fs
        self._intervals: deque[tuple[int, int]] = deque(maxlen=INTERVALS)
        """First and last beat of each,"""
        self._rr_s: deque[float] = deque(maxlen=INTERVALS)
        """and how long it was."""
        self._before: tuple[int, bool] | None = None
        """The last beat, and whether it was ventricular."""
        self.rhythm = "unknown"
        self.entropy: float | None = None
        self.last = 0
        """The newest beat."""
        self.beats_since = 0
        """So many beats have been taken since the present rhythm began to show."""
        self._leaning = "unknown"
        self._agree = 0
        self._lean_since = 0
        self._lean_beats = 0

    def gap(self) -> None:
        self._intervals.clear()
        self._rr_s.clear()
        self._before = None
        self._leaning, self._agree = self.rhythm, 0
        self.entropy = None

    def skip(self) -> None:
        """A beat that cannot be counted on: no interval ends or begins with it. Those before it stay what they were."""
        self._before = None

    def forget(self) -> None:
        """Too long away for the old rhythm to be believed."""
        self.rhythm = "unknown"
        self.gap()

    def beat(self, sample: int, *, ventricular: bool = False, ordered: bool = False) -> int | None:
        """Take a beat; where the new rhythm began if this beat settled a change. ``ordered``: a model says so."""
        before, self._before = self._before, (sample, ventricular)
        self.last = sample
        self.beats_since += 1
        self._lean_beats += 1
        if before is None:
            return None
        if not (ventricular or before[1]):
            self._intervals.append((before[0], sample))
            self._rr_s.append((sample - before[0]) / self._fs)
        if len(self._intervals) < INTERVALS:
            return None
        rr_s = np.fromiter(self._rr_s, np.float64, INTERVALS)
        self.entropy = cosen(rr_s)
        first = self._intervals[0][0]
        sparse = sample - first > MOST_S * self._fs
        if sparse and self.rhythm != "AFIB":
            return None
        irregular = self.entropy > (LEAVE if self.rhythm == "AFIB" else ENTER)
        waves = irregular and not ordered and (told(rr_s) > MOST_TOLD or steady(rr_s))
        leaning = "AFIB" if irregular and not ordered and not sparse and not waves else "N"
        if leaning != self._leaning:
            self._leaning, self._agree = leaning, 0
            self._lean_since = first if self.rhythm == "unknown" else self._intervals[INTERVALS // 2][0]
            self._lean_beats = INTERVALS if self.rhythm == "unknown" else INTERVALS // 2
        self._agree += 1
        # In fibrillation a stretch looks like waves, or steady, by chance now and then: not one interval may be left of those before.
        least = INTERVALS if waves and self.rhythm == "AFIB" else CONFIRM
        if self._agree < least or leaning == self.rhythm:
            return None
        self.rhythm = leaning
        self.beats_since = self._lean_beats
        return self._lean_since
