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
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from edge_agent.journey import Samples
from edge_agent.signal.rr import RrHistory
from edge_agent.signal.windows import mean_of

KERNEL = True
"""Whether the compiled kernel is there; the plain Python below is its specification."""
try:
    from edge_agent.signal._kernel import compared as compared_compiled
    from edge_agent.signal._kernel import waves as waves_compiled
except ImportError:  # no compiler where it was installed
    KERNEL = False

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
    return rr.feature("rr_p90_60s_log") >= LEAST_RR_LOG


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
        self._waves: Waves | None = None

    def feed(self, window: Samples, long: bool) -> tuple[Samples, Learning]:
        """This beat's numbers against the template of the beats before it; then the template learns from it."""
        waves = make_waves(window, centre=True)
        numbers = self._numbers(waves)
        return numbers, self._learn(waves, long, numbers)

    def _numbers(self, waves: Waves) -> Samples:
        usual, agreed = self._waves, self._agreed.mean
        if usual is None or agreed is None:
            return np.zeros(len(SHAPE_FEATURES), np.float32)
        return compare(waves, usual, agreed)

    def _learn(self, waves: Waves, long: bool, numbers: Samples) -> Learning:
        if not long:
            return "no"
        first = self._waves is None
        if not first and numbers[0] < LEAST_CORRELATION:
            self._refused += 1
            if self._refused < REFUSED:
                return "no"
        afresh = first or self._refused == REFUSED
        self._refused = 0
        self._shape.take(waves.parts[:SAMPLES], afresh)
        self._agreed.take(np.array([1.0, 0.0] if afresh else [numbers[0], numbers[7]], np.float32), afresh)
        assert self._shape.mean is not None
        self._waves = make_waves(self._shape.mean)
        return "afresh" if afresh else "taken"


_TINY = 1e-6
_RAMP = np.linspace(-1, 1, P.stop - P.start, dtype=np.float32)
_RAMP /= np.sqrt(_RAMP @ _RAMP)


_QRS, _T, _P = slice(63, 83), slice(83, 99), slice(99, 117)
"""Where the waves are in ``Waves.parts``."""


class Waves(NamedTuple):
    """A beat, its waves without their means, and their norms."""

    parts: Samples
    """The beat; its QRS; its T wave; its P wave (without its slope, too)."""
    norms: NDArray[np.float64]
    """Of the QRS, the T and the P wave; the steepest slope of the QRS."""


def make_waves(x: Samples, *, centre: bool = False, compiled: bool = KERNEL) -> Waves:
    """``centre``: take the beat without its mean."""
    parts, norms = np.empty(_P.stop, np.float32), np.empty(4)
    if compiled:
        waves_compiled(x, centre, _RAMP, parts, norms)
        return Waves(parts, norms)
    x = parts[:SAMPLES] = x - _mean(x) if centre else x
    parts[_QRS] = x[QRS] - _mean(x[QRS])
    parts[_T] = x[T] - _mean(x[T])
    parts[_P] = _level(x[P])
    norms[:3] = [_norm(parts[wave]) for wave in (_QRS, _T, _P)]
    norms[3] = max(_TINY, float(np.maximum.reduce(np.abs(x[QRS][1:] - x[QRS][:-1]))))
    return Waves(parts, norms)


def compare(waves: Waves, usual: Waves, agreed: Samples, *, compiled: bool = KERNEL) -> Samples:
    """The numbers of ``SHAPE_FEATURES``. ``agreed``: how much the usual beats' QRS and P waves resemble each other."""
    numbers = np.empty(len(SHAPE_FEATURES), np.float32)
    if compiled:
        compared_compiled(*waves, *usual, agreed, _RAMP, numbers)
        return numbers
    qrs, t, p = (waves.parts[wave] for wave in (_QRS, _T, _P))
    usual_qrs, usual_t, usual_p = (usual.parts[wave] for wave in (_QRS, _T, _P))
    qrs_norm, t_norm, p_norm, slope = waves.norms.tolist()
    scale, usual_t_norm, usual_p_norm, usual_slope = usual.norms.tolist()
    numbers[:] = [
        float(_dot(qrs, usual_qrs)) / (qrs_norm * scale),
        min(4.0, _norm(qrs - usual_qrs) / scale),
        log(qrs_norm / scale),
        log(slope / usual_slope),
        agreed[0],
        float(_dot(t, usual_t)) / (t_norm * usual_t_norm),
        min(4.0, _norm(t - usual_t) / scale),
        float(_dot(p, usual_p)) / (p_norm * usual_p_norm),
        _best_correlation(waves.parts, usual_p, usual_p_norm),
        min(4.0, _norm(p - usual_p) / usual_p_norm),
        max(-4.0, min(4.0, float(_dot(p, usual_p)) / (usual_p_norm * usual_p_norm))),
        log(p_norm / usual_p_norm),
        min(4.0, usual_p_norm / scale),
        agreed[1],
    ]
    return numbers


def _mean(x: Samples) -> np.float32:
    """``x.mean()``, in a quarter of its time."""
    return np.float32(np.add.reduce(x) / np.float32(x.size))


def _dot(a: Samples, b: Samples) -> np.float32:
    """Products in single precision, added up in double, one after the other: the same bits on every processor."""
    return np.float32(np.cumsum(a * b, dtype=np.float64)[-1])


def _level(p: Samples) -> Samples:
    """Without mean and slope: a P wave often rides on the end of a T wave."""
    p = p - _mean(p)
    return p - _RAMP * _dot(p, _RAMP)


def _norm(x: Samples) -> float:
    return max(_TINY, sqrt(float(_dot(x, x))))


def _best_correlation(x: Samples, usual: Samples, norm: float) -> float:
    """At the best of all shifts up to SHIFT samples."""
    best = -np.inf
    for shift in range(-SHIFT, SHIFT + 1):
        level = _level(x[P.start + shift : P.stop + shift])
        size = np.maximum(np.float32(_TINY), np.sqrt(np.add.reduce(level * level)))
        best = max(best, float(_dot(level, usual) / size))
    return best / norm
