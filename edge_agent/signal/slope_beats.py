"""A second, cheap and unlike beat detector: not to find beats by, but to see whether another finds the same.

The root mean square of the slope over a tenth of a second (between Pan & Tompkins 1985 and Zong's length transform 2003) against a part
of what it usually reaches. It knows nothing of rhythm, T waves or search-back, so it errs where the signal is poor, and elsewhere than
a detector that does. What it usually reaches is learned only where the other detector finds beats: in an asystole the threshold stays
where it was, and neither finds any.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from statistics import median

import numpy as np
from numpy.typing import NDArray

from edge_agent.signal.measure import peaks, slope_energy

SUM_S = 0.1
SMOOTH_S = 0.02  # a zero of 50 Hz, nearly one of 60
SPAN_S = 0.012
PART = 0.4
REFRACTORY_S = 0.25
EDGE_S = 0.25  # of the window's newest part, left for the next time
LEAST_MV = 0.1
"""What moves by less before any beat was found is no QRS (low voltage is under 0.5), but the line of a heart that stands still."""


class SlopeBeats:
    """Beats of one lead, half a second at a time, each from a window of fixed extent."""

    def __init__(self, fs: float) -> None:
        self._fs = fs
        self._smooth = max(1, round(SMOOTH_S * fs))
        self._span = max(1, round(SPAN_S * fs))
        self._sum = max(2, round(SUM_S * fs))
        self._tops: deque[float] = deque(maxlen=20)
        self._beats: deque[int] = deque(maxlen=64)
        self._done = 0
        self.since = 0
        """Where it began to look: before that it has no opinion."""

    def skip(self, end: int) -> None:
        """There was nothing to look at up to ``end``."""
        self._done = self.since = end

    def step(self, end: int, w: NDArray[np.float64], learn: bool) -> None:
        """The beats since the last time, up to ``EDGE_S`` before ``end``, from the window before ``end``."""
        energy = np.empty(len(w) - self._smooth - self._span - self._sum + 2)
        highest = slope_energy(w, energy, self._smooth, self._span, self._sum)
        # energy[k] sums around the window's sample k + offset
        offset = (self._smooth + self._span + self._sum) // 2
        start = end - len(w) + offset
        until = end - round(EDGE_S * self._fs)
        if learn or (len(self._tops) < 4 and float(w.max() - w.min()) >= LEAST_MV):
            self._tops.append(highest)
        if not self._tops:  # nothing yet that could be a heart: no beats, and no opinion on any
            self.skip(until)
            return
        threshold = PART * PART * median(self._tops)
        lo = max(0, self._done - start)
        hi = min(len(energy), until - start)
        self._done = max(self._done, until)
        refractory = REFRACTORY_S * self._fs
        for at in peaks(energy, threshold, lo):
            if lo <= at < hi and (not self._beats or start + at - self._beats[-1] > refractory):
                self._beats.append(start + at)

    def within(self, since: int, until: int) -> list[int]:
        return [b for b in self._beats if since <= b < until]


def agreement(a: Sequence[int], b: Sequence[int], tolerance: int) -> float:
    """2 x matched / all, each beat matched once: 1 when both found the same, 0 when nothing in common."""
    matched = i = j = 0
    while i < len(a) and j < len(b):
        if abs(a[i] - b[j]) <= tolerance:
            matched += 1
            i += 1
            j += 1
        elif a[i] < b[j]:
            i += 1
        else:
            j += 1
    return 2.0 * matched / max(1, len(a) + len(b))
