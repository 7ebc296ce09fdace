"""Pressure pulses: where the upstroke begins, said within 150 ms, and the pulse's numbers, said when it ends.

After Zong, Heldt, Moody & Mark, "An open-source algorithm to detect onset of arterial blood pressure pulses" (Computers
in Cardiology 2003; ``wabp``): low-pass, *slope sum* (the rises of the last 128 ms added up), a threshold at a fraction of the
usual slope sum, a search back for the foot. The departures:

* **Causal.** ``wabp`` may look half an eye-closing ahead (170 ms) and learns on eight seconds before it says anything. Here the
  upstroke is followed only until its slope has passed its steepest point, and at most 140 ms from the foot; learning takes
  2.5 s.
* **A lighter low-pass**: two running means of 24 ms (16 ms of delay) instead of 32 ms. What it lets through is stopped by
  *coherence*: an upstroke's slope sum is nearly its net rise; noise rises and falls.
* **The foot** is where the tangent at the steepest point meets the lowest level before it, which is finer than a sample and
  moves little with noise, instead of the first slope above a hundredth of the greatest.
* **No unit.** All thresholds are fractions of the usual slope sum; the only millimetres of mercury are the floor under which
  an arterial line's movement is not a pulse. A pleth's floor is a fraction of its own usual pulse.

The signal is first averaged over groups of samples to 83-187 Hz (groups lie on the absolute sample index, so they do not
depend on how the signal was cut), because ``wabp`` was made for 125 Hz and a pressure line carries nothing above 40 Hz. What is left is
a dozen values for 100 ms, followed one by one: at that size a plain loop is as quick as a dozen array operations and is the
same whatever the block.
"""

from __future__ import annotations

import math
from collections import deque
from statistics import median
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_agent.journey import Onset, Pulse
from edge_agent.signal.pulse_rules import PulseNumbers, PulseRules
from edge_agent.signal.quality_grid import WILD, moving_mean
from edge_agent.signal.usual_pulse import UsualPulse

GRID_HZ = 125.0
SMOOTH_S = 0.024  # each of the two running means
SLOPE_SUM_S = 0.128
LOOK_BACK_S = 0.25  # how far before the crossing the lowest level may lie
DECIDE_S = 0.140  # from the foot to the decision at the latest
LEARN_S = 2.5
TIME_OUT_S = 3.0  # 20 /min: the slowest rate that jSQI takes for a pulse
EYE_CLOSING_S = 0.24  # nothing new within this of an onset, or within 0.45 of the usual interval
USUAL_S = 0.8  # the interval that is taken for usual before three were seen
LEVEL_GAIN = 0.15
LEAST_PART = 0.12  # of the usual slope sum: the threshold's lower end
FLOOR_MMHG = 4.0
FAINT_AFTER_S = 0.4
FAINT_AFTER = 0.5  # of the usual interval
FAINT_PART = 0.06
HISTORY_S = 1.0  # kept before an onset that has not come yet
BREAK_S = 1.0  # a hole longer than this is learned anew after


