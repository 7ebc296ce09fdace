"""What a patient's usual beat looks like, and how this beat differs from it: templates and numbers, causal, bounded.

A beat is usual when its interval is not short against the patient's long ones (at least .85 of the 90th percentile of the
last minute) and its QRS resembles the template's. A plain running mean learns the ectopic P wave of a patient whose
premature beats are the majority; the beats after long intervals show the sinus P wave instead. The template is the mean of
the last 16 usual beats. Where the patient's usual beat itself changes (electrodes moved, a block that stays), beats with long
intervals are refused in a row; after 8 of them the template begins anew from the newest.

Everything is worked out on one grid: 90 Hz from 0.4 s before the R peak to 0.3 s after it.
"""

from __future__ import annotations

from math import log, sqrt
from typing import Literal, get_args

import numpy as np

from edge_agent.journey import Samples
from edge_agent.signal.rr import RrHistory
from edge_agent.signal.windows import mean_of

RATE_HZ, SAMPLES, BEFORE = 90.0, 63, 36
"""The grid of the numbers below; with the resampling filter's reach it ends 0.39 s after the R peak."""
KEPT = 16
LEAST_RR_LOG = log(0.85)
LEAST_CORRELATION = 0.8
REFUSED = 8
"""Beats refused in a row, after which the usual beat is taken to have changed."""

P, QRS, T = slice(12, 30), slice(27, 47), slice(47, 63)
"""Where the waves are on that grid: 267 to 78 ms before the R peak, 100 ms before to 111 ms after, 122 to 289 ms after."""
SHIFT = 3
"""Samples by which a P wave may come early or late and still be the usual one (``p_best_correlation``)."""

ShapeFeature = Literal[
    "qrs_correlation",
    "qrs_difference",
    "qrs_size_log",
    "qrs_slope_log",
    "qrs_usual_correlation",
    "t_correlation",
    "t_difference",
    "p_correlation",
    "p_best_correlation",
    "p_difference",
    "p_gain",
    "p_size_log",
    "p_usual_size",
    "p_usual_correlation",
]
SHAPE_FEATURES: tuple[str, ...] = get_args(ShapeFeature)
"""Each compares this beat with the usual one; 0 while there is none.

``*_correlation``: of the waves, without their mean (P: without its slope too). ``*_difference``: norm of the difference as a
part of the usual QRS's norm (P: of the usual P wave's), at most 4. ``*_size_log``: of the ratio of the norms; ``qrs_slope_log``:
of the ratio of the steepest slopes. ``p_gain``: the usual P wave's share in this one. ``p_usual_size``: the usual P wave's norm as
a part of the usual QRS's. ``*_usual_correlation``: mean over the last 16 usual beats; near 0 for P when there is no P wave, as in
fibrillation."""


def interval_is_long(rr: RrHistory) -> bool:
    """Whether the newest beat's interval makes it a candidate; also while there is no history that says otherwise."""
    return float(rr.features(_LONG)[0]) >= LEAST_RR_LOG


_LONG = ("rr_p90_60s_log",)


class Running:
    """The mean of the newest few windows on one grid."""

    def __init__(self, samples: int) -> None:
        self._kept = np.zeros((KEPT, samples), np.float32)
        self._count = 0
        self.mean: Samples | None = None

    def take(self, window: Samples, afresh: bool) -> None:
        if afresh:
            self._count = 0
        self._kept[self._count % KEPT] = window
        self._count += 1
        self.mean = mean_of(self._kept, min(self._count, KEPT))


Learning = Literal["no", "taken", "afresh"]
"""What the template made of a beat: nothing, one more, or a new beginning."""


