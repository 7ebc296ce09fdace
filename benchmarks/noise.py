"""Noise at a stated signal-to-noise ratio, mixed as WFDB's ``nst`` does it (Moody, Muldrow, Mark 1984).

The ratio is ``nst``'s, so that levels mean what they mean in the MIT-BIH Noise Stress Test Database (nstdb):

* the signal's power is that of a sine whose peak-to-peak amplitude is that of the QRS complexes: the mean, less 5 % at
  either end, of the first 300 beats that are not ventricular, each within 50 ms of its mark;
* the noise's power is the square of its RMS amplitude: the mean, less 5 % at either end, of the first 300 seconds, the
  mean of each second taken away first (so slow wander counts for little, and much of it is added at a given ratio).

Noise begins at minute 5, after a clean learning period, and goes on to the end (``steady``), or comes and goes every
two minutes as in nstdb (``nst``). At every switch the signal is shifted so that it does not jump, as ``nst`` does.

Where a folder with nstdb's own ``em``, ``ma`` and ``bw`` records is given, those are used. Else the noise is synthetic:
seeded, the same for every detector, and plausible rather than real:

* ``bw``: breathing (a sine of wandering rate and depth) and a drift that falls off with the square of frequency;
* ``ma``: Gaussian noise between 15 and 60 Hz with second-order slopes, in bursts (a log-normal envelope that changes within 1 s);
* ``em``: bumps and shifts of 50 ms to 0.5 s, either way up, that come in spells, over a faint 0.5-10 Hz rumble;
* ``mix``: the three with equal power.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.ec57 import Annotations, to_samples

Signal = NDArray[np.float64]

KINDS = ("mix", "em", "ma", "bw")
NSTDB_VARIABLE = "EDGE_AGENT_NSTDB"
PROTOCOLS = ("steady", "nst")
BEGIN_S = 300.0
TURN_S = 120.0
MEASURES = 300
"""As many QRS complexes, or seconds of noise, are measured at most."""


class NoiseError(RuntimeError):
    """Noise was asked for that cannot be had."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the noise comes from; ``folder`` None is synthetic."""

    folder: Path | None = None
    seed: int = 20

    @property
    def title(self) -> str:
        if self.folder is None:
            return f"synthetic (seed {self.seed})"
        return "the MIT-BIH Noise Stress Test Database's records em, ma, bw"

    def make(self, kind: str, record: str, n: int, fs: float) -> Signal:
        """``n`` samples of noise; every kind has unit RMS as ``noise_rms`` measures it."""
        if kind == "mix":
            return _unit(np.sum([self.make(part, record, n, fs) for part in KINDS if part != "mix"], axis=0), fs)
        if kind not in KINDS:
            raise NoiseError(f"no noise is called {kind!r}: {', '.join(KINDS)}")
        if self.folder is not None:
            return _unit(_recorded(self.folder, kind, n, fs), fs)
        rng = np.random.default_rng([self.seed, zlib.crc32(f"{record} {kind}".encode())])
        return _unit(_SYNTHETIC[kind](n, fs, rng), fs)


def source(folder: Path | None, seed: int = 20) -> Source:
    if folder is not None:
        absent = [kind for kind in KINDS if kind != "mix" and not (folder / f"{kind}.hea").exists()]
        if absent:
            raise NoiseError(
                f"{folder} holds no record {', '.join(absent)}: give nstdb's folder, or none for synthetic noise"
            )
    return Source(folder, seed)


def add_noise(
    x: Signal, noise: Signal, snr_db: float, reference: Annotations, fs: float, protocol: str = "steady"
) -> Signal:
    """``x`` with ``noise`` from minute 5 on, at ``snr_db``."""
    if protocol not in PROTOCOLS:
        raise NoiseError(f"no protocol is called {protocol!r}: {', '.join(PROTOCOLS)}")
    n = len(x)
    gain = noise_gain(qrs_amplitude(x, reference, fs), noise_rms(noise, fs), snr_db)
    out = np.array(x, np.float64)
    begin = to_samples(BEGIN_S, fs)
    edges = [begin, n] if protocol == "steady" else [*range(begin, n, to_samples(TURN_S, fs)), n]
    shift, noisy = 0.0, True
    for start, stop in pairwise(edges):
        if start >= n:
            break
        added = gain * noise if noisy else np.zeros(1)
        if start > 0:
            was = out[start - 1] - x[start - 1]
            shift = (added[start - 1] if noisy else 0.0) - was
        out[start:stop] = x[start:stop] + (added[start:stop] if noisy else 0.0) - shift
        noisy = not noisy
    return out


def noise_gain(qrs_peak_to_peak: float, rms: float, snr_db: float) -> float:
    """By what to multiply noise of this RMS: the sine's RMS is its peak-to-peak amplitude over 2 sqrt 2."""
    if not rms > 0:
        raise NoiseError("the noise has no power: it cannot be brought to a signal-to-noise ratio")
    return qrs_peak_to_peak / (2 * math.sqrt(2)) / rms * 10 ** (-snr_db / 20)


