"""From a sample's index to the time of day.

The sample index is the stream's clock. It is anchored to the monotonic clock (which no one steps), and that to UTC only at
the moment of saying so: a step of UTC moves the times of day, never an interval.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


def utc_of_monotonic(ns: int) -> datetime:
    """The UTC time of a moment on the monotonic clock, by what both clocks say now."""
    age_us = (time.monotonic_ns() - ns) / 1000
    return datetime.now(UTC) - timedelta(microseconds=age_us)


class StreamClock(Protocol):
    """When a sample was taken."""

    def arrived(self, end: int, ns: int) -> None:
        """The block that ends before sample ``end`` arrived at ``ns`` (monotonic)."""

    def restart(self) -> None:
        """The source was away."""

    def utc(self, sample: int) -> datetime | None: ...

    @property
    def measured_fs(self) -> float | None: ...


class RecordedClock:
    """A recording's own date, or none."""

    measured_fs: float | None = None

    def __init__(self, fs: float, began: datetime | None) -> None:
        self._fs = fs
        self._began = began

    def arrived(self, end: int, ns: int) -> None:
        pass

    def restart(self) -> None:
        pass

    def utc(self, sample: int) -> datetime | None:
        return None if self._began is None else self._began + timedelta(seconds=sample / self._fs)


class LiveClock:
    """Anchored to arrivals. Of all arrivals in a stretch the earliest is the least delayed: its offset is the anchor.

    Each stretch of ``STRETCH_S`` gives one such offset; the measured rate is the slope through them, so that a board whose
    crystal is off by 2 % is reported and its times of day do not run away.
    """

    STRETCH_S = 10.0
    TRUSTED_AFTER_S = 30.0
    ROUGH_AFTER_S = 2.0

    def __init__(self, fs: float, speed: float = 1.0, delay_s: float = 0.0) -> None:
        """``speed``: seconds of signal per second, for a recording or a simulation that runs faster than life;
        ``delay_s``: by which the board's own filters had delayed the samples before they were sent."""
        self._fs = fs * speed
        self._speed = speed
        self._delay_ns = int(delay_s / speed * 1e9)
        self._offset_ns: float | None = None  # monotonic time of sample 0 as the current stretch shows it
        self._stretch_end_ns = 0
        self._best: tuple[float, int, int] | None = None  # offset, end, ns of the stretch's least delayed arrival
        self._first_anchor: tuple[int, int] | None = None
        self._last_anchor: tuple[int, int] | None = None
        self._rough_from: tuple[int, int] | None = None
        self.rough_fs: float | None = None
        """What came between ``ROUGH_AFTER_S`` (after a start's backlog) and the end of the first stretch: good to some percent."""

    def arrived(self, end: int, ns: int) -> None:
        offset = ns - end / self._fs * 1e9
        if self._offset_ns is None:
            self._offset_ns = offset
            self._stretch_end_ns = ns + int(self.STRETCH_S * 1e9)
        if self._best is None or offset < self._best[0]:
            self._best = (offset, end, ns)
        self._offset_ns = min(self._offset_ns, offset)  # no sample is taken after it has arrived
        if self._rough_from is None and ns >= self._stretch_end_ns - (self.STRETCH_S - self.ROUGH_AFTER_S) * 1e9:
            self._rough_from = (end, ns)
        if ns >= self._stretch_end_ns:
            if self.rough_fs is None and self._rough_from is not None and ns > self._rough_from[1]:
                samples, passed_s = end - self._rough_from[0], (ns - self._rough_from[1]) * 1e-9
                self.rough_fs = samples / passed_s / self._speed
            self._offset_ns = self._best[0]
            anchor = (self._best[1], self._best[2])
            if self._first_anchor is None:
                self._first_anchor = anchor
            self._last_anchor = anchor
            self._best = None
            self._stretch_end_ns = ns + int(self.STRETCH_S * 1e9)

    def restart(self) -> None:
        """The source was away: how many samples it missed is an estimate, and nothing is measured across it."""
        self._offset_ns = None
        self._best = self._first_anchor = self._last_anchor = None
        self._rough_from = None

    def utc(self, sample: int) -> datetime | None:
        if self._offset_ns is None:
            return None
        return utc_of_monotonic(int(self._offset_ns + sample / self._fs * 1e9) - self._delay_ns)

    @property
    def measured_fs(self) -> float | None:
        if self._first_anchor is None or self._last_anchor is None:
            return None
        samples = self._last_anchor[0] - self._first_anchor[0]
        seconds = (self._last_anchor[1] - self._first_anchor[1]) * 1e-9
        return samples / seconds / self._speed if seconds >= self.TRUSTED_AFTER_S else None