class UsualBeat:
    """What is usual on one channel. Feed it the channel's beats in order."""

    def __init__(self) -> None:
        self._shape = Running(SAMPLES)
        self._agreed = Running(2)
        """QRS and P correlation of each, when it was taken."""
        self._refused = 0
        self._waves: _Waves | None = None

    def feed(self, window: Samples, long: bool) -> tuple[Samples, Learning]:
        """This beat's numbers against the template of the beats before it; then the template learns from it."""
        waves = _Waves(window - _mean(window))
        numbers = self._numbers(waves)
        return numbers, self._learn(waves, long, numbers)

    def _numbers(self, waves: _Waves) -> Samples:
        usual, agreed = self._waves, self._agreed.mean
        if usual is None or agreed is None:
            return np.zeros(len(SHAPE_FEATURES), np.float32)
        scale = usual.qrs_norm
        return np.array(
            [
                float(waves.qrs @ usual.qrs) / (waves.qrs_norm * scale),
                min(4.0, _norm(waves.qrs - usual.qrs) / scale),
                log(waves.qrs_norm / scale),
                log(waves.slope / usual.slope),
                agreed[0],
                float(waves.t @ usual.t) / (waves.t_norm * usual.t_norm),
                min(4.0, _norm(waves.t - usual.t) / scale),
                float(waves.p @ usual.p) / (waves.p_norm * usual.p_norm),
                _best_correlation(waves.x, usual.p, usual.p_norm),
                min(4.0, _norm(waves.p - usual.p) / usual.p_norm),
                max(-4.0, min(4.0, float(waves.p @ usual.p) / usual.p_norm**2)),
                log(waves.p_norm / usual.p_norm),
                min(4.0, usual.p_norm / scale),
                agreed[1],
            ],
            np.float32,
        )

    def _learn(self, waves: _Waves, long: bool, numbers: Samples) -> Learning:
        if not long:
            return "no"
        first = self._waves is None
        if not first and numbers[0] < LEAST_CORRELATION:
            self._refused += 1
            if self._refused < REFUSED:
                return "no"
        afresh = first or self._refused == REFUSED
        self._refused = 0
        self._shape.take(waves.x, afresh)
        self._agreed.take(np.array([1.0, 0.0] if afresh else [numbers[0], numbers[7]], np.float32), afresh)
        assert self._shape.mean is not None
        self._waves = _Waves(self._shape.mean)
        return "afresh" if afresh else "taken"


_TINY = 1e-6
_RAMP = np.linspace(-1, 1, P.stop - P.start, dtype=np.float32)
_RAMP /= np.sqrt(_RAMP @ _RAMP)
_SHIFTED = (np.arange(P.start, P.stop) + np.arange(-SHIFT, SHIFT + 1)[:, None]).astype(np.intp)


class _Waves:
    """A beat's waves without their means, and their norms."""

    __slots__ = ("p", "p_norm", "qrs", "qrs_norm", "slope", "t", "t_norm", "x")

    def __init__(self, x: Samples) -> None:
        self.x = x
        self.qrs = x[QRS] - _mean(x[QRS])
        self.t = x[T] - _mean(x[T])
        self.p = _level(x[P])
        self.qrs_norm = _norm(self.qrs)
        self.t_norm = _norm(self.t)
        self.p_norm = _norm(self.p)
        self.slope = max(_TINY, float(np.maximum.reduce(np.abs(x[QRS][1:] - x[QRS][:-1]))))


def _mean(x: Samples) -> np.float32:
    """``x.mean()``, in a quarter of its time."""
    return np.float32(np.add.reduce(x) / np.float32(x.size))


def _level(p: Samples) -> Samples:
    """Without mean and slope: a P wave often rides on the end of a T wave."""
    p = p - _mean(p)
    return p - _RAMP * (p @ _RAMP)


def _norm(x: Samples) -> float:
    return max(_TINY, sqrt(float(x @ x)))


def _best_correlation(x: Samples, usual: Samples, norm: float) -> float:
    """At the best of all shifts up to SHIFT samples."""
    shifted = x[_SHIFTED]
    level = shifted - np.add.reduce(shifted, axis=1, keepdims=True) / np.float32(usual.size)
    level = level - (level @ _RAMP)[:, None] * _RAMP
    agreement: Samples = level @ usual / np.maximum(_TINY, np.sqrt((level * level).sum(axis=1)))
    return float(agreement.max()) / norm