def qrs_amplitude(x: Signal, reference: Annotations, fs: float) -> float:
    """Peak-to-peak amplitude of the QRS complexes, a trimmed mean."""
    reach = to_samples(0.05, fs)
    marks = [s for s, label in zip(reference.samples, reference.labels, strict=True) if label not in "VF"]
    spans = [x[s - reach : s + reach + 1] for s in marks if reach <= s < len(x) - reach][:MEASURES]
    if not spans:
        raise NoiseError("no QRS complex to measure the signal by")
    return _trimmed_mean(np.asarray([np.ptp(span) for span in spans]))


def noise_rms(noise: Signal, fs: float) -> float:
    """RMS amplitude second by second, a trimmed mean."""
    second = to_samples(1.0, fs)
    count = min(len(noise) // second, MEASURES)
    if count == 0:
        raise NoiseError("less than a second of noise cannot be measured")
    seconds = noise[: count * second].reshape(count, second)
    return _trimmed_mean(seconds.std(axis=1))


def _trimmed_mean(values: Signal) -> float:
    cut = len(values) // 20
    return float(np.sort(values)[cut : len(values) - cut].mean())


def _unit(noise: Signal, fs: float) -> Signal:
    rms = noise_rms(noise, fs)
    if not rms > 0:
        raise NoiseError("the noise has no power")
    return noise / rms


def _recorded(folder: Path, kind: str, n: int, fs: float) -> Signal:
    """The first signal of an nstdb record from its beginning, at rate ``fs``; where it is too short it is repeated."""
    record = import_module("wfdb").rdrecord(str(folder / kind), channels=[0])
    values = np.nan_to_num(np.asarray(record.p_signal[:, 0], np.float64))
    if abs(record.fs - fs) > 1e-9:
        values = np.asarray(
            import_module("scipy.signal").resample(values, round(len(values) * fs / record.fs)), np.float64
        )
    out = np.empty(n)
    at = last = 0.0
    done = 0
    while done < n:  # each time round begins where the last one left off, so that there is no jump
        take = min(n - done, len(values))
        at = last - values[0] if done else 0.0
        out[done : done + take] = values[:take] + at
        last = out[done + take - 1]
        done += take
    return out


def _shaped(n: int, fs: float, rng: np.random.Generator, gain: Callable[[Signal], Signal]) -> Signal:
    """Gaussian noise whose amplitude spectrum is ``gain`` of the frequency; unit standard deviation."""
    size = 1 << (n - 1).bit_length()  # whole powers of two: the FFT of an odd length may take very long
    spectrum = np.fft.rfft(rng.standard_normal(size))
    values = np.fft.irfft(spectrum * gain(np.asarray(np.fft.rfftfreq(size, 1 / fs), np.float64)), size)[:n]
    return np.asarray(values / values.std(), np.float64)


def _band(low: float, high: float) -> Callable[[Signal], Signal]:
    """Second-order slopes on either side."""
    return lambda f: (f / low) ** 2 / (1 + (f / low) ** 2) / (1 + (f / high) ** 2)


def _wander(n: int, fs: float, rng: np.random.Generator) -> Signal:
    rate: Signal = 0.27 + 0.05 * _shaped(n, fs, rng, _band(0.005, 0.05))
    depth = np.exp(0.4 * _shaped(n, fs, rng, _band(0.005, 0.05)))
    breathing = depth * np.sin(2 * np.pi * np.cumsum(np.maximum(rate, 0.1)) / fs)
    drift = _shaped(n, fs, rng, lambda f: (f > 0.01) / np.maximum(f, 0.01) / (1 + (f / 0.7) ** 4))
    return np.asarray(breathing + 1.5 * drift, np.float64)


def _muscle(n: int, fs: float, rng: np.random.Generator) -> Signal:
    bursts = np.exp(0.7 * _shaped(n, fs, rng, _band(0.02, 1.0)))
    return bursts * _shaped(n, fs, rng, _band(15.0, 60.0))


def _electrode_motion(n: int, fs: float, rng: np.random.Generator) -> Signal:
    restless = _shaped(n, fs, rng, _band(0.02, 0.15)) > -0.5
    out = 0.3 * _shaped(n, fs, rng, _band(0.5, 10.0))
    events = np.flatnonzero((rng.random(n) < 1.5 / fs) & restless)
    for start in events.tolist():
        rise = rng.uniform(0.02, 0.12)
        fall = rng.uniform(0.05, 0.5)
        size = rng.choice((-1.0, 1.0)) * rng.lognormal(0.0, 0.6)
        rebound = rng.uniform(0.0, 0.6)
        t = np.arange(min(n - start, to_samples(rise + 6 * fall, fs))) / fs
        up = np.where(t < rise, 0.5 - 0.5 * np.cos(np.pi * np.minimum(t / rise, 1.0)), 1.0)
        since = np.maximum(t - rise, 0.0) / fall
        out[start : start + len(t)] += size * up * np.exp(-since) * (1 - rebound * since)
    return out


_SYNTHETIC: dict[str, Callable[[int, float, np.random.Generator], Signal]] = {
    "bw": _wander,
    "ma": _muscle,
    "em": _electrode_motion,
}
