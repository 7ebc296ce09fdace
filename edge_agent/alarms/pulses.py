"""What pressure and pleth say of a stretch of time: does blood still move, how often, and how much less than before.

A pulse is believed when it looks like this patient's own pulse (correlation over .8) and is .35 to 2.5 times as large as usual; an arterial
one also when its pressures are those of a living patient (systolic 40-260, diastolic 10-160 mmHg, pulse pressure over 8). The first
half is the template matching of Li & Clifford 2012 ("Dynamic time warping and machine learning for signal quality assessment of
pulsatile signals") without the warping, the second a wider jSQI (Sun et al. 2006): a ventricular tachycardia's pulse is smaller
than a good one and must still count.

What this serves for: a trustworthy pulse that goes on through a claimed pause refutes it, one that goes on at another rate refutes the
rate, one that has hardly fallen refutes a fibrillation. A channel that did not pulse well in the two minutes before says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from edge_agent.alarms.evidence import Evidence, PressureEvidence
from edge_agent.journey import Pulse

ALIKE = 0.8
LEAST_PART, MOST_PART = 0.35, 2.5
USUAL_FROM_S, USUAL_TO_S = 150.0, 16.0
LEAST_USUAL = 8
MOST_RATE = 180.0
"""A usual rate over this is a probe that trembles."""
TRUSTED = 0.5
"""Least share of the pulses of the two minutes before that were themselves valid: under it the channel is not believed."""
WEAK = frozenset({"pulse_pressure", "mean_range", "diastolic_range", "after_bad"})
"""Rules of jSQI's (`signal.pulse_rules`) that a failing circulation breaks by itself: to leave such pulses out would hide a shock of
60/45 mmHg."""
ARRIVAL_S = 0.35
"""A pulse reaches wrist or finger this long after its QRS."""
KNOWN_S = 0.5
"""How long after its end a pulse is known at the latest, when another follows."""


@dataclass(frozen=True, slots=True)
class UsualPulses:
    """A channel's last two minutes, without the last 16 s."""

    amplitude: float
    systolic: float
    diastolic: float
    rate_per_min: float
    valid: float
    """0 to 1: the share of pulses that were valid themselves."""


@dataclass(frozen=True, slots=True)
class Pulses:
    """What one channel that can be believed shows between two samples."""

    channel: str
    arterial: bool
    usual: UsualPulses
    count: int
    """Valid pulses that began there."""
    doubtful: int
    """Others."""
    longest_s: float
    """Longest time without the beginning of a valid pulse, the ends of the stretch included."""
    rate_per_min: float | None
    """From the median interval between neighbouring valid pulses."""
    irregular: float | None
    """Mean absolute change from one interval to the next, as a part of the median interval; None under 4 intervals."""
    amplitude: float | None
    """Median of the valid pulses' amplitudes as a part of the usual one."""
    least_amplitude: float | None
    """The smallest of them."""
    systolic_fall: float | None
    """The lowest systolic pressure of any pulse there as a part of the usual one: 1 has not fallen. Arterial only."""

    @property
    def going_on(self) -> bool:
        """Most of what is there is valid."""
        return self.count >= 2 and self.count >= 2 * self.doubtful


def usual_pulses(line: PressureEvidence, fs: float, at: int, arterial: bool) -> UsualPulses | None:
    since, until = at - USUAL_FROM_S * fs, at - USUAL_TO_S * fs
    old = [pulse for pulse in line.seen if since <= pulse.sample < until]
    if len(old) < LEAST_USUAL:
        return None
    amplitude = median(pulse.systolic - pulse.diastolic for pulse in old)
    rates = [pulse.rate_per_min for pulse in old if pulse.rate_per_min is not None]
    if amplitude <= 0.0 or not rates:
        return None
    valid = sum(is_valid(pulse, amplitude, arterial) for pulse in old) / len(old)
    return UsualPulses(
        amplitude, median(p.systolic for p in old), median(p.diastolic for p in old), median(rates), valid
    )


def is_valid(pulse: Pulse, usual_amplitude: float, arterial: bool) -> bool:
    """While no usual shape is known, a pulse that breaks none of jSQI's rules is."""
    amplitude = pulse.systolic - pulse.diastolic
    if not (pulse.alike > ALIKE if pulse.alike is not None else not pulse.reasons):
        return False
    if not LEAST_PART * usual_amplitude <= amplitude <= MOST_PART * usual_amplitude:
        return False
    return not arterial or (40.0 <= pulse.systolic <= 260.0 and 10.0 <= pulse.diastolic <= 160.0 and amplitude > 8.0)


def is_pressure(pulse: Pulse) -> bool:
    """Whether its numbers are the patient's pressure: it breaks no rule, or is only weak and looks like the patient's own."""
    return not pulse.reasons or (WEAK.issuperset(pulse.reasons) and pulse.alike is not None and pulse.alike > ALIKE)


def pulses_between(evidence: Evidence, since: int, until: int, at: int | None = None) -> list[Pulses]:
    """Each channel that can be believed; empty if none can. ``at``: the moment against whose two minutes before it is held
    (``until`` if not given)."""
    return list(_pulses_between(evidence, since, until, until if at is None else at))


def _pulses_between(evidence: Evidence, since: int, until: int, at: int) -> Iterator[Pulses]:
    fs = evidence.fs
    for lines, arterial in ((evidence.abp, True), (evidence.pleth, False)):
        for name, line in lines.items():
            usual = usual_pulses(line, fs, at, arterial)
            if usual is None or usual.valid < TRUSTED or usual.rate_per_min > MOST_RATE:
                continue
            here = [pulse for pulse in line.seen if since <= pulse.sample < until and pulse.known < at]
            valid = [pulse for pulse in here if is_valid(pulse, usual.amplitude, arterial)]
            edges = [since, *(pulse.sample for pulse in valid), until]
            longest = max(after - before for before, after in pairwise(edges)) / fs
            intervals = [(b.sample - a.sample) / fs for a, b in pairwise(valid) if b.sample - a.end <= 2]
            sizes = [(pulse.systolic - pulse.diastolic) / usual.amplitude for pulse in valid]
            yield Pulses(
                channel=name,
                arterial=arterial,
                usual=usual,
                count=len(valid),
                doubtful=len(here) - len(valid),
                longest_s=longest,
                rate_per_min=60.0 / median(intervals) if intervals else None,
                irregular=(
                    sum(abs(b - a) for a, b in pairwise(intervals)) / (len(intervals) - 1) / median(intervals)
                    if len(intervals) >= 4
                    else None
                ),
                amplitude=median(sizes) if sizes else None,
                least_amplitude=min(sizes) if sizes else None,
                systolic_fall=(min(pulse.systolic for pulse in here) / usual.systolic if arterial and here else None),
            )
