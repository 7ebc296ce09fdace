"""Noise of the usual kinds, each of unit power, so that a signal-to-noise ratio is a factor and nothing more.

Every kind is a function of the sample's index: nothing is carried from chunk to chunk.
"""

from __future__ import annotations

import math

import numpy as np

from edge_agent.sources.simulated.bits import Floats, normals, stream_key, uniform, uniforms

_CELL_S = 1.2
"""Electrode motion: one disturbance in each stretch of this length."""
_REACH_S = 2.0
"""How far one disturbance can be felt."""


class Noise:
    """The noise sources of one channel."""

    def __init__(self, seed: int, channel: str, fs: float, mains_hz: float) -> None:
        self._fs = fs
        self._white = stream_key(seed, f"white {channel}")
        self._muscle = stream_key(seed, f"muscle {channel}")
        self._motion = stream_key(seed, f"motion {channel}")
        self._floor = stream_key(seed, f"floor {channel}")
        key = stream_key(seed, f"slow {channel}")
        # Wander: breathing and posture, .05 to .5 Hz, the slower the larger (power as 1/f).
        hz = np.array([0.05 * 10.0 ** ((n + uniform(key, n)) / 6.0) for n in range(6)])
        size = 1.0 / np.sqrt(hz)
        self._wander_hz = hz
        self._wander_size = size * math.sqrt(2.0 / float(np.sum(size**2)))
        self._wander_turn = np.array([2.0 * math.pi * uniform(key, 20 + n) for n in range(6)])
        # The mains are never at their frequency: 20 mHz off, the phase against the samples drifts.
        self._mains_hz = mains_hz + 0.02 + 0.02 * uniform(key, 40)
        self._mains_turn = 2.0 * math.pi * uniform(key, 41)
        self._bursts = [(0.07 + 0.3 * uniform(key, 50 + n), 2.0 * math.pi * uniform(key, 60 + n)) for n in range(3)]
        # Muscle: white noise less its Gaussian smooth, a high pass near 20 Hz.
        sigma = 0.008 * fs
        reach = max(2, math.ceil(3.0 * sigma))
        bell = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
        taps = -bell / bell.sum()
        taps[reach] += 1.0
        self._taps = taps / math.sqrt(float(np.sum(taps**2)))

    def floor(self, first: int, count: int) -> Floats:
        """The amplifier's own white noise, apart from what a script asks for."""
        return normals(self._floor, first, count)

    def make(self, kind: str, first: int, count: int) -> Floats:
        """`count` samples of `kind` from index `first`, of unit power."""
        if kind == "white":
            return normals(self._white, first, count)
        if kind == "muscle":
            return self._make_muscle(first, count)
        if kind == "motion":
            return self._make_motion(first, count)
        t = np.arange(first, first + count) / self._fs
        if kind == "wander":
            out = np.zeros(count)
            for hz, size, turn in zip(self._wander_hz, self._wander_size, self._wander_turn, strict=True):
                out += size * np.sin(2.0 * math.pi * hz * t + turn)
            return out
        if kind == "mains":
            angle = 2.0 * math.pi * self._mains_hz * t + self._mains_turn
            # The third harmonic at a fifth of the amplitude.
            return np.asarray(math.sqrt(2.0 / 1.04) * (np.sin(angle) + 0.2 * np.sin(3.0 * angle)))
        raise ValueError(f"noise {kind!r} is not known")

    def _make_muscle(self, first: int, count: int) -> Floats:
        reach = len(self._taps) // 2
        raw = normals(self._muscle, first, count + 2 * reach)  # index shifted by the reach: noise has no epoch
        t = np.arange(first, first + count) / self._fs
        # Effort comes and goes: the mean square of 1 + sum(a sin) is 1 + sum(a^2) / 2.
        effort = 1.0 + sum(0.3 * np.sin(2.0 * math.pi * hz * t + turn) for hz, turn in self._bursts)
        return np.asarray(np.convolve(raw, self._taps, mode="valid") * effort / math.sqrt(1.0 + 3 * 0.09 / 2.0))

    def _make_motion(self, first: int, count: int) -> Floats:
        """Bumps and steps that decay, of the size and width of QRS and T waves (nstdb's `em`)."""
        fs = self._fs
        t = np.arange(first, first + count) / fs
        begin = max(0, math.floor((t[0] - _REACH_S) / _CELL_S)) if count else 0
        end = math.floor((t[-1] + 0.5) / _CELL_S) + 1 if count else 0
        draws = uniforms(self._motion, 4 * begin, 4 * (end - begin)).reshape(-1, 4)
        out = np.zeros(count)
        for cell in range(begin, end):
            place, size, width, sign = (float(draw) for draw in draws[cell - begin])
            at_s = (cell + place) * _CELL_S
            width_s = 0.03 * 8.0**width  # 30 to 240 ms
            step = size < 0.4
            reach = _REACH_S if step else 4.0 * width_s
            low = max(0, math.ceil((at_s - 4.0 * width_s if not step else at_s) * fs) - first)
            high = min(count, math.ceil((at_s + reach) * fs) - first)
            if high <= low:
                continue
            apart = t[low:high] - at_s
            # Every disturbance has the same energy, so the power holds over a few cells.
            if step:
                tail = 2.5 * width_s
                shape = (1.0 - np.exp(-apart / 0.02)) * np.exp(-apart / tail)
                energy = tail / 2.0 - 2.0 / (1.0 / 0.02 + 2.0 / tail) + 1.0 / (2.0 / 0.02 + 2.0 / tail)
            else:
                shape = np.exp(-0.5 * (apart / width_s) ** 2)
                energy = width_s * math.sqrt(math.pi)
            out[low:high] += math.copysign(math.sqrt(_CELL_S / energy), sign - 0.5) * shape
        return out
