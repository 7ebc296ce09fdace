"""What goes wrong with an arterial line, once more: the generator that evaluation uses, and training never.

Written apart from `edge_train.abp.faults`: other models of the same physics (differential equations instead of curves, filtered noise
instead of bumps, steps of an S shape instead of ramps), other ranges, and three kinds that training knows nothing of: blood sampling
(stopcock, bag, flush), packets out of order, and a line upside down.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edge_train.abp.faults import Kind, Rng, Signal


def _time(x: Signal, fs: float) -> Signal:
    return np.arange(len(x)) / fs


def _ease(t: Signal, a: float, rise_s: float) -> Signal:
    """From 0 to 1 in an S, beginning at ``a``."""
    share = np.clip((t - a) / rise_s, 0.0, 1.0)
    return np.asarray(share * share * (3.0 - 2.0 * share))


def _follow(wanted: Signal, fs: float, hz: Signal, damping: Signal, start: float) -> Signal:
    """A mass on a spring that follows ``wanted``; its frequency and damping may change. Semi-implicit steps at four times fs."""
    fine = 4
    step = 1.0 / (fs * fine)
    place, speed = start, 0.0
    out = np.empty(len(wanted))
    for i, (goal, w, z) in enumerate(zip(wanted.tolist(), (2 * np.pi * hz).tolist(), damping.tolist(), strict=True)):
        for _ in range(fine):
            speed += step * (w * w * (goal - place) - 2 * z * w * speed)
            place += step * speed
        out[i] = place
    return out


def _band(rng: Rng, n: int, fs: float, low: float, high: float) -> Signal:
    """Gaussian noise of unit power between two frequencies."""
    hz = np.fft.rfftfreq(n, 1 / fs)
    spectrum = np.fft.rfft(rng.normal(size=n)) * ((hz >= low) & (hz <= high))
    out = np.fft.irfft(spectrum, n)
    return np.asarray(out / max(float(out.std()), 1e-9))


def _span(x: Signal) -> tuple[float, float]:
    return float(np.percentile(x, 5)), float(np.percentile(x, 96))


def _feet(x: Signal, fs: float) -> list[int]:
    """Least pressure before each large rise."""
    low, high = _span(x)
    width = round(0.2 * fs)
    rise = x[width:] - x[:-width]
    found: list[int] = []
    for i in np.flatnonzero(rise > 0.5 * (high - low)).tolist():
        if not found or i - found[-1] > 0.35 * fs:
            found.append(i)
    return [i + int(np.argmin(x[i : i + width])) for i in found]


def flush(x: Signal, fs: float, a: float, b: float, rng: Rng) -> Signal:
    t = _time(x, fs)
    open_ = (t >= a) & (t < b)
    bag = rng.uniform(190, 300)
    hz = np.where(t < b, 30.0, rng.uniform(10, 24))
    damping = np.where(t < b, 0.7, rng.uniform(0.12, 0.35))
    away = _follow(np.where(open_, bag - x, 0.0), fs, hz, damping, bag - x[0] if a <= 0 else 0.0)
    return np.asarray(x + away)


def damped(x: Signal, fs: float, a: float, b: float, rng: Rng) -> Signal:
    t = _time(x, fs)
    width = rng.uniform(0.09, 0.18)
    reach = round(3 * width * fs)
    bell = np.exp(-0.5 * (np.arange(-reach, reach + 1) / (width * fs)) ** 2)
    soft = np.convolve(np.pad(x, reach, mode="edge"), bell / bell.sum(), mode="valid")
    late = round(rng.uniform(0.05, 0.12) * fs)
    soft = np.concatenate([np.full(late, soft[0]), soft[: len(soft) - late]])
    mean = float(x.mean())
    soft = mean + rng.uniform(0.55, 1.0) * (soft - mean)
    share = _ease(t, a, rng.uniform(0.2, 2.0)) * (1 - _ease(t, b - 0.5, 0.5))
    return np.asarray(x + share * (soft - x))


def resonant(x: Signal, fs: float, a: float, b: float, rng: Rng) -> Signal:
    t = _time(x, fs)
    inside = (t >= a) & (t < b)
    hz = np.where(inside, rng.uniform(4.0, 8.0), 40.0)
    damping = np.where(inside, rng.uniform(0.04, 0.10), 0.7)
    rung = _follow(x, fs, hz, damping, float(x[0]))
    return np.where((t >= a) & (t < b + 0.3), rung, x)


def whip(x: Signal, fs: float, a: float, b: float, rng: Rng) -> Signal:
    t = _time(x, fs)
    low, high = _span(x)
    hz, long_s = rng.uniform(8, 15), rng.uniform(0.2, 0.4)
    out = x.copy()
    for foot in _feet(x, fs):
        begin = t[foot] + 0.04
        if a <= begin < b:
            window = np.where((t >= begin) & (t < begin + long_s), np.sin(np.pi * (t - begin) / long_s), 0.0)
            out += rng.uniform(0.22, 0.45) * (high - low) * window * np.cos(2 * np.pi * hz * (t - begin))
    return out


def disconnected(x: Signal, fs: float, a: float, b: float, rng: Rng) -> Signal:
    t = _time(x, fs)
    level = rng.uniform(-6, 4)
    gone = np.clip((t - a) / rng.uniform(0.08, 0.6), 0, 1)
    air = level + rng.uniform(0.05, 0.8) * _band(rng, len(x), fs, 0.2, 30)
    return np.where((t >= a) & (t < b), x + gone * (air - x), x)


def flat(x: Signal, fs: float, a: float, b: float, rng: Rng) -> Signal:
    t = _time(x, fs)
    low, high = _span(x)
    to = rng.uniform(low - 10, high + 15)
    share = np.where(t < a, 0.0, 1 - np.exp(-np.maximum(t - a, 0) / rng.uniform(0.1, 0.7)))
    shut = (
        to
        + rng.uniform(-1.5, 1.5) * (t - a)
        + rng.uniform(0, 0.02) * (x - x.mean())
        + rng.uniform(0, 0.3) * rng.normal(size=len(x))
    )
    return np.where(t < b, x + share * (shut - x), x)


def zeroing(x: Signal, fs: float, a: float, b: float, rng: Rng) -> Signal:
    t = _time(x, fs)
    air = np.full(len(x), rng.uniform(-3, 3)) + rng.uniform(0, 0.4) * rng.normal(size=len(x))
    if rng.random() < 0.3:
        begin, long_s = rng.uniform(a, b), rng.uniform(0.7, 2.0)
        air = air + rng.choice([80.0, 150.0]) * (_ease(t, begin, 0.05) - _ease(t, begin + long_s, 0.05))
    share = _ease(t, a, rng.uniform(0.02, 0.12)) - _ease(t, b, rng.uniform(0.02, 0.12))
    return np.asarray(x + share * (air - x))


def movement(x: Signal, fs: float, a: float, b: float, rng: Rng) -> Signal:
    t = _time(x, fs)
    size = np.clip((t - a) / 0.3, 0, 1) * np.clip((b - t) / 0.3, 0, 1)
    return np.asarray(x + size * rng.uniform(12, 32) * _band(rng, len(x), fs, 0.4, rng.uniform(3, 7)))


def height(x: Signal, fs: float, a: float, b: float, rng: Rng) -> Signal:
    t = _time(x, fs)
    size = rng.uniform(25, 60) * rng.choice([-1.0, 1.0])
    return np.asarray(x + size * (_ease(t, a, rng.uniform(0.2, 1.6)) - _ease(t, b, rng.uniform(0.2, 1.6))))


def clipped(x: Signal, fs: float, a: float, b: float, rng: Rng) -> Signal:
    t = _time(x, fs)
    low, high = np.percentile(x, (5, 96))
    rail = low + rng.uniform(0.4, 0.72) * (high - low)
    held = np.minimum(x, rail) if rng.random() < 0.6 else np.maximum(x, low + rng.uniform(0.2, 0.45) * (high - low))
    held = held + rng.uniform(0, 0.25) * rng.normal(size=len(x))
    return np.where((t >= a) & (t < b), held, x)


def cuff(x: Signal, fs: float, a: float, b: float, rng: Rng) -> Signal:
    """The cuff's own pressure decides: the artery is shut where it is above systolic, partly open below."""
    t = _time(x, fs)
    low, high = _span(x)
    shut_s, open_s = rng.uniform(2.0, 4.5), rng.uniform(3.0, 8.0)
    squeeze = (high + 30) * (np.clip((t - a) / shut_s, 0, 1) - np.clip((t - b) / open_s, 0, 1))
    through = 1 / (1 + np.exp((squeeze - 0.5 * (low + high)) / (0.12 * high)))
    level, out = float(x[0]), np.empty(len(x))
    run_off, rest = 1 / (rng.uniform(1.4, 2.6) * fs), rng.uniform(28, 55)
    for i, (outside, share) in enumerate(zip(x.tolist(), through.tolist(), strict=True)):
        level += (1 - share) * (rest - level) * run_off + share * (outside - level) * min(1.0, 0.25 + share)
        out[i] = level
    untouched = t < a - 0.2
    out[untouched] = x[untouched]
    return out


