"""The least and the greatest sample of ever longer stretches: what a screen needs of hours of signal.

Level ``k`` has one bucket for every ``4**k`` samples. Levels 0 to 2 are read from the recording when they are asked for; the coarser
ones are computed once, in the background, into a file that is mapped. What is not computed yet is NaN, and said.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_agent.errors import OutputError
from edge_agent.journey import Samples
from edge_agent.review.waves import Waves

FINEST = 3
"""The first level that is kept."""
STEP = 4
TILE = 1024
"""Buckets of a tile."""
PIECE = STEP**FINEST * 4096
"""Samples that are read at a time."""


@dataclass(frozen=True, slots=True)
class Tile:
    low: Samples
    high: Samples
    whole: bool
    """false: some of it is not computed yet."""


class Pyramid:
    def __init__(self, waves: Waves, cache: Path) -> None:
        """``cache``: the file that it is kept in; an old one is used if it is of the right size and was completed."""
        self._waves = waves
        self._stop = threading.Event()
        channels, samples = len(waves.signals), waves.samples
        self._sizes: list[int] = []
        level = FINEST
        while not self._sizes or self._sizes[-1] > TILE:
            self._sizes.append(-(-samples // STEP**level))
            level += 1
        self.levels = level
        """Levels 0 to ``levels - 1`` can be asked for."""
        total = sum(self._sizes)
        shape = (channels, 2, total)
        done = cache.with_name(cache.name + ".done")
        try:
            cache.parent.mkdir(parents=True, exist_ok=True)
            kept = done.is_file() and cache.is_file() and cache.stat().st_size == 4 * channels * 2 * total
            self._kept = np.memmap(cache, np.float32, "r+" if kept else "w+", shape=shape)
            if not kept:
                done.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(
                f"{cache}: cannot be written ({error.strerror or error})", remedy="name another folder with --state"
            ) from None
        self._done_file = done
        self.reached = samples if kept else 0
        """Samples that the kept levels cover."""
        self._thread = threading.Thread(target=self._build, name="pyramid", daemon=True)
        if not kept:
            self._kept[:] = np.nan
            self._thread.start()

    @property
    def whole(self) -> bool:
        return self.reached >= self._waves.samples

    def wait(self, timeout_s: float) -> bool:
        """For tests and benchmarks."""
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return self.whole

    def _level(self, level: int) -> Samples:
        begin = sum(self._sizes[: level - FINEST])
        return self._kept[:, :, begin : begin + self._sizes[level - FINEST]]

    def _build(self) -> None:
        samples = self._waves.samples
        try:
            for first in range(0, samples, PIECE):
                if self._stop.is_set():
                    return
                low, high = self._waves.extremes(first, min(samples, first + PIECE), STEP**FINEST)
                for level in range(FINEST, self.levels):
                    if (
                        level > FINEST
                    ):  # a piece of the coarsest levels may be less than a bucket: it is joined to what was there
                        starts = np.arange(0, low.shape[1], STEP)
                        low, high = np.fmin.reduceat(low, starts, 1), np.fmax.reduceat(high, starts, 1)
                    at = first // STEP**level
                    place = self._level(level)[:, :, at : at + low.shape[1]]
                    np.fmin(place[:, 0], low, out=place[:, 0])
                    np.fmax(place[:, 1], high, out=place[:, 1])
                self.reached = min(samples, first + PIECE)
            self._kept.flush()
            self._done_file.touch()
        except OSError:  # the recording went away, or the disk is full: what there is stays, the rest is not there
            return

    def tile(self, level: int, index: int) -> Tile:
        """Buckets ``index * TILE`` onwards of a level; none beyond the end. ValueError for what there is not."""
        if not 0 <= level < self.levels:
            raise ValueError(f"level {level}: there are 0 to {self.levels - 1}")
        width = STEP**level
        count = -(-self._waves.samples // width)
        first, end = index * TILE, min(count, (index + 1) * TILE)
        if not 0 <= first < count:
            raise ValueError(f"tile {index}: level {level} has 0 to {(count - 1) // TILE}")
        if level == 0:
            x = self._waves.read(first, end)
            return Tile(x, x, True)
        if level < FINEST:
            low, high = self._waves.extremes(first * width, end * width, width)
            return Tile(low, high, True)
        whole = self.reached >= min(self._waves.samples, end * width)
        part = np.array(self._level(level)[:, :, first:end])
        return Tile(part[:, 0], part[:, 1], whole)

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5.0)
