"""What goes wrong with an arterial line, put onto a clean one: the generator that training uses.

Every kind takes the clean pressure (mmHg, at ``fs``) and a stretch from ``a`` to ``b`` in seconds, and gives the pressure as the faulty
line shows it. The stretch may begin before the signal or end after it. The figures are those of bedside lines: a pressure bag of
300 mmHg, natural frequencies of tubing of 4 to 25 Hz, a transducer that moves by some decimetres (7.4 mmHg each).

Evaluation uses `edge_train.abp.probes`: other code, other shapes and other ranges, and kinds that are not here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Signal = NDArray[np.float64]
Rng = np.random.Generator
Fault = Callable[[Signal, float, float, float, Rng], Signal]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of artefact, and how much of it a ten-second segment must hold to be called anomalous."""

    make: Fault
    least_s: float
    """Less of it in the segment and the segment is neither trained on nor counted."""
    longest_s: float = 14.0
    edge: bool = False
    """What shows is the beginning of the stretch, not what follows."""


def seconds(x: Signal, fs: float) -> Signal:
    return np.arange(len(x)) / fs


def pulse_of(x: Signal) -> tuple[float, float]:
    """Diastolic and systolic pressure, roughly."""
    low, high = np.quantile(x, (0.04, 0.97))
    return float(low), float(high)


def at(x: Signal, fs: float, when_s: float) -> float:
    return float(x[min(max(round(when_s * fs), 0), len(x) - 1)])


def within(t: Signal, a: float, b: float) -> NDArray[np.bool_]:
    return (t >= a) & (t < b)


def lagged(x: Signal, fs: float, tau_s: float, times: int = 1) -> Signal:
    """First-order lags in a row."""
    from scipy.signal import lfilter

    keep = float(np.exp(-1.0 / (tau_s * fs)))
    for _ in range(times):
        x = lfilter([1.0 - keep], [1.0, -keep], x, zi=[keep * x[0]])[0]
    return np.asarray(x, np.float64)


def oscillating(x: Signal, fs: float, hz: float, damping: float) -> Signal:
    """A tubing of natural frequency ``hz``: second order."""
    from scipy.signal import bilinear, lfilter, lfilter_zi

    w = 2.0 * np.pi * hz
    top, bottom = bilinear([w * w], [1.0, 2.0 * damping * w, w * w], fs)
    return np.asarray(lfilter(top, bottom, x, zi=lfilter_zi(top, bottom) * x[0])[0], np.float64)


def upstrokes(x: Signal, fs: float) -> NDArray[np.intp]:
    """Where pulses rise most steeply."""
    slope = np.gradient(lagged(x, fs, 0.01))
    limit = 0.45 * float(np.quantile(slope, 0.995))
    found: list[int] = []
    for i in np.flatnonzero((slope > limit) & (slope >= np.roll(slope, 1)) & (slope >= np.roll(slope, -1))).tolist():
        if not found or i - found[-1] > 0.3 * fs:
            found.append(i)
    return np.array(found, np.intp)


def flush(x: Signal, fs: float, a: float, b: float, rng: Rng) -> Signal:
    """The valve to the pressure bag opened and let go: a plateau, then ringing."""
    t = seconds(x, fs)
    top = rng.uniform(230, 310)
    out = x.copy()
    held = within(t, a, b)
    out[held] = (
        top + (at(x, fs, a) - top) * np.exp(-(t[held] - a) / rng.uniform(0.01, 0.06)) + rng.normal(0, 0.4, held.sum())
    )
    after = t >= b
    late = t[after] - b
    swing = (
        (top - at(x, fs, b)) * np.exp(-late / rng.uniform(0.03, 0.14)) * np.cos(2 * np.pi * rng.uniform(7, 20) * late)
    )
    out[after] += swing
    return out


def damped(x: Signal, fs: float, a: float, b: float, rng: Rng) -> Signal:
    """A clot, kink or bubble: the mean passes, little of the pulse does."""
    t = seconds(x, fs)
    wet = lagged(x, fs, rng.uniform(0.08, 0.24), 2) + rng.uniform(-4, 4)
    share = np.clip((t - a) / rng.uniform(0.1, 2.5), 0, 1) * np.clip((b - t) / rng.uniform(0.1, 1.0), 0, 1)
    return np.asarray(x + share * (wet - x))


def resonant(x: Signal, fs: float, a: float, b: float, rng: Rng) -> Signal:
    """An underdamped tubing: every upstroke overshoots and rings."""
    t = seconds(x, fs)
    ringing = oscillating(x, fs, rng.uniform(3.5, 9.0), rng.uniform(0.02, 0.12))
    return np.where(within(t, a, b), ringing, x)