def spikes(x: Signal, fs: float, a: float, b: float, rng: Rng) -> Signal:
    t = _time(x, fs)
    out = x.copy()
    when = a
    while when < b:
        width = rng.uniform(0.008, 0.04)
        late = (t - when) / width
        out += rng.uniform(30, 120) * rng.choice([-1.0, 1.0]) * -late * np.exp(0.5 - 0.5 * late * late)  # down and up
        when += rng.uniform(0.2, 0.8)
    return out


def cautery(x: Signal, fs: float, a: float, b: float, rng: Rng) -> Signal:
    t = _time(x, fs)
    carrier = np.sin(2 * np.pi * rng.uniform(12, 34) * t + 3 * _band(rng, len(x), fs, 0.5, 4))
    on = np.clip((t - a) / 0.05, 0, 1) * np.clip((b - t) / 0.05, 0, 1)
    return np.asarray(x + on * rng.uniform(5, 22) * (carrier + 0.5 * _band(rng, len(x), fs, 5, 40)))


def stuck(x: Signal, fs: float, a: float, b: float, rng: Rng) -> Signal:
    out = x.copy()
    first, end = max(0, round(a * fs)), min(len(x), round(b * fs))
    if rng.random() < 0.5:
        out[first:end] = x[first]
    else:
        i = first
        while i < end:
            n = round(rng.uniform(0.2, 0.5) * fs)
            out[i : min(i + n, end)] = x[i]
            i += n
    return out


