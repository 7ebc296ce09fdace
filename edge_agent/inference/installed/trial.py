"""A newly activated model on trial: watched while it runs, and sent back by itself if it errs or is too slow.

It passes after so many answers, or after so long with at least one. An error of the engine fails it at once; its time does once
so many calls were over the limit that its 99th percentile must be.
"""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    windows: int
    seconds: float
    p99_ms: float
    starts: int
    """As many beginnings without a good end, and the next one goes back."""


@dataclass(frozen=True, slots=True)
class Outcome:
    passed: bool
    reason: str


class Trial:
    """``answer`` is called by the models' thread, after each call of the engine; ``outcome`` by the one that watches."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self._clock = clock
        self._began = clock()
        self._times_us = array("f")
        self._over = 0
        self._error: str | None = None
        self._may_be_over = limits.windows - _rank(limits.windows)

    @property
    def windows(self) -> int:
        """Answered so far."""
        return len(self._times_us)

    def answer(self, error: str | None, invoke_us: float) -> None:
        if error is not None:
            self._error = self._error or error.splitlines()[0]
        elif len(self._times_us) < self.limits.windows:
            self._over += invoke_us > self.limits.p99_ms * 1000
            self._times_us.append(invoke_us)

    def outcome(self) -> Outcome | None:
        """None while it goes on."""
        if self._error is not None:
            return Outcome(False, self._error)
        limit, done = self.limits, self.windows
        if self._over > self._may_be_over:
            return Outcome(False, f"{self._over} of {done} calls took longer than {limit.p99_ms:g} ms")
        long_enough = self._clock() - self._began >= limit.seconds
        if done < limit.windows and not (long_enough and done):
            return None
        p99_ms = sorted(self._times_us)[_rank(done) - 1] / 1000
        if p99_ms > limit.p99_ms:
            return Outcome(False, f"99th percentile of {done} calls is {p99_ms:.3g} ms, over {limit.p99_ms:g}")
        return Outcome(True, f"{done} windows, 99th percentile {p99_ms:.3g} ms")


def _rank(many: int) -> int:
    """Of the 99th percentile, nearest rank, from 1."""
    return math.ceil(many * 99 / 100)