def whip(x: Signal, fs: float, a: float, b: float, rng: Rng) -> Signal:
    """The catheter's tip thrown about at each ejection: a burst of oscillation on every upstroke."""
    t = seconds(x, fs)
    low, high = pulse_of(x)
    size = (high - low) * rng.uniform(0.25, 0.6)
    hz, decay = rng.uniform(7, 18), rng.uniform(0.05, 0.16)
    out = x.copy()
    for i in upstrokes(x, fs).tolist():
        late = t - t[i]
        burst = np.where(late >= 0, np.exp(-np.maximum(late, 0) / decay) * np.sin(2 * np.pi * hz * late), 0.0)
        out += np.where(within(t, a, b), size * rng.uniform(0.6, 1.3) * burst, 0.0)
    return out


def disconnected(x: Signal, fs: float, a: float, b: float, rng: Rng) -> Signal:
    """Open to the air: falls to about nothing at once."""
    t = seconds(x, fs)
    to = rng.uniform(-9, 5)
    held = within(t, a, b)
    out = x.copy()
    out[held] = to + (at(x, fs, a) - to) * np.exp(-(t[held] - a) / rng.uniform(0.02, 0.3))
    out[held] += rng.normal(0, rng.choice([0.02, 0.3, 1.0]), held.sum())
    return out


def flat(x: Signal, fs: float, a: float, b: float, rng: Rng) -> Signal:
    """A closed stopcock: the pressure that was caught, creeping."""
    t = seconds(x, fs)
    low, high = pulse_of(x)
    caught = (
        at(x, fs, a) if rng.random() < 0.5 else rng.uniform(low, high) if rng.random() < 0.6 else rng.uniform(30, 160)
    )
    held = within(t, a, b)
    late = t[held] - a
    out = x.copy()
    out[held] = (
        caught + rng.uniform(-2.5, 2.5) * late + (at(x, fs, a) - caught) * np.exp(-late / rng.uniform(0.02, 0.5))
    )
    out[held] += rng.normal(0, rng.choice([0.0, 0.1, 0.5]), held.sum())
    return out


def zeroing(x: Signal, fs: float, a: float, b: float, rng: Rng) -> Signal:
    """Zeroed against the air, perhaps with the steps of a calibration."""
    t = seconds(x, fs)
    out = x.copy()
    held = within(t, a, b)
    level = np.zeros(int(held.sum()))
    if rng.random() < 0.35:
        begin = rng.uniform(0, 0.6) * len(level)
        stop = begin + rng.uniform(0.5, 2.5) * fs
        level[int(begin) : int(stop)] = rng.choice([50.0, 100.0, 200.0])
    level = lagged(level, fs, rng.uniform(0.005, 0.06)) if len(level) else level
    out[held] = rng.uniform(-4, 4) + level + rng.normal(0, rng.choice([0.0, 0.15, 0.6]), held.sum())
    return out


def movement(x: Signal, fs: float, a: float, b: float, rng: Rng) -> Signal:
    """Knocks and pulls: bumps of any width."""
    t = seconds(x, fs)
    out = x.copy()
    for centre in rng.uniform(a, b, max(2, round(rng.uniform(1.0, 3.0) * (b - a)))).tolist():
        size = rng.uniform(15, 70) * rng.choice([-1.0, 1.0])
        out += size * np.exp(-0.5 * ((t - centre) / np.exp(rng.uniform(np.log(0.03), np.log(0.5)))) ** 2)
    return out


def height(x: Signal, fs: float, a: float, b: float, rng: Rng) -> Signal:
    """The transducer or the bed moved: all of the pressure shifts."""
    t = seconds(x, fs)
    size = rng.uniform(22, 70) * rng.choice([-1.0, 1.0])
    up = np.clip((t - a) / rng.uniform(0.1, 2.0), 0, 1)
    down = np.clip((t - b) / rng.uniform(0.1, 2.0), 0, 1)
    return np.asarray(x + size * (up - down))


def clipped(x: Signal, fs: float, a: float, b: float, rng: Rng) -> Signal:
    """An input at its rail."""
    t = seconds(x, fs)
    low, high = pulse_of(x)
    if rng.random() < 0.65:
        cut = np.minimum(x, low + rng.uniform(0.3, 0.78) * (high - low))
    else:
        cut = np.maximum(x, low + rng.uniform(0.15, 0.5) * (high - low))
    if rng.random() < 0.3:
        cut = np.maximum(cut, low + rng.uniform(0.08, 0.25) * (high - low))
    return np.where(within(t, a, b), cut, x)


def cuff(x: Signal, fs: float, a: float, b: float, rng: Rng) -> Signal:
    """A cuff inflated on the same arm: the pulse dwindles, the pressure runs off, and both come back."""
    t = seconds(x, fs)
    middle = lagged(x, fs, 0.6)
    fill, empty = rng.uniform(1.5, 5.0), rng.uniform(1.0, 5.0)
    pulse = np.clip(1 - (t - a) / fill, 0, 1) ** rng.uniform(0.7, 1.8) + np.clip((t - b) / empty, 0, 1) ** rng.uniform(
        0.7, 1.8
    )
    pulse = np.minimum(pulse, 1.0)
    rest = rng.uniform(22, 65)
    left = np.where(t < a, 1.0, np.exp(-np.maximum(t - a - 0.3 * fill, 0) / rng.uniform(1.2, 3.0)))
    left = np.maximum(left, np.clip((t - b) / empty, 0, 1))
    return np.asarray(rest + (middle - rest) * left + (x - middle) * pulse)


