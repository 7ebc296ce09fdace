"""Atrial fibrillation from the RR intervals alone, beat by beat.

Lake & Moorman 2011, "Accurate estimation of entropy in very short physiological time series": the coefficient of sample
entropy, i.e. sample entropy of the last intervals (m = 1) normalised for the tolerance and the heart rate, so that one
threshold serves slow and fast hearts. Here over 30 intervals instead of 12: a minute's delay at most, fewer false onsets.
Ectopic beats give irregular intervals too, but few different ones: their matches keep the entropy down.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np

INTERVALS = 30
TOLERANCE_S = 0.03
ENTER = -1.2
LEAVE = -1.6
CONFIRM = 10
"""Beats that must agree before the rhythm changes: single odd stretches do not flap it."""


def cosen(rr_s: np.ndarray) -> float:
    """Coefficient of sample entropy. The tolerance grows until at least 5 pairs match, as the paper does."""
    n = rr_s.size
    apart = np.abs(rr_s[:, None] - rr_s[None, :])
    upper = np.triu_indices(n, 1)
    inner = np.triu_indices(n - 1, 1)
    tolerance = TOLERANCE_S
    for _ in range(12):
        close = apart < tolerance
        one = int(close[upper].sum())
        two = int((close[:-1, :-1] & close[1:, 1:])[inner].sum())
        if two >= 5:
            break
        tolerance *= 1.25
    if one == 0 or two == 0:
        return math.inf
    entropy = -math.log(two / one)
    return entropy + math.log(2 * tolerance) - math.log(float(np.mean(rr_s)))


class RhythmFollower:
    """unknown, N or AFIB; each change with the beat at which the new rhythm began to show."""

    def __init__(self, fs: float) -> None:
        self._fs = fs
        self._beats: deque[int] = deque(maxlen=INTERVALS + 1)
        self.rhythm = "unknown"
        self.entropy: float | None = None
        self._leaning = "unknown"
        self._agree = 0
        self._lean_since = 0

    def gap(self) -> None:
        self._beats.clear()
        self._leaning, self._agree = self.rhythm, 0
        self.entropy = None

    def forget(self) -> None:
        """Too long away for the old rhythm to be believed."""
        self.rhythm = "unknown"
        self.gap()

    def beat(self, sample: int) -> int | None:
        """Take a beat; where the new rhythm began if this beat settled a change."""
        self._beats.append(sample)
        if len(self._beats) <= INTERVALS:
            return None
        rr_s = np.diff(np.array(self._beats, np.float64)) / self._fs
        self.entropy = cosen(rr_s)
        leaning = "AFIB" if self.entropy > (LEAVE if self.rhythm == "AFIB" else ENTER) else "N"
        if leaning != self._leaning:
            self._leaning, self._agree = leaning, 0
            self._lean_since = self._beats[0] if self.rhythm == "unknown" else self._beats[INTERVALS // 2]
        self._agree += 1
        if self._agree < CONFIRM or leaning == self.rhythm:
            return None
        self.rhythm = leaning
        return self._lean_since
