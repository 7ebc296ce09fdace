"""Cutting a model's window out of the signal: resampled to its rate, normalised as its manifest says.

A window's grid is fixed relative to its anchor, so the resampling filter (windowed sinc, cut off below the lower of the
two rates) is worked out once per channel as one small table: a gather and a dot product per window.

A sum in single precision depends on its order; the orders here are numpy's own (of 2.4 on x86-64, without fused operations),
kept so that every machine, and training, cuts the same window from the same signal.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edge_agent.journey import Samples

KERNEL = True
"""Whether the compiled kernel is there (``_window.c``). It gives the bits of the plain Python below, which is the specification."""
try:
    from edge_agent.signal._kernel import mean_rows, resample
    from edge_agent.signal._kernel import normalise as normalise_compiled
except ImportError:  # no compiler where it was installed
    KERNEL = False

HALF_WIDTH = 8
"""Zero crossings of the sinc on either side: ripple under 1 %, 22 ms of look-ahead at 360 Hz."""


class Cutter:
    """Cuts windows of ``samples`` at ``rate_hz``, ``before`` of them before the anchor, from a channel of rate ``fs``."""

    def __init__(
        self, *, fs: float, rate_hz: float, samples: int, before: int, normalisation: str, compiled: bool = KERNEL
    ) -> None:
        self.normalisation = normalisation
        self._compiled = compiled
        self.first, self._index, self._weights = _table(rate_hz, samples, before, fs)
        self.end = self.first + int(self._index.max()) + 1
        """Index after the last source sample needed, relative to the anchor."""

    @property
    def length(self) -> int:
        """Source samples needed."""
        return self.end - self.first

    def cut(self, x: Samples) -> Samples | None:
        """``x`` holds the source samples first..end around the anchor; None if any is not a number."""
        if self._weights is not None and self._compiled:
            window = np.empty(len(self._index), np.float32)
            if not resample(np.ascontiguousarray(x, np.float32), self._index, self._weights, window):
                return None
        else:
            with np.errstate(invalid="ignore"):  # infinity less infinity
                if not math.isfinite(float(x.sum(dtype=np.float64))):  # cheaper than isfinite().all()
                    return None
            if self._weights is None:
                window = x[: len(self._index)].astype(np.float32)
            else:
                window = _dot(x.astype(np.float32, copy=False)[self._index], self._weights)
        return normalise(window, self.normalisation, compiled=self._compiled)


def _dot(x: Samples, weights: Samples) -> Samples:
    """The sum of each row of ``x * weights``: four sums side by side, blocks of sixteen from their end."""
    many, taps = x.shape
    product = np.zeros((many, -(-taps // 4), 4), np.float32)
    product.reshape(many, -1)[:, :taps] = x * weights
    sums = np.zeros((many, 4), np.float32)
    whole = taps // 16 * 4
    for block in range(0, whole, 4):
        for part in (3, 2, 1, 0):
            sums = product[:, block + part] + sums
    for part in range(whole, product.shape[1]):
        sums = product[:, part] + sums
    return np.asarray((sums[:, 0] + sums[:, 1]) + (sums[:, 2] + sums[:, 3]), np.float32)


_COMPILED_HOW = {"zscore": 0, "minmax": 1, "usual": 2}


def normalise(
    window: Samples,
    how: str,
    usual: Samples | None = None,
    *,
    scale: float = 1.0,
    offset: float = 0.0,
    compiled: bool = KERNEL,
) -> Samples:
    """As the manifest's ``normalisation`` says; a window without any variation becomes zeros.

    ``usual``: the patient's usual beat on the same grid, where there is one. ``scale`` and ``offset``: of ``fixed``.
    """
    if how == "none":
        return window
    if compiled and how in _COMPILED_HOW and window.dtype == np.float32 and window.flags.c_contiguous:
        out: Samples = np.empty_like(window)
        normalise_compiled(window, _COMPILED_HOW[how], usual, out)
        return out
    if how == "fixed":
        return (window - np.float32(offset)) * np.float32(scale)
    if how == "centre":
        return window - np.float32(np.median(window))
    if how == "usual":
        spread = np.float32((window if usual is None else usual).std())
        if not spread > 0:
            spread = np.float32(window.std())
        centre = np.float32(window.mean())
    elif how == "zscore":
        spread = np.float32(window.std())
        centre = np.float32(window.mean())
    else:  # minmax
        centre = np.float32(window.min())
        spread = np.float32(window.max()) - centre
    if not spread > 0:
        return np.zeros_like(window)
    return (window - centre) / spread


def mean_of(rows: Samples, many: int, *, compiled: bool = KERNEL) -> Samples:
    """The mean of the first ``many`` rows."""
    if compiled:
        out: Samples = np.empty(rows.shape[1], np.float32)
        mean_rows(rows, many, out)
        return out
    return np.asarray(rows[:many].mean(axis=0))


@lru_cache(maxsize=64)
def _table(rate_hz: float, samples: int, before: int, fs: float) -> tuple[int, NDArray[np.int32], Samples | None]:
    """(first source sample relative to the anchor, gather indices, weights); weights None when the rates agree."""
    if rate_hz == fs:
        return -before, np.arange(samples, dtype=np.int32), None
    position = (np.arange(samples) - before) * (fs / rate_hz)
    cutoff = min(1.0, rate_hz / fs)  # of the source's Nyquist frequency
    half = HALF_WIDTH / cutoff
    start = np.ceil(position - half).astype(np.intp)
    taps = math.floor(2 * half) + 1
    offset = start[:, None] + np.arange(taps)[None, :]
    distance = offset - position[:, None]
    inside = np.abs(distance) < half
    taper = np.where(inside, 0.5 + 0.5 * np.cos(np.pi * distance / half), 0.0)  # Hann
    weights = np.sinc(distance * cutoff) * taper
    weights /= weights.sum(axis=1, keepdims=True)  # a constant stays that constant
    felt = offset[np.abs(weights) > 1e-9]  # waiting for a tap that weighs nothing would be delay for nothing
    offset = np.clip(offset, felt.min(), felt.max())
    first = int(offset.min())
    return first, (offset - first).astype(np.int32), weights.astype(np.float32)
