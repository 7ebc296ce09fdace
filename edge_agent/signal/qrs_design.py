"""Every number of the QRS detector: filters in seconds made widths in samples, thresholds, and the verifier's weights."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass
from struct import pack

import numpy as np

QUANTUM = 2.0**24
"""Quanta per unit of the input."""
LIMIT = 2.0**24
"""Samples at or beyond this are as invalid as NaN; it is above the full scale of a 24-bit converter."""
NEVER = -(1 << 40)
GRID = 21
SHAPE = 15
INPUTS = 49


@dataclass(frozen=True, slots=True)
class Design:
    """Every number of the detector, in the order in which the kernel takes them."""

    fs: float
    box_a: int
    box_b: int
    box_c: int
    box_energy: int
    gain_slope: float
    gain_curve: float
    apart: int
    """Two candidates are at least this far apart."""
    ahead: int
    """Energy seen after a candidate before it is decided."""
    delay: int
    """Of the energy behind the signal."""
    learn: int
    ring: int
    verifier: int
    """1: the learned verifier decides, 0: the rules."""
    refractory_s: float
    level_gain: float
    level_cap: float
    noise_gain: float
    noise_cap: float
    share: float
    """The threshold's place between the noise level and the beat level."""
    late: float
    """In RR: from here on the threshold falls ..."""
    late_fall: float
    late_least: float
    t_from_s: float
    t_until_s: float
    t_slope: float
    next_energy: float
    """A candidate is a P wave if what follows within the look-ahead has this many times its energy."""
    back: float
    """In RR: when the best rejected candidate is looked at again ..."""
    back_share: float
    threshold: float
    """Probability from which the verifier says beat."""

    def packed(self) -> bytes:
        numbers = astuple(self)
        return pack(f"{len(numbers)}d", *numbers)


@dataclass(frozen=True, slots=True)
class Weights:
    """One hidden layer of tanh; standardised inputs are folded into it. ``w1`` by input, then by unit."""

    w1: tuple[tuple[float, ...], ...]
    b1: tuple[float, ...]
    w2: tuple[float, ...]
    b2: float

    def packed(self) -> bytes:
        flat = [
            float(len(self.w1)),
            float(len(self.b1)),
            *(v for row in self.w1 for v in row),
            *self.b1,
            *self.w2,
            self.b2,
        ]
        return pack(f"{len(flat)}d", *flat)


def boxes(fs: float, sigma_s: float) -> tuple[int, int, int]:
    """Three widths whose variances add up to the Gaussian's as nearly as whole samples allow."""
    target = 12 * (sigma_s * fs) ** 2 + 3
    low = max(1, int(math.sqrt(target / 3)))
    choices = [(low,) * (3 - k) + (low + 1,) * k for k in range(4)]
    a, b, c = min(choices, key=lambda w: abs(w[0] ** 2 + w[1] ** 2 + w[2] ** 2 - target))
    return a, b, c


_LEARNED: dict[str, float] = {
    "refractory_s": 0.2,
    "level_gain": 0.13,
    "level_cap": 2.0,
    "noise_gain": 0.11,
    "noise_cap": 0.6,
}
_RULES: dict[str, float] = {
    "refractory_s": 0.181,
    "level_gain": 0.041,
    "level_cap": 1.2,
    "noise_gain": 0.02,
    "noise_cap": 0.773,
    "share": 0.408,
    "late": 1.078,
    "late_fall": 0.466,
    "late_least": 0.451,
    "t_from_s": 0.284,
    "t_until_s": 0.436,
    "t_slope": 0.618,
    "next_energy": 1.1,
    "back": 1.433,
    "back_share": 0.215,
    "threshold": 0.5,
}
_METHODS: dict[str, tuple[float, bool, dict[str, float]]] = {
    "native": (0.336, True, {**_RULES, **_LEARNED}),
    "native:rules": (0.336, False, _RULES),
    "native:rules-fast": (0.243, False, _RULES),
}
"""How long after a sample it is decided whether a beat was there (s), by what, and with which numbers (chosen on the
records DS1 of the MIT-BIH Arrhythmia Database, DS2 unseen)."""
METHODS = tuple(_METHODS)


def design(fs: float, method: str) -> Design:
    """The numbers of a method at a rate: everything is in seconds until here."""
    decide_s, verifier, numbers = _METHODS[method]
    a, b, c = boxes(fs, 0.011)
    energy = max(2, round(0.062 * fs))
    step_b, step_c = np.zeros(b + 1), np.zeros(c + 1)
    step_b[[0, -1]] = step_c[[0, -1]] = 1, -1
    slope = np.convolve(np.convolve(np.ones(a), np.ones(c)), step_b)
    curve = np.convolve(np.convolve(np.ones(a), step_b), step_c)
    delay = round((a - 1) / 2 + (c - 1) / 2 + b / 2 + (energy - 1))
    apart = round(0.12 * fs)
    return Design(
        fs=fs,
        box_a=a,
        box_b=b,
        box_c=c,
        box_energy=energy,
        gain_slope=1 / (QUANTUM * float(np.abs(slope).sum())),
        gain_curve=1 / (QUANTUM * float(np.abs(curve).sum())),
        apart=apart,
        ahead=max(apart, round(decide_s * fs) - delay),
        delay=delay,
        learn=round(2.5 * fs),
        ring=1 << math.ceil(math.log2(5.0 * fs)),
        verifier=int(verifier),
        **numbers,
    )