def sampling(x: Signal, fs: float, a: float, b: float, rng: Rng) -> Signal:
    """Blood drawn: the stopcock turned (the line shut, the transducer fed by the bag), then a flush, then the pulse again."""
    t = _time(x, fs)
    long_s = b - a
    flush_s = min(rng.uniform(0.8, 2.0), 0.4 * long_s)
    goal = np.where((t >= a) & (t < b - flush_s), rng.uniform(120, 260), x)
    slow = rng.uniform(0.5, 3.0)
    shut = goal + (x[min(max(round(a * fs), 0), len(x) - 1)] - goal) * np.exp(-np.maximum(t - a, 0) / slow)
    out = np.where((t >= a) & (t < b - flush_s), shut, x)
    return flush(out, fs, b - flush_s, b, rng)


def swapped(x: Signal, fs: float, a: float, b: float, rng: Rng) -> Signal:
    """Packets out of order."""
    out = x.copy()
    n = round(rng.uniform(0.2, 0.45) * fs)
    first, end = max(0, round(a * fs)), min(len(x), round(b * fs))
    starts = np.arange(first, end - n + 1, n)
    for to, source in zip(starts.tolist(), rng.permutation(starts).tolist(), strict=True):
        out[to : to + n] = x[source : source + n]
    return out


def inverted(x: Signal, fs: float, a: float, b: float, rng: Rng) -> Signal:
    """The polarity the wrong way round, about the middle of the pulse."""
    t = _time(x, fs)
    low, high = _span(x)
    return np.where((t >= a) & (t < b), low + high - x + rng.uniform(-10, 10), x)


KINDS: Mapping[str, Kind] = {
    "flush": Kind(flush, 1.0, 7.0),
    "damped": Kind(damped, 4.0),
    "resonant": Kind(resonant, 3.0),
    "whip": Kind(whip, 3.0),
    "disconnected": Kind(disconnected, 1.0, 12.0),
    "flat": Kind(flat, 1.5, 12.0),
    "zeroing": Kind(zeroing, 1.0, 10.0),
    "movement": Kind(movement, 1.0, 7.0),
    "height": Kind(height, 2.5, edge=True),
    "clipped": Kind(clipped, 3.0),
    "cuff": Kind(cuff, 4.0, 18.0),
    "spikes": Kind(spikes, 1.0, 7.0),
    "cautery": Kind(cautery, 1.0, 7.0),
    "stuck": Kind(stuck, 1.5, 7.0),
    "sampling": Kind(sampling, 2.0, 15.0),
    "swapped": Kind(swapped, 3.0, 10.0),
    "inverted": Kind(inverted, 3.0, 10.0),
}
UNTRAINED = ("sampling", "swapped", "inverted")
"""No kind of these in `edge_train.abp.faults`."""
