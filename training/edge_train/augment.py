"""Other hearts, electrodes, amplifiers and observers than MIT-BIH's, made from its beats: windows of one training epoch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_train.data import BEAT, PAST, WIDE_BEAT, WIDE_PAST, Beats, Floats, Stretch

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Strength:
    """How often, and how much."""

    warp: float = 0.08
    """Standard deviation of the logarithm of time stretched."""
    jitter_s: float = 0.008
    """Standard deviation of the R position; one in ten is off by up to five times that, as detectors are."""
    flip: float = 0.08
    """Share of windows turned upside down: leads swapped, or leads that look that way."""
    lowpass: float = 0.3
    noise: float = 0.4
    hum: float = 0.15
    wander: float = 0.4
    rr_dropout: float = 0.3
    """Share of beats whose RR features are 0 (history too short): shape alone must do then, as in a run of wide beats."""
    past_dropout: float = 0.2
    """Share of beats whose past is blank, for the same reason."""


NONE = Strength(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def _chosen(rng: np.random.Generator, n: int, share: float) -> Mask:
    return np.asarray(rng.random(n) < share)


def windows(beats: Beats, rng: np.random.Generator, how: Strength) -> tuple[Floats, Floats]:
    """Augmented and z-scored windows (beat, past) out of wide ones; both are warped, shifted and turned alike."""
    n = len(beats)
    stretch = np.exp(np.clip(rng.normal(0, how.warp, n), -0.2, 0.2))
    shift_s = rng.normal(0, how.jitter_s, n)
    wild = _chosen(rng, n, 0.1)
    shift_s[wild] = rng.uniform(-5, 5, int(wild.sum())) * how.jitter_s
    sign = np.where(_chosen(rng, n, how.flip), -1, 1).astype(np.float32)[:, None]
    made = []
    for x, wide, narrow in ((beats.wide, WIDE_BEAT, BEAT), (beats.past, WIDE_PAST, PAST)):
        disturbed = _disturb(x * sign, wide.rate_hz, rng, how)
        made.append(zscore(_resample(disturbed, wide, narrow, stretch, shift_s)))
    made[1][_chosen(rng, n, how.past_dropout)] = 0
    return made[0], made[1]


def _disturb(x: Floats, rate_hz: float, rng: np.random.Generator, how: Strength) -> Floats:
    n = x.shape[0]
    spread = x.std(axis=1, keepdims=True)
    for share, change in ((how.wander, _wander), (how.noise, _noise), (how.hum if rate_hz > 120 else 0.0, _hum)):
        mask = _chosen(rng, n, share)
        if mask.any():
            x[mask] += spread[mask] * change(int(mask.sum()), x.shape[1], rate_hz, rng)
    mask = _chosen(rng, n, how.lowpass if rate_hz > 120 else 0.0)
    if mask.any():
        x[mask] = _lowpass(x[mask], rate_hz, rng)
    return x


def _resample(
    x: Floats, wide: Stretch, narrow: Stretch, stretch: NDArray[np.float64], shift_s: NDArray[np.float64]
) -> Floats:
    place = (
        wide.before
        + shift_s[:, None] * wide.rate_hz
        + (np.arange(narrow.samples) - narrow.before)[None, :] * stretch[:, None]
    )
    place = np.clip(place, 0, wide.samples - 1.001)
    low = place.astype(np.intp)
    part = (place - low).astype(np.float32)
    left = np.take_along_axis(x, low, axis=1)
    right = np.take_along_axis(x, low + 1, axis=1)
    return np.asarray(left + (right - left) * part, np.float32)


def zscore(x: Floats) -> Floats:
    """As edge_agent.signal.windows.normalise, many windows at once (a test holds the two together)."""
    spread = x.std(axis=1, keepdims=True)
    centred = x - x.mean(axis=1, keepdims=True)
    return np.where(spread > 0, centred / np.where(spread > 0, spread, 1), 0).astype(np.float32)


def _wander(n: int, samples: int, rate_hz: float, rng: np.random.Generator) -> Floats:
    t = np.arange(samples) / rate_hz
    wave = np.sin(2 * np.pi * (rng.uniform(0.05, 0.6, (n, 1)) * t + rng.random((n, 1))))
    slope = rng.normal(0, 0.3, (n, 1)) * (t - t.mean())
    return np.asarray(rng.uniform(0.1, 1.0, (n, 1)) * wave + slope, np.float32)


def _noise(n: int, samples: int, _: float, rng: np.random.Generator) -> Floats:
    """White, or muscle-like (smoothed over some samples)."""
    white = rng.normal(0, 1, (n, samples)).astype(np.float32)
    smooth = (white + np.roll(white, 1, 1) + np.roll(white, 2, 1)) / np.float32(np.sqrt(3))
    soft = _chosen(rng, n, 0.5)
    white[soft] = smooth[soft]
    return white * np.exp(rng.uniform(np.log(0.02), np.log(0.3), (n, 1))).astype(np.float32)


def _hum(n: int, samples: int, rate_hz: float, rng: np.random.Generator) -> Floats:
    t = np.arange(samples) / rate_hz
    mains_hz = np.where(rng.random((n, 1)) < 0.5, 50.0, 60.0)
    wave = np.sin(2 * np.pi * (mains_hz * t + rng.random((n, 1))))
    return (rng.uniform(0.02, 0.15, (n, 1)) * wave).astype(np.float32)


def _lowpass(x: Floats, rate_hz: float, rng: np.random.Generator) -> Floats:
    """A Gaussian low-pass between 20 and 60 Hz: monitors' filters, and boards that sample at 125 Hz."""
    hz = np.fft.rfftfreq(x.shape[1], 1 / rate_hz)
    cutoff = rng.uniform(20, 60, (x.shape[0], 1))
    return np.asarray(
        np.fft.irfft(np.fft.rfft(x, axis=1) * np.exp(-0.35 * (hz / cutoff) ** 2), x.shape[1], axis=1), np.float32
    )


def drop_features(features: Floats, rng: np.random.Generator, how: Strength) -> Floats:
    kept = ~_chosen(rng, features.shape[0], how.rr_dropout)
    return features * kept[:, None].astype(np.float32)
