"""What a patient, an electrode and a recorder can do to an ECG, made from annotated records.

Without this the verifier knows only the training records' leads: a patient whose P waves are as large as the QRS, or another
recorder, would break it. Noise here is made, never taken from the recordings that detection is judged on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly

from edge_train.qrs.records import Indices, Record, Signal

RATES = (100, 125, 128, 200, 250, 257, 500, 1000)
RATE_ODDS = (0.08, 0.12, 0.2, 0.15, 0.2, 0.05, 0.15, 0.05)
Rng = np.random.Generator


@dataclass(frozen=True, slots=True)
class Changed:
    x: NDArray[np.float32]
    beats: Indices
    fs: float


def stretch(record: Record, length: int, rng: Rng) -> tuple[Signal, Indices] | None:
    """A stretch of a lead, or of a direction between the two; None where the ventricles fibrillate in it."""
    a, b = record.leads
    start = int(rng.integers(0, len(a) - length))
    beats = record.beats[(record.beats >= start + 20) & (record.beats < start + length - 20)] - start
    if any(begin < start + length and end > start for begin, end in record.fibrillation):
        return None
    a, b = a[start : start + length], b[start : start + length]
    kind = rng.random()
    x = _direction(a, b, beats, record.fs, rng) if kind < 0.45 else (b if kind < 0.62 else a).copy()
    if rng.random() < 0.3:
        inside = (record.ventricular >= start + record.fs) & (record.ventricular < start + length - record.fs)
        return _ventricular(x, beats, record.ventricular[inside] - start, record.fs, rng)
    return x, beats


def change(x: Signal, beats: Indices, fs: float, rng: Rng, noisy: float) -> Changed:
    if rng.random() < 0.5:
        to = int(rng.choice(RATES, p=RATE_ODDS))
        common = int(np.gcd(to, int(fs)))
        x = resample_poly(x, to // common, int(fs) // common)
        beats = np.round(beats * to / fs).astype(np.int64)
        fs = float(to)
        beats = beats[beats < len(x)]
    x = x * rng.choice([-1.0, 1.0])
    for odds, what in ((0.25, _t_waves), (0.2, _p_waves), (0.2, _place), (0.2, _sizes), (0.2, _bumps), (0.08, _pacing)):
        if rng.random() < odds:
            x = what(x, beats, fs, rng)
    if rng.random() < 0.2:
        x, beats = _pauses(x, beats, fs, rng)
    if rng.random() < 0.3:
        x = x * swell(len(x), fs, rng, rng.uniform(0.05, 0.4), rng.uniform(2, 20))
    size = qrs_size(x, beats, fs)
    if rng.random() < noisy:
        x = x + size * noise(len(x), fs, rng)
    if rng.random() < 0.2:
        hum = np.sin(2 * np.pi * rng.choice([50, 60]) * rng.uniform(0.995, 1.005) * np.arange(len(x)) / fs)
        x = x + size * rng.uniform(0.01, 0.4) * hum * (_on_off(len(x), fs, rng) if rng.random() < 0.4 else 1.0)
    if rng.random() < 0.15:
        x = _gain_steps(x, fs, rng)
    if rng.random() < 0.2:
        x, beats = _late(x, beats, fs, size, rng)
    x = x.copy()
    if rng.random() < 0.1:
        for start in rng.integers(0, len(x), 6):
            n = int(rng.uniform(0.01, 6) * fs)
            x[start : start + n] = np.nan
            beats = beats[(beats < start - 0.05 * fs) | (beats >= start + n + 0.05 * fs)]
    tempo = rng.uniform(0.8, 1.25) if rng.random() < 0.6 else 1.0
    return Changed(x.astype(np.float32), beats, fs * tempo)


# Noise, unit RMS unless said otherwise.


def coloured(n: int, fs: float, rng: Rng, slope: float, low: float, high: float) -> Signal:
    """Gaussian, its power falling as 1 / f^slope between two frequencies."""
    size = 1 << (n - 1).bit_length()
    f = np.fft.rfftfreq(size, 1 / fs)
    gain = np.zeros(len(f))
    inside = (f >= low) & (f <= high)
    gain[inside] = f[inside] ** (-slope / 2)
    z = np.fft.irfft(gain * (rng.normal(size=len(f)) + 1j * rng.normal(size=len(f))), size)[:n]
    out: Signal = z / (z.std() + 1e-12)
    return out


def swell(n: int, fs: float, rng: Rng, depth: float, period_s: float) -> Signal:
    """A slow gain around 1."""
    out: Signal = np.exp(depth * coloured(n, fs, rng, 1.0, 0.04 / period_s, 1 / period_s))
    return out


def noise(n: int, fs: float, rng: Rng) -> Signal:
    """Electrode, muscle and wander in any mixture, 26 to -4 dB below a sine as tall as a QRS of 1; half comes and goes."""
    shares = np.sqrt(rng.dirichlet([0.7, 0.7, 0.5]))
    z = sum(s * make(n, fs, rng) for s, make in zip(shares, (_electrode, _muscle, _wander), strict=True))
    z = np.asarray(z) / np.std(z) / np.sqrt(8) * 10 ** (-rng.uniform(-4, 26) / 20)
    out: Signal = z * _on_off(n, fs, rng) if rng.random() < 0.5 else z
    return out


def _electrode(n: int, fs: float, rng: Rng) -> Signal:
    x = coloured(n, fs, rng, rng.uniform(1.2, 2.4), 0.3, rng.uniform(8, 30))
    x = x * swell(n, fs, rng, rng.uniform(0, 0.8), rng.uniform(2, 10))
    places = rng.integers(0, n, rng.poisson(n / fs * rng.uniform(0.05, 1.0)))
    y = np.zeros(n)
    for start in places:  # steps that recover, and bumps as wide as a QRS or a T wave
        height = rng.normal() * np.exp(rng.normal() * 0.5)
        if rng.random() < 0.5:
            decay = rng.uniform(0.05, 0.8) * fs
            k = np.arange(min(n - start, int(4 * decay)))
            shape = np.exp(-k / decay) * np.minimum(1, k / max(1, int(rng.uniform(0.005, 0.06) * fs)))
        else:
            width = rng.uniform(0.012, 0.12) * fs
            k = np.arange(min(n - start, int(8 * width)))
            shape = np.exp(-0.5 * ((k - 4 * width) / width) ** 2)
            if rng.random() < 0.4 and len(shape) > 1:
                shape = np.gradient(shape) * width * 1.5
        y[start : start + len(k)] += height * shape
    if len(places):
        x = x + y / (y.std() + 1e-9) * rng.uniform(0.3, 1.5)
    out: Signal = x / x.std()
    return out


def _muscle(n: int, fs: float, rng: Rng) -> Signal:
    x = coloured(n, fs, rng, rng.uniform(-0.3, 1.0), rng.uniform(2, 20), min(0.49 * fs, rng.uniform(60, 150)))
    x = x * swell(n, fs, rng, rng.uniform(0, 1.2), rng.uniform(0.3, 6))
    out: Signal = x / x.std()
    return out


def _wander(n: int, fs: float, rng: Rng) -> Signal:
    x = coloured(n, fs, rng, rng.uniform(1, 2), 0.05, rng.uniform(0.5, 2))
    if rng.random() < 0.5:
        x = x + np.sin(2 * np.pi * rng.uniform(0.15, 0.5) * np.arange(n) / fs + rng.uniform(0, 6)) * rng.uniform(
            0.5, 1.5
        )
    out: Signal = x / x.std()
    return out


def _on_off(n: int, fs: float, rng: Rng) -> Signal:
    gate = np.zeros(n)
    at, on = int(rng.uniform(0, 30) * fs), True
    while at < n:
        length = int(rng.uniform(3, 90) * fs)
        gate[at : at + length] = on
        at, on = at + length, not on
    ramp = int(0.2 * fs)
    return np.convolve(gate, np.ones(ramp) / ramp, "same")


# The heart and the place of the electrodes.


def qrs_size(x: Signal, beats: Indices, fs: float) -> float:
    """Median peak-to-peak amplitude within 50 ms."""
    half = int(0.05 * fs)
    spans = [float(np.ptp(x[b - half : b + half])) for b in beats[::5] if b > half and b + half < len(x)]
    return float(np.median(spans)) if spans else 1.0


def _direction(a: Signal, b: Signal, beats: Indices, fs: float, rng: Rng) -> Signal:
    """Another direction in the plane of two leads, but none in which the QRS almost vanishes."""
    size_a, size_b = qrs_size(a, beats, fs), qrs_size(b, beats, fs)
    for _ in range(8):
        angle = rng.uniform(0, 2 * np.pi)
        y: Signal = a / (size_a + 1e-6) * np.cos(angle) + b / (size_b + 1e-6) * np.sin(angle)
        if qrs_size(y, beats, fs) > 0.35:
            return y * size_a
    return a


def _ventricular(x: Signal, beats: Indices, ectopic: Indices, fs: float, rng: Rng) -> tuple[Signal, Indices]:
    """A minute or two of ventricular rhythm, slow as an escape's or fast as a tachycardia's, from the patient's own
    ectopic beats; sometimes each with a pacemaker's spike before it."""
    if len(ectopic) < 5:
        return x, beats
    sources = rng.choice(ectopic, size=int(rng.choice([1, 3, 12])))
    start = int(rng.integers(0, len(x) // 2))
    stop = min(len(x), start + int(rng.uniform(20, 150) * fs))
    rr, jitter = rng.uniform(0.33, 1.4), rng.choice([0.01, 0.05, 0.15])
    size, spiked = qrs_size(x, sources, fs), rng.random() < 0.4
    spike, before = size * rng.uniform(0.1, 1.5) * rng.choice([-1, 1]), int(rng.uniform(0.03, 0.09) * fs)
    floor = size * 10 ** rng.uniform(-3, -1.5)
    y = floor * coloured(stop - start, fs, rng, 1.0, 0.5, 40)
    placed: list[int] = []
    at = 0.4 * fs
    while at < stop - start - 0.9 * fs:
        gap = max(0.25, rr * (1 + jitter * rng.normal())) * fs
        head, tail = int(min(0.2 * fs, 0.35 * gap)), int(min(0.55 * fs, 0.65 * gap))
        source, middle = int(rng.choice(sources)), int(at)
        beat = x[source - head : source + tail]
        y[middle - head : middle + tail] += beat - np.linspace(beat[0], beat[-1], len(beat))
        if spiked:
            y[middle - before] += spike
        placed.append(start + middle)
        at += gap
    x = x.copy()
    if stop < len(x):
        x[stop:] += x[start] - x[stop]
    x[start:stop] = y + x[start]
    edge = int(0.06 * fs)
    kept = beats[(beats < start - edge) | (beats > stop + edge)]
    return x, np.sort(np.r_[kept, np.asarray(placed, np.int64)])


def _place(x: Signal, _beats: Indices, fs: float, rng: Rng) -> Signal:
    """A short random filter: another morphology, a wider QRS."""
    n = max(3, int(rng.uniform(0.01, 0.07) * fs))
    bell = np.hanning(n + 2)[1:-1]
    h = rng.normal(size=n) * bell
    if rng.random() < 0.5:
        h = bell / bell.sum()
    else:
        h = h / np.abs(h).sum()
        h[n // 2] += 1
    return np.convolve(x, h, "same")


def _sizes(x: Signal, beats: Indices, fs: float, rng: Rng) -> Signal:
    """Beats smaller or larger than their neighbours."""
    gain = np.ones(len(x))
    half = int(0.1 * fs)
    bell = np.hanning(2 * half)
    spread, every = rng.uniform(0.1, 0.5), rng.random() < 0.5
    for b in beats:
        if (every or rng.random() < 0.1) and half <= b < len(x) - half:
            gain[b - half : b + half] *= 1 + (np.exp(np.clip(rng.normal() * spread, -1.2, 0.8)) - 1) * bell
    n = int(0.3 * fs)
    base = np.convolve(x, np.ones(n) / n, "same")
    out: Signal = base + (x - base) * gain
    return out


def _t_waves(x: Signal, beats: Indices, fs: float, rng: Rng) -> Signal:
    size = qrs_size(x, beats, fs) * rng.uniform(0.2, 1.1) * rng.choice([-1, 1])
    rr = np.diff(beats, append=beats[-1] + fs) / fs if len(beats) else np.zeros(0)
    width, after = rng.uniform(0.02, 0.05) * fs, rng.uniform(0.24, 0.36)
    gain, half = swell(len(x), fs, rng, 0.2, 30), int(4 * width)
    bell = np.exp(-0.5 * (np.arange(-half, half) / width) ** 2)
    x = x.copy()
    for b, gap in zip(beats, rr, strict=True):
        delay = after * np.sqrt(np.clip(gap, 0.35, 1.2))
        m = int(b + delay * fs)
        if delay <= 0.8 * gap and half <= m < len(x) - half:
            x[m - half : m + half] += size * gain[m] * bell
    return x


def _p_waves(x: Signal, beats: Indices, fs: float, rng: Rng) -> Signal:
    size = qrs_size(x, beats, fs) * rng.uniform(0.08, 0.7) * rng.choice([-1, 1])
    rr = np.diff(beats, prepend=beats[0] - fs) / fs if len(beats) else np.zeros(0)
    width, before = rng.uniform(0.013, 0.035) * fs, rng.uniform(0.11, 0.22)
    gain, half = swell(len(x), fs, rng, 0.25, 20), int(4 * width)
    bell = np.exp(-0.5 * (np.arange(-half, half) / width) ** 2)
    if rng.random() < 0.3:
        bell = np.gradient(bell) * width * 1.6
    absent = rng.random(len(beats)) < rng.choice([0, 0.1, 0.4])
    x = x.copy()
    for b, gap, none in zip(beats, rr, absent, strict=True):
        m = int(b - min(before, 0.45 * gap) * fs * rng.normal(1, 0.02))
        if not none and half <= m < len(x) - half:
            x[m - half : m + half] += size * gain[m] * bell
    return x


def _bumps(x: Signal, beats: Indices, fs: float, rng: Rng) -> Signal:
    size = qrs_size(x, beats, fs)
    x = x.copy()
    for start in rng.integers(0, len(x) - int(fs), rng.poisson(len(x) / fs * rng.uniform(0.02, 0.15))):
        width = np.exp(rng.uniform(np.log(0.01), np.log(0.15))) * fs
        half = int(4 * width)
        bell = np.exp(-0.5 * (np.arange(-half, half) / width) ** 2)
        if rng.random() < 0.3:
            bell = np.gradient(bell) * width * 1.6
        n = min(len(bell), len(x) - start)
        x[start : start + n] += size * rng.uniform(0.04, 0.35) * rng.choice([-1, 1]) * bell[:n]
    return x


def _pacing(x: Signal, beats: Indices, fs: float, rng: Rng) -> Signal:
    spike = qrs_size(x, beats, fs) * rng.uniform(0.3, 3) * rng.choice([-1, 1])
    before, n = rng.uniform(0.04, 0.2), max(1, round(0.002 * fs))
    paced = beats[rng.random(len(beats)) < rng.choice([1, 0.5])]
    x = x.copy()
    for m in (paced - int(before * fs)).tolist():
        if m > 0:
            x[m : m + n] += spike
    return x


def _pauses(x: Signal, beats: Indices, fs: float, rng: Rng) -> tuple[Signal, Indices]:
    """Asystole: the rhythm stops and leaves the noise floor, sometimes wander or P waves."""
    size = qrs_size(x, beats, fs)
    x, keep = x.copy(), np.ones(len(beats), bool)
    for start in rng.integers(int(5 * fs), len(x) - int(25 * fs), rng.integers(2, 8)):
        n = int(rng.uniform(3, 20) * fs)
        y = coloured(n, fs, rng, rng.uniform(0, 1.5), 0.5, min(0.45 * fs, 60)) * size * 10 ** rng.uniform(-3, -1.3)
        y = y + _wander(n, fs, rng) * size * 10 ** rng.uniform(-2, -0.3)
        if rng.random() < 0.4:
            atria = np.zeros(n)
            step, width = int(rng.uniform(0.5, 1.1) * fs), rng.uniform(0.02, 0.035) * fs
            atria[step // 2 :: step] = size * rng.uniform(0.03, 0.15)
            half = int(4 * width)
            y = y + np.convolve(atria, np.exp(-0.5 * (np.arange(-half, half) / width) ** 2), "same")[:n]
        stop, edge = start + n, int(0.03 * fs)
        keep &= (beats <= start - 0.06 * fs) | (beats >= stop + 0.06 * fs)
        y = y - y[0] + x[start]
        x[stop:] += y[-1] - x[stop]
        x[start:stop] = y
        for at in (start, stop):
            x[at - edge : at + edge] = np.linspace(x[at - edge], x[at + edge - 1], 2 * edge)
    return x, beats[keep]


def _gain_steps(x: Signal, fs: float, rng: Rng) -> Signal:
    x = x.copy()
    for at in np.sort(rng.integers(int(10 * fs), len(x), rng.integers(1, 5))):
        x[at:] = x[at] + (x[at:] - x[at]) * 10 ** rng.uniform(-0.6, 0.6) + rng.normal() * 0.5
    return x


def _late(x: Signal, beats: Indices, fs: float, size: float, rng: Rng) -> tuple[Signal, Indices]:
    """The electrodes are put on late: noise, a flat line, or the recorder's rails before the patient."""
    n, kind = int(rng.uniform(3, 60) * fs), rng.integers(0, 3)
    y = coloured(n, fs, rng, rng.uniform(0, 2), 0.3, min(0.45 * fs, 80)) * size * 10 ** rng.uniform(-3, 0.8)
    if kind == 1:
        y = np.full(n, y[0])
    elif kind == 2:
        y = np.clip(y * 20 / size, -1, 1) * size * rng.uniform(2, 30)
    return np.r_[y, x - x[0] + rng.choice([0, y[-1]])], beats + n
