"""What a pressure line is worth, twice a second, with the reason when it is worth little.

Measured on the last two seconds, and against the patient's own last minutes where a number means nothing by itself:

``lead_off``
    flagged by the source.
``missing``
    a twentieth of the window has no value, and nothing is said to be off.
``calibration``
    still, and at about zero: the transducer is open to air. Or a pulse that reaches below zero, which no artery's does: its zero is wrong.
``flat``
    does not move at all; or hardly moves at a pressure that cannot stand still: without a heartbeat an arterial pressure runs
    off within seconds, so a line that stays at 80 mmHg is a closed stopcock. A line that has *fallen* and lies still at 20 mmHg is not
    called flat unless it does not move at all.
``clipped``
    the window's greatest or least value is held as no pulse holds it.
``damped``
    pulse pressure and upstroke have shrunk together against the last minutes, the upstroke more, **and the mean has stayed**: a clot,
    a kink or a bubble takes the pulse, its edges first, and leaves the mean. A pulse that the patient makes smaller rises as fast for
    its size as before. The last minutes are not enough where the pressure has just changed by itself, so the last twenty seconds are
    asked as well; and where neither knows the present mean, the upstroke's part of the pulse alone decides, which a damped line
    loses at any pressure. But where the mean has fallen low, the patient's circulation is failing and the line is right.
``flush``
    a plateau far above the patient's systolic pressure, without pulses: the valve to the pressure bag is open. The height alone says
    nothing, for a patient's pressure may jump by as much; then it pulses.
``drift``
    the whole pulse moves by more than 25 mmHg within twenty seconds, both edges alike. (A transducer's slow drift, some mmHg an hour,
    cannot be told from the patient.)
``noise``
    what is faster than a pulse has edges, against the pulse pressure; or most pulses of the last seconds break jSQI's rule of slopes or
    of rate.

A pleth has no unit and no meaningful level: ``calibration``, ``flush`` and ``damped`` do not exist for it, and what is still is judged
against its own usual pulse.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_agent.journey import Pulse, Quality
from edge_agent.signal.quality_grid import TICK_S, GridWindow, longest_run, mended, moving_mean, root_mean_square, runs

WINDOW_S = 2.0
MOST_MISSING = 0.05
ZERO_MMHG = 6.0
STILL_MMHG = 1.5
STANDING_MMHG = 30.0
WEAK_MMHG = 6.0
RAIL_S = 0.1
TOP_S = 0.08
TOP_PART = 0.015
TOP_MMHG = 0.75
TOP_MOST = 0.03  # a pulse of 12 mmHg is within .75 of its peak for 80 ms by itself
BELOW_MMHG = 5.0  # under zero
STEEP_PART = 0.15
DAMPED_PULSE = 0.5
DAMPED_SLOPE = 0.45
DAMPED_LEAST = 0.7  # at most so much of the pulse is left; damping takes the upstroke first, and more of it
KEPT_MMHG = 12.0
KEPT_PART = 0.15
ROUNDED = 1.25  # so many times less of the pulse is in its steepest 40 ms than was: where the mean stayed,
ROUNDED_ALONE = 1.8  # and where nothing else tells (of the Challenge's good windows 1 % have more than 1.4)
LOW_MMHG = 65.0
FLUSH_ABOVE_MMHG = 50.0
FLUSH_MMHG = 250.0
FLUSH_S = 0.5
FLUSH_FLAT_MMHG = 15.0  # more than a blocked line lets through, and less than any pulse that is one (jSQI: 20)
FLUSH_BIN_S = 0.02
DRIFT_MMHG = 25.0
DRIFT_S = 20.0
DRIFT_UNLIKE_MMHG = 4.0
NOISE_PART = 0.05
PULSES_S = 5.0
BASELINE_S = 180.0
LATELY_S = 20.0
BASELINE_LEAST_S = 15.0
GIVE_IN_S = 600.0
UPSTROKE_S = 0.04


class PressureQuality:
    """Judges one line on the half-second grid; says nothing of the first two seconds."""

    def __init__(self, fs: float, channel: str, kind: Literal["abp", "pleth"] = "abp", first: int = 0) -> None:
        self.fs = fs
        self.channel = channel
        self.kind = kind
        self._window = GridWindow(fs, WINDOW_S, first)
        self.reset(first)

    def reset(self, first: int) -> None:
        """Begin anew at ``first``."""
        self._window.reset(first)
        self._pulses: deque[Pulse] = deque(maxlen=32)
        # (pulse pressure, upstroke, mean, highest) of good windows, two a second
        self._baseline: deque[tuple[float, float, float, float]] = deque(maxlen=round(BASELINE_S / TICK_S))
        self._usual: tuple[float, float, float, float] | None = None
        self._lately: tuple[float, float, float, float] | None = None
        self._since_usual = 0
        self._course: deque[tuple[float, float, float]] = deque(maxlen=round(DRIFT_S / TICK_S) + 1)
        self._ticks_damped = 0

    def feed(self, x: NDArray[np.float32], first: int, lead_off: bool, pulses: Sequence[Pulse]) -> list[Quality]:
        """Qualities for the grid points in this block; ``pulses`` are those that this very block made known."""
        if first != self._window.next:
            self.reset(first)
        out: list[Quality] = []
        waiting = deque(pulses)
        for end, window, off in self._window.feed(x, lead_off):
            while waiting and waiting[0].known < end:
                self._pulses.append(waiting.popleft())
            reasons, score = self._judge(end, window, off)
            out.append(Quality(self.channel, end - self._window.length, end, end - 1, score, tuple(reasons)))
        self._pulses.extend(waiting)
        return out

    def _judge(self, end: int, window: NDArray[np.float64], off: bool) -> tuple[list[str], float]:
        w = None if off else mended(window, MOST_MISSING)
        if w is None:
            self._course.clear()
            return ["lead_off" if off else "missing"], 0.0
        high, low = float(w.max()), float(w.min())
        mean = float(w.sum()) / len(w)
        size = high - low
        lag = max(1, round(UPSTROKE_S * self.fs))
        upstroke = float((w[lag:] - w[:-lag]).max())
        still = self._still(w, size, mean, low)
        if still:
            self._course.clear()
            return [still], 0.0
        # Each is a fault when it reaches 1; the score falls from 1 as the worst of them rises.
        faults = {
            "clipped": self._clipped(w, high, low),
            "noise": max(self._noise(w, size), self._bad_pulses(end)),
            "drift": self._drift(high, low, upstroke),
        }
        if self.kind == "abp":
            faults["calibration"] = self._below(w, low)
            faults["flush"] = self._flush(w, high, low)
            faults["damped"] = self._damped(w, size, upstroke, mean)
            if faults["damped"] >= 1.0:
                self._ticks_damped += 1
                if self._ticks_damped * TICK_S >= GIVE_IN_S:  # by now this is what the line is like
                    self._baseline.clear()
                    self._usual = self._lately = None
                    self._ticks_damped = 0
            else:
                self._ticks_damped = 0
        reasons = [name for name, value in faults.items() if value >= 1.0]
        if not reasons:
            self._remember(size, upstroke, mean, high)
        score = round(max(0.0, 1.0 - 0.5 * max(faults.values())), 3)
        return reasons, score

    def _remember(self, size: float, upstroke: float, mean: float, high: float) -> None:
        if self.kind == "abp" and size < WEAK_MMHG:
            return  # nothing of a patient's usual pulse is to be learned while there is none
        self._baseline.append((size, upstroke, mean, high))
        self._since_usual += 1
        if len(self._baseline) >= BASELINE_LEAST_S / TICK_S and (self._usual is None or self._since_usual >= 10):
            self._since_usual = 0
            good = np.array(self._baseline)
            size, upstroke, mean, high = np.median(good, axis=0).tolist()
            self._usual = (size, upstroke, mean, high)
            size, upstroke, mean, high = np.median(good[-round(LATELY_S / TICK_S) :], axis=0).tolist()
            self._lately = (size, upstroke, mean, high)

    def _still(self, w: NDArray[np.float64], size: float, mean: float, low: float) -> str | None:
        if self.kind == "pleth":  # a pulse that has gone leaves noise; an input that has gone leaves nothing
            usual = 0.0 if self._usual is None else self._usual[0]
            return "flat" if size <= 0.001 * usual else None
        if abs(mean) < ZERO_MMHG and size < ZERO_MMHG:
            return "calibration"
        second = w[-round(self.fs) :]
        if size <= FLUSH_FLAT_MMHG and low > self._flush_limit():
            return "flush"
        if float(second.max() - second.min()) == 0.0 or (size < STILL_MMHG and mean > STANDING_MMHG):
            return "flat"
        return None

    def _clipped(self, w: NDArray[np.float64], high: float, low: float) -> float:
        """How long the extreme is held, in parts of what no pulse does."""
        least = max(4.0, RAIL_S * self.fs)
        longest = 0
        for held in (w >= high, w <= low):
            if np.count_nonzero(held) >= least / 2:
                longest = max(longest, longest_run(held))
        worst = longest / least if longest > 2 else 0.0
        # A rail with some noise after it: entered steeply, as a rounded peak never is.
        size = high - low
        least_near = min(TOP_MMHG, TOP_MOST * size) if self.kind == "abp" and size > WEAK_MMHG else 0.0
        near = max(TOP_PART * size, least_near)
        starts, ends = runs(w >= high - near)
        before = round(UPSTROKE_S * self.fs)
        for a, b in zip(starts.tolist(), ends.tolist(), strict=True):
            if b - a >= TOP_S * self.fs and a >= before and w[a] - w[a - before] > STEEP_PART * size:
                worst = max(worst, (b - a) / (TOP_S * self.fs))
        return worst

    def _noise(self, w: NDArray[np.float64], size: float) -> float:
        width = max(3, round(0.048 * self.fs) | 1)
        smooth = moving_mean(moving_mean(w, width), width)
        fast = w[width - 1 : width - 1 + len(smooth)] - smooth
        # Where the pulse has gone, what is left is not noise because it is little.
        usual = 0.0 if self._usual is None else self._usual[0]
        least = WEAK_MMHG * 2.0 if self.kind == "abp" else 1e-9
        return root_mean_square(fast) / (NOISE_PART * max(size, 0.3 * usual, least))

    def _bad_pulses(self, end: int) -> float:
        since = end - round(PULSES_S * self.fs)
        recent = [p for p in self._pulses if p.known >= since]
        bad = sum(
            1 for p in recent if any(r in ("ragged", "rate_range") and p.rate_per_min is not None for r in p.reasons)
        )
        return 2.0 * bad / len(recent) if len(recent) >= 3 else 0.0

    def _drift(self, high: float, low: float, upstroke: float) -> float:
        self._course.append((high, low, upstroke))
        if self.kind == "pleth":
            return 0.0
        if len(self._course) < (self._course.maxlen or 0):
            return 0.0
        high_then, low_then, upstroke_then = self._course[0]
        least = 10.0 if self._usual is None else 0.5 * self._usual[0]
        steep = 0.0 if self._usual is None else 0.5 * self._usual[1]
        # Both ends must be pulses: a pressure that runs off when the heart stops is no drift.
        if min(high - low, high_then - low_then) < least or min(upstroke, upstroke_then) < steep:
            return 0.0
        up, down = high - high_then, low - low_then
        # The same on both edges: a transducer that is moved shifts all of the pulse; a patient changes its size as well.
        if up * down <= 0.0 or abs(up - down) > max(DRIFT_UNLIKE_MMHG, 0.15 * abs(down)):
            return 0.0
        return min(abs(up), abs(down)) / DRIFT_MMHG

    def _below(self, w: NDArray[np.float64], low: float) -> float:
        """Of the lowest twentieth: after a flush the tubing rings, for less."""
        return -float(np.partition(w, len(w) // 20)[len(w) // 20]) / BELOW_MMHG if low < 0.0 else 0.0

    def _flush_limit(self) -> float:
        return FLUSH_MMHG if self._usual is None else min(FLUSH_MMHG, self._usual[3] + FLUSH_ABOVE_MMHG)

    def _flush(self, w: NDArray[np.float64], high: float, low: float) -> float:
        """1 when the flattest half second above the limit moves no more than a line without pulses. Only at the window's top: a
        slow heart's late diastole is flat as well."""
        limit = self._flush_limit()
        if high <= limit:
            return 0.0
        width = max(1, round(FLUSH_BIN_S * self.fs))
        bins = w[len(w) % width :].reshape(-1, width)
        across = max(1, min(round(FLUSH_S * self.fs / width), len(bins)))
        lows = np.lib.stride_tricks.sliding_window_view(bins.min(axis=1), across).min(axis=1)
        highs = np.lib.stride_tricks.sliding_window_view(bins.max(axis=1), across).max(axis=1)
        moves = (highs - lows)[lows > max(limit, high - max(0.5 * (high - low), FLUSH_FLAT_MMHG))]
        return FLUSH_FLAT_MMHG / max(float(moves.min()), 1e-9) if len(moves) else 0.0

    def _damped(self, w: NDArray[np.float64], size: float, upstroke: float, mean: float) -> float:
        """1 when the pulse is less and rounder than it was, as damping makes it."""
        fourth = len(w) // 4
        falling = float(w[:fourth].sum() - w[-fourth:].sum()) / fourth
        if size < WEAK_MMHG and mean > STANDING_MMHG and falling < 0.5 * size:
            return 1.0
        worst = max(self._less_and_rounder(one, size, upstroke, mean) for one in (self._usual, self._lately))
        if worst > 0.0 and float((w - np.minimum.accumulate(w)).max()) < 0.5 * size:
            return 0.0  # it runs off and does not rise: a pause, not a damped pulse
        return worst

    @staticmethod
    def _less_and_rounder(
        usual: tuple[float, float, float, float] | None, size: float, upstroke: float, mean: float
    ) -> float:
        if usual is None:
            return 0.0
        pulse, slope = usual[0] / max(size, 1e-9), usual[1] / max(upstroke, 1e-9)
        rounder = slope / pulse
        if abs(mean - usual[2]) <= max(KEPT_MMHG, KEPT_PART * usual[2]):
            both = math.sqrt(DAMPED_PULSE * pulse * DAMPED_SLOPE * slope)
            return min(DAMPED_LEAST * pulse, DAMPED_SLOPE * slope, both, rounder / ROUNDED)
        return min(pulse, rounder / ROUNDED_ALONE) if mean > LOW_MMHG else 0.0
