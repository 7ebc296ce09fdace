"""Pulses that go on as before while a lead shows a ventricular tachycardia: no heart that beats so does not let the pulse feel it."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from edge_agent.alarms.pulses import ALIKE, ARRIVAL_S
from edge_agent.alarms.scene import LineScene
from edge_agent.journey import Pulse

LEAST_BEFORE = 6
SAME = 0.15
"""Each interval is as long as before, within this part of it,"""
DIFFERENT = 1.15
"""and the beats come faster than the pulses by this at the least."""
LEAST_PULSES = 2
LEAST_COVERED = 0.6


def unmoved(lines: Sequence[LineScene], first: int, last: int, rate_per_min: float, fs: float) -> list[str]:
    """What the lines say against a run of beats from ``first`` to ``last``: only whole pulses that look like the patient's own, at the
    rate and (within two thirds) of the size of before."""
    return [said for line in lines if (said := _of(line, first, last, rate_per_min, fs)) is not None]


def _of(line: LineScene, first: int, last: int, rate_per_min: float, fs: float) -> str | None:
    late = round(ARRIVAL_S * fs)
    before = [one for one in line.pulses if one.end <= first + late and _is_own(one)]
    during = [one for one in line.pulses if one.sample < last and (one.sample + one.end) / 2 > first + late]
    if len(before) < LEAST_BEFORE or len(during) < LEAST_PULSES or not all(map(_is_own, during)):
        return None
    usual = median(one.end - one.sample for one in before)
    size = median(_size(one) for one in before)
    same = all(abs(one.end - one.sample - usual) <= SAME * usual and _size(one) >= 2 / 3 * size for one in during)
    covered = sum(one.end - one.sample for one in during) >= LEAST_COVERED * (last - first)
    per_min = 60 * fs / usual
    if not same or not covered or rate_per_min < DIFFERENT * per_min:
        return None
    return f"{line.channel} pulses on as before, at {per_min:.0f} per minute"


def _is_own(pulse: Pulse) -> bool:
    return pulse.alike is not None and pulse.alike > ALIKE and pulse.rate_per_min is not None


def _size(pulse: Pulse) -> float:
    return pulse.systolic - pulse.diastolic
