"""The half-second grid on which quality is judged, and the window that it looks back on.

Everything that a quality measures is measured on a window of fixed extent that ends on the grid, never carried along as a running
sum: what a running sum rounds to would depend on where the blocks were cut.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

TICK_S = 0.5
WILD = 1e6  # beyond this a value is a fault of the source, whatever the unit


class GridWindow:
    """The last stretch of one channel, handed out whenever a grid point (a multiple of half a second) is passed."""

    def __init__(self, fs: float, window_s: float, first: int) -> None:
        self.fs = fs
        self.length = round(window_s * fs)
        self._buffer = np.empty(3 * self.length + math.ceil(fs), np.float64)
        self.reset(first)

    def reset(self, first: int) -> None:
        self.next = first
        self._start = first
        self._filled = 0
        self._off_until = first - self.length
        self._tick = math.floor(first / (TICK_S * self.fs)) + 1

    def feed(self, x: NDArray[np.float32], lead_off: bool) -> Iterator[tuple[int, NDArray[np.float64], bool]]:
        """(index after the window, the window, whether the lead was off within it) at each grid point that ``x`` passes.

        ``x`` begins at ``next``. The window is a view that lasts until the next step of the iteration.
        """
        length, buffer = self.length, self._buffer
        done = 0
        while done < len(x):
            end = self._tick_end()
            piece = x[done : done + end - self.next]
            if self._filled + len(piece) > len(buffer):
                keep = min(self._filled, length)
                buffer[:keep] = buffer[self._filled - keep : self._filled].copy()
                self._filled = keep
            buffer[self._filled : self._filled + len(piece)] = piece
            self._filled += len(piece)
            self.next += len(piece)
            done += len(piece)
            if lead_off:
                self._off_until = self.next
            if self.next == end:
                self._tick += 1
                if end - self._start >= length:
                    yield end, buffer[self._filled - length : self._filled], self._off_until > end - length

    def _tick_end(self) -> int:
        return round(self._tick * TICK_S * self.fs)


def mended(window: NDArray[np.float64], most: float) -> NDArray[np.float64] | None:
    """The window with its few missing values drawn straight across; None if more than ``most`` of it is missing."""
    if float(window.min()) > -WILD and float(window.max()) < WILD:  # both are NaN where a value is
        return window
    bad = ~(np.abs(window) < WILD)
    if np.count_nonzero(bad) > most * len(window):
        return None
    at = np.arange(len(window))
    good = ~bad
    return np.interp(at, at[good], window[good])


def moving_mean(x: NDArray[np.float64], width: int, sums: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Means over ``width`` neighbours, only where all of them exist: ``len(x) - width + 1`` values. ``sums``: x's, if at hand."""
    if sums is None:
        sums = np.cumsum(x)
    out = sums[width - 1 :] * (1.0 / width)
    out[1:] -= sums[:-width] * (1.0 / width)
    return out


def longest_run(mask: NDArray[np.bool_]) -> int:
    """Length of the longest stretch of True."""
    starts, ends = runs(mask)
    return int((ends - starts).max()) if len(starts) else 0


def runs(mask: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where the stretches of True begin, and the index after each."""
    padded = np.zeros(len(mask) + 2, np.bool_)
    padded[1:-1] = mask
    edges = (padded[1:] != padded[:-1]).nonzero()[0]
    return edges[::2], edges[1::2]


def root_mean_square(x: NDArray[np.float64]) -> float:
    return math.sqrt(float(np.dot(x, x)) / len(x))