class PressureDetector:
    """Onsets and pulses of one channel. Fed any cut of the same samples, it says the same."""

    def __init__(self, fs: float, channel: str, kind: Literal["abp", "pleth"] = "abp", first: int = 0) -> None:
        if not 50 <= fs <= 4000:
            raise ValueError(f"fs must lie in 50..4000 Hz, found {fs}")
        self.fs = fs
        self.channel = channel
        self.kind = kind
        self._group = max(1, round(fs / GRID_HZ))
        self._hz = fs / self._group
        self._width = max(1, round(SMOOTH_S * self._hz))
        self._window = max(2, round(SLOPE_SUM_S * self._hz))
        self._back = round(LOOK_BACK_S * self._hz)
        self._history = round(HISTORY_S * self._hz)
        self._time_out = round(TIME_OUT_S * self._hz)
        self._learn = round(LEARN_S * self._hz)
        self._floor = FLOOR_MMHG if kind == "abp" else 0.0
        self._break = round(BREAK_S * self._hz)
        # A smoothed value sits in the middle of what it was made of: this much before the newest group's middle.
        self._lag = float(self._width - 1)
        self._seen = 0
        self._learned: list[float] = []
        self._values: list[float] = []  # group means since a little before the open pulse
        self._raw: deque[float] = deque(maxlen=self._width)
        self._smooth: deque[float] = deque(maxlen=self._width)
        self._track: deque[float] = deque(maxlen=self._back + self._window)  # smoothed, for the search back
        self._rises: deque[float] = deque(maxlen=self._window)
        self.reset(first)

    def reset(self, first: int) -> None:
        """Begin anew at ``first``: nothing before it is known any more."""
        self._next = first
        self._rest = np.empty(0, np.float64)
        self._hole = 0
        self._forget()
        self._clear_tracking()

    def _clear_tracking(self) -> None:
        for kept in (self._values, self._raw, self._smooth, self._track, self._rises):
            kept.clear()
        self._values_first = 0
        self._slope_sum = 0.0
        self._pending = False
        self._steepest = 0.0
        self._decide_by = 0.0
        self._attend = 0
        self._open: float | None = None  # foot of the pulse that has not ended, in groups
        self._last_foot: float | None = None
        self._peak = 0.0
        self._peak_until: float | None = None

    # -- feeding ----------------------------------------------------------------------------------------------------------

    def feed(self, x: NDArray[np.float32], first: int) -> list[Onset | Pulse]:
        """What the next samples make known, in order of ``known``. A jump of ``first`` is taken for a gap."""
        if first != self._next:
            self.reset(first)
        self._next = first + len(x)
        out: list[Onset | Pulse] = []
        group = self._group
        values = x.astype(np.float64)
        if group > 1:
            start = first - len(self._rest)
            if len(self._rest):
                values = np.concatenate((self._rest, values))
            skip = -start % group  # only after a reset: the first group that is whole
            n = (len(values) - skip) // group
            if n <= 0:
                self._rest = values
                return out
            index = (start + skip) // group
            whole = values[skip : skip + n * group]
            self._rest = values[skip + n * group :]
            means = whole[0::group].copy()
            for k in range(1, group):
                means += whole[k::group]
            means *= 1.0 / group
        else:
            index = first
            means = values
        self._follow(index, means.tolist(), out)
        return out

    def flush(self) -> list[Onset | Pulse]:
        """The recording ends: the open pulse, as far as it went."""
        out: list[Onset | Pulse] = []
        if self._open is not None and self._values:
            end = self._values_first + len(self._values)
            if end - self._open >= 0.3 * self._hz:
                self._close(float(end), end - 1, False, out)
        self._clear_tracking()
        return out

    # -- group by group -----------------------------------------------------------------------------------------------------

    def _follow(self, n: int, means: list[float], out: list[Onset | Pulse]) -> None:
        raw, smooth, track, rises, values = self._raw, self._smooth, self._track, self._rises, self._values
        width, window, learn = self._width, self._window, self._learn
        scale = 1.0 / width
        for value in means:
            if not -WILD < value < WILD:  # also false for NaN
                self._miss()
                n += 1
                continue
            self._hole = 0
            if not values:
                self._values_first = n
                raw.extend([value] * width)
                smooth.extend([value] * width)
                track.append(value)
                rises.extend([0.0] * window)
            values.append(value)
            raw.append(value)
            smooth.append(sum(raw) * scale)
            y = sum(smooth) * scale
            rise = y - track[-1]
            track.append(y)
            gone = rises[0]
            rises.append(rise if rise > 0.0 else 0.0)
            # A running sum is cheap and drifts; it is taken afresh often, at places that do not depend on the cut.
            slope_sum = sum(rises) if n % window == 0 else self._slope_sum + rises[-1] - gone
            self._slope_sum = slope_sum
            if self._seen < learn:
                self._seen += 1
                self._learning(slope_sum)
            elif self._pending or slope_sum > self._least or n >= self._attend:
                self._attend_to(n, rise, slope_sum, out)
            n += 1

    def _miss(self) -> None:
        """A group without a value: what was under way is given up; after a second, so is what was learned."""
        self._hole += 1
        if self._hole == 1:
            self._clear_tracking()
        if self._hole == self._break:
            self._forget()

    def _attend_to(self, n: int, rise: float, slope_sum: float, out: list[Onset | Pulse]) -> None:
        """The part that diastole seldom needs."""
        if self._peak_until is not None:
            if slope_sum > self._peak:
                self._peak = slope_sum
            if n >= self._peak_until:
                # One artefact must not deafen the detector: what is learned from a pulse is at most twice the usual.
                self._set_level(self._level + LEVEL_GAIN * (min(self._peak, 2.0 * self._level) - self._level))
                self._peak_until = None
        if self._pending:
            self._decide(n, rise, slope_sum, out)
        elif slope_sum > self._threshold(n) and (
            self._last_foot is None or n - self._lag - self._last_foot > self._closing
        ):
            self._pending = True
            self._steepest = max(self._rises)
            self._decide_by = self._foot(n)[0] + DECIDE_S * self._hz - 1.0
            self._decide(n, rise, slope_sum, out)
        if self._open is not None and n >= self._open + self._time_out:
            self._close(self._open + self._time_out, n, False, out)
        elif self._open is None and len(self._values) > 2 * self._history:
            self._trim()
        self._set_attend(n)

    def _set_attend(self, n: int) -> None:
        """When a quiet line must be attended to again: a peak to be learned, a time-out, memory to be trimmed."""
        due = n + self._history
        if self._open is not None:
            due = min(due, math.ceil(self._open + self._time_out))
        if self._peak_until is not None:
            due = min(due, math.ceil(self._peak_until))
        self._attend = due

    def _learning(self, slope_sum: float) -> None:
        """The usual slope sum is the least of the greatest over halves of the learning time: one artefact does not spoil it."""
        half = self._learn // 2
        if self._seen == 1 or self._seen == half + 1:
            self._learned.append(0.0)
        self._learned[-1] = max(self._learned[-1], slope_sum)
        if self._seen == self._learn:
            level = max(min(self._learned), self._floor)
            if level > 0.0:
                self._set_level(level)
            else:  # a probe that is not on yet: nothing was learned, so learn again
                self._seen = 0
                self._learned.clear()

    def _set_level(self, level: float) -> None:
        self._level = level
        self._least = max(LEAST_PART * level, self._floor)

    def _learn_interval(self, groups: float) -> None:
        self._intervals.append(groups)
        if len(self._intervals) >= 3:
            self._usual = median(self._intervals)
            self._closing = max(EYE_CLOSING_S * self._hz, min(0.45 * self._usual, 0.5 * self._hz))

    def _forget(self) -> None:
        """Everything that was learned of this patient."""
        self._rules = PulseRules(self.kind)
        self._resembling = UsualPulse(self._hz)
        self._seen = 0
        self._learned = []
        self._intervals: deque[float] = deque(maxlen=8)
        self._usual = USUAL_S * self._hz
        self._closing = EYE_CLOSING_S * self._hz
        self._set_level(0.0)

    def _threshold(self, n: int) -> float:
        """A quarter of the usual; less and less when a pulse is overdue; never below the floor."""
        part = 0.25
        if self._last_foot is not None:
            waited = n - self._lag - self._last_foot
            usual = self._usual
            if waited < 0.7 * usual:
                part = 0.45  # the dicrotic wave's time
            elif waited > 1.6 * usual:
                part = max(LEAST_PART, 0.25 - 0.1 * (waited - 1.6 * usual) / self._hz)
        return max(part * self._level, self._floor)

    def _decide(self, n: int, rise: float, slope_sum: float, out: list[Onset | Pulse]) -> None:
        """Follow the upstroke until its slope falls, or until time is up, then say whether it was one and where it began."""
        if rise > self._steepest:
            self._steepest = rise
        if rise > 0.7 * self._steepest and n + 1 < self._decide_by:
            return
        foot, net = self._foot(n)
        self._pending = False
        if net < 0.6 * slope_sum or net < self._floor:
            return
        if self._last_foot is not None and foot - self._last_foot < self._closing:
            return
        # An upstroke that creeps is given the latest foot that keeps the promise; it is no clean pulse anyway.
        foot = max(foot, n + 1.0 - DECIDE_S * self._hz)
        if self._open is not None:
            self._close(foot, n, True, out)
        if self._last_foot is not None and foot - self._last_foot < self._time_out:
            self._learn_interval(foot - self._last_foot)
        self._open = foot
        self._last_foot = foot
        self._peak = slope_sum
        self._peak_until = foot + 0.3 * self._hz
        out.append(Onset(self.channel, self._sample(foot), self._known(n)))

    def _foot(self, n: int) -> tuple[float, float]:
        """(foot in groups, net rise up to now) of the upstroke that is under way at ``n``."""
        track = list(self._track)
        last = len(track) - 1
        low_from = max(1, last - self._window)
        steepest, at = 0.0, last
        for k in range(last, low_from - 1, -1):
            d = track[k] - track[k - 1]
            if d > steepest:
                steepest, at = d, k
        base = at
        floor = max(0, at - self._back)
        for k in range(at - 1, floor - 1, -1):
            if track[k] < track[base]:
                base = k
            elif track[k] - track[base] > 0.25 * (track[at] - track[base]):
                break  # over the hump before: that lower level belongs to the pulse before
        middle = at - 0.5
        back = ((track[at] + track[at - 1]) * 0.5 - track[base]) / steepest if steepest > 0.0 else 0.0
        index = max(middle - back, float(base))
        return n - self._lag - (last - index), track[last] - track[base]

    # -- a pulse's end -----------------------------------------------------------------------------------------------------

    def _close(self, end: float, n: int, by_onset: bool, out: list[Onset | Pulse]) -> None:
        foot = self._open
        assert foot is not None
        self._open = None
        start = max(0, math.floor(foot) - self._values_first)
        stop = max(start + 2, min(len(self._values), math.ceil(end) - self._values_first))
        body = np.array(self._values[start:stop])
        lowest = max(0, start - round(0.1 * self._hz))
        diastolic = float(min(self._values[lowest : start + round(0.12 * self._hz) + 1]))
        systolic = float(body.max())
        mean = math.fsum(body.tolist()) / len(body)
        steps = np.diff(body)
        falls = steps[steps < 0.0]
        fall_per_s = float(np.mean(falls)) * self._hz if len(falls) else 0.0
        period_s = (end - foot) / self._hz
        numbers = PulseNumbers(
            systolic=systolic,
            diastolic=diastolic,
            mean=mean,
            onset=float(body[0]),
            fall_per_s=fall_per_s,
            period_s=period_s,
            timed_out=not by_onset,
        )
        reasons = self._rules.judge(numbers, self._faint_upstroke(body))
        out.append(
            Pulse(
                channel=self.channel,
                sample=self._sample(foot),
                known=self._known(n),
                end=self._sample(end),
                systolic=systolic,
                diastolic=diastolic,
                mean=mean,
                area=(mean - diastolic) * period_s,
                rate_per_min=60.0 / period_s if by_onset else None,
                reasons=reasons,
                alike=self._resembling.feed(foot, body),
            )
        )
        keep = self._values_first + max(0, len(self._values) - self._history)
        self._drop_before(min(keep, math.floor(end) - self._back))

    def _faint_upstroke(self, body: NDArray[np.float64]) -> bool:
        """Whether something rose in the pulse, past the dicrotic wave's time, too little to be called an onset: a beat
        that moved hardly any blood, or a disturbance. Whichever it was, this pulse's interval is in doubt."""
        start = round(max(FAINT_AFTER_S * self._hz, FAINT_AFTER * self._usual))
        late = body[start : len(body) - round(0.03 * self._hz)]
        width = 2 * self._width
        if len(late) < width + 2 * self._window // 3:
            return False
        smooth = moving_mean(late, width)
        rise = smooth[2 * self._window // 3 :] - smooth[: -(2 * self._window // 3)]
        return len(rise) > 0 and float(rise.max()) > max(FAINT_PART * self._level, self._floor * 0.5)

    def _trim(self) -> None:
        self._drop_before(self._values_first + len(self._values) - self._history)

    def _drop_before(self, index: int) -> None:
        drop = index - self._values_first
        if drop > 0:
            del self._values[:drop]
            self._values_first += drop

    def _sample(self, groups: float) -> int:
        """The sample nearest to a time in groups (a group's time is its middle)."""
        return round((groups + 0.5) * self._group - 0.5)

    def _known(self, n: int) -> int:
        return n * self._group + self._group - 1
