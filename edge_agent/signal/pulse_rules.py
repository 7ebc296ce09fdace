"""Is this pulse to be trusted? The rules of jSQI, one name each.

After Sun, Reisner & Mark, "A signal abnormality index for arterial blood pressure waveforms" (Computers in Cardiology 2006), as the
facts were read from its published code. A pulse is bad if any rule holds. Where this departs:

* The code compares a pulse with the one before, good or bad, so the first pulse after an artefact is bad too, and that by
  chance. Here it is compared with the last *good* pulse while that is at most `REMEMBER` pulses old, and after that with the
  pulse before: a true step in pressure must not be bad for ever.
* bad-good-bad becomes bad-bad-bad, which needs the next pulse. A live stream cannot wait: **trust returns with the second pulse in a row
  that breaks no rule**; the first is marked `after_bad`. Every pulse that jSQI would turn bad is bad here, and so is the first good one
  after a fault.
* Its limit of the falling slope is for pulses of the usual size and pace. A wide pulse of a fast heart (235/70 mmHg at 110 /min) must fall
  faster than that, however smooth: a pulse may fall as fast as twice what its own pressure would in its own time.
* `faint_upstroke` is no rule of jSQI's: see the detector.
* A pleth has no unit: its amplitude is compared with its own usual, and the absolute rules are left out.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median
from typing import Literal

REMEMBER = 5
SMOOTH = 2.0
"""Falling for two thirds of its time a smooth pulse has 1.5; one that rings or trembles falls many times over."""


@dataclass(frozen=True, slots=True)
class PulseNumbers:
    """What the rules look at (mmHg, or the pleth's unit)."""

    systolic: float
    diastolic: float
    mean: float
    onset: float
    """Pressure at the foot."""
    fall_per_s: float
    """Mean of the falling slopes, negative: large where the line rings or is noisy."""
    period_s: float
    timed_out: bool = False


def absolute_faults(p: PulseNumbers) -> list[str]:
    """The rules that a pulse can break by itself."""
    rate = 60.0 / p.period_s
    steepest = max(3.0 * 125.0, SMOOTH * (p.systolic - p.diastolic) / p.period_s)  # 3 mmHg a sample at 125 Hz
    rules = (
        ("systolic_range", p.systolic > 300.0),
        ("diastolic_range", p.diastolic < 20.0),
        ("mean_range", p.mean < 30.0 or p.mean > 200.0),
        ("rate_range", p.timed_out or rate < 20.0 or rate > 200.0),
        ("pulse_pressure", p.systolic - p.diastolic < 20.0),
        ("ragged", p.fall_per_s < -steepest),
    )
    return [name for name, broken in rules if broken]


def jump_faults(p: PulseNumbers, before: PulseNumbers) -> list[str]:
    """The rules that need a pulse to compare with."""
    rules = (
        ("systolic_jump", abs(p.systolic - before.systolic) > 20.0),
        ("diastolic_jump", abs(p.diastolic - before.diastolic) > 20.0),
        ("onset_jump", abs(p.onset - before.onset) > 20.0),
        ("period_jump", not before.timed_out and abs(p.period_s - before.period_s) > 0.5),
    )
    return [name for name, broken in rules if broken]


def pleth_faults(p: PulseNumbers, usual: float | None) -> list[str]:
    """The same in spirit, without a unit: the rate, and the amplitude against the usual one."""
    rate = 60.0 / p.period_s
    faults = []
    if p.timed_out or rate < 20.0 or rate > 200.0:
        faults.append("rate_range")
    if usual is not None and not 0.35 * usual <= p.systolic - p.diastolic <= 2.5 * usual:
        faults.append("pulse_pressure")
    return faults


class PulseRules:
    """Judges pulses in order; remembers the last good one."""

    def __init__(self, kind: Literal["abp", "pleth"]) -> None:
        self._kind = kind
        self._good: PulseNumbers | None = None
        self._good_age = 0
        self._before: PulseNumbers | None = None
        self._bad_before = False
        self._amplitudes: deque[float] = deque(maxlen=15)

    def judge(self, p: PulseNumbers, faint_upstroke: bool = False) -> tuple[str, ...]:
        """Names of the rules that the pulse breaks; empty when it is good."""
        reference = self._good if self._good is not None and self._good_age <= REMEMBER else self._before
        if self._kind == "abp":
            faults = absolute_faults(p)
        else:
            usual = median(self._amplitudes) if len(self._amplitudes) >= 5 else None
            faults = pleth_faults(p, usual)
            self._amplitudes.append(p.systolic - p.diastolic)
        if reference is not None:
            jumps = jump_faults(p, reference)
            faults += jumps if self._kind == "abp" else [name for name in jumps if name == "period_jump"]
        if faint_upstroke:
            faults.append("faint_upstroke")
        bad = bool(faults)
        if not bad and self._bad_before:
            faults.append("after_bad")
        self._bad_before = bad
        self._before = p
        if bad:
            self._good_age += 1
        else:
            self._good, self._good_age = p, 0
        return tuple(faults)