def spikes(x: Signal, fs: float, a: float, b: float, rng: Rng) -> Signal:
    """Short disturbances of the electronics, one after the other."""
    t = seconds(x, fs)
    out = x.copy()
    for centre in rng.uniform(a, b, max(2, round(rng.uniform(1.2, 6.0) * (b - a)))).tolist():
        width = rng.uniform(0.004, 0.03)
        out += rng.uniform(25, 150) * rng.choice([-1.0, 1.0]) * np.exp(-0.5 * ((t - centre) / width) ** 2)
    return out


def cautery(x: Signal, fs: float, a: float, b: float, rng: Rng) -> Signal:
    """Electrocautery and the like: noise as fast as the line lets through."""
    t = seconds(x, fs)
    noise = lagged(rng.normal(0, 1, len(x)), fs, rng.uniform(0.003, 0.02))
    noise -= lagged(noise, fs, 0.05)
    held = within(t, a, b)
    return np.asarray(x + held * noise / noise.std() * rng.uniform(5, 28) * rng.uniform(0.6, 1.4))


def stuck(x: Signal, fs: float, a: float, b: float, rng: Rng) -> Signal:
    """Samples that did not come: the last one held, once or again and again, or a filling value."""
    t = seconds(x, fs)
    held = within(t, a, b)
    out = x.copy()
    how = rng.random()
    if how < 0.4:
        out[held] = at(x, fs, a)
    elif how < 0.75:
        step = rng.uniform(0.15, 0.6)
        source = np.clip(np.round((a + np.floor((t - a) / step) * step) * fs).astype(np.intp), 0, len(x) - 1)
        out[held] = x[source][held]
    else:
        gap = (np.sin(2 * np.pi * t / rng.uniform(0.4, 2.0) + rng.uniform(0, 6)) > rng.uniform(-0.5, 0.7)) & held
        gap = held if gap.sum() < 0.3 * held.sum() else gap
        out[gap] = rng.choice([0.0, -10.0, -50.0, 300.0])
    return out


KINDS: Mapping[str, Kind] = {
    "flush": Kind(flush, 1.0, 8.0),
    "damped": Kind(damped, 4.0),
    "resonant": Kind(resonant, 3.0),
    "whip": Kind(whip, 3.0),
    "disconnected": Kind(disconnected, 1.0),
    "flat": Kind(flat, 1.5),
    "zeroing": Kind(zeroing, 1.0),
    "movement": Kind(movement, 1.0, 8.0),
    "height": Kind(height, 2.5, edge=True),
    "clipped": Kind(clipped, 3.0),
    "cuff": Kind(cuff, 4.0, 20.0),
    "spikes": Kind(spikes, 1.0, 8.0),
    "cautery": Kind(cautery, 1.0, 8.0),
    "stuck": Kind(stuck, 1.5, 8.0),
}
"""A pulse comes about once a second: what alters the pulse needs a few of them, what no pulse can be needs one second."""
LEAST_MMHG = 5.0
LEAST_PART = 0.12
"""An artefact changes the line by at least this (root mean square over its part in the segment) and by this part of the pulse, or"""
LEAST_TOP_MMHG = 12.0
LEAST_TOP_PART = 0.25
"""by this for a thirtieth of the time."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the signal the segment lies, seconds."""

    first_s: float
    end_s: float


def inject(
    x: Signal, fs: float, place: Place, kind: Kind, rng: Rng, tries: int = 12
) -> tuple[Signal, tuple[float, float]] | None:
    """The line with one artefact that shows in the segment, and where it is; None if none of some tries was strong enough.

    Its length is drawn even in its logarithm, and it lies anywhere that leaves at least ``least_s`` of it in the segment.
    """
    low, high = pulse_of(x)
    for _ in range(tries):
        long_s = float(np.exp(rng.uniform(np.log(kind.least_s), np.log(kind.longest_s))))
        if kind.edge:  # the step itself, with some of before and after
            a = float(rng.uniform(place.first_s + kind.least_s, place.end_s - kind.least_s))
            long_s = max(long_s, 2 * kind.least_s)
        else:
            a = float(rng.uniform(place.first_s + kind.least_s - long_s, place.end_s - kind.least_s))
        b = a + long_s
        out = kind.make(x, fs, a, b, rng)
        first, end = max(a, place.first_s), min(b, place.end_s)
        part = slice(round(first * fs), round(end * fs))
        change = out[part] - x[part]
        usual, top = float(np.sqrt(np.mean(change**2))), float(np.quantile(np.abs(change), 0.97))
        if (
            max(usual / LEAST_MMHG, top / LEAST_TOP_MMHG) >= 1.0
            and max(usual / LEAST_PART, top / LEAST_TOP_PART) >= high - low
        ):
            return out, (a, b)
    return None
