"""The vital signs that a monitor shows in large figures, from the first lead and line that can be believed."""

from __future__ import annotations

import itertools
from statistics import median

from edge_agent.alarms.evidence import Evidence
from edge_agent.alarms.pulses import is_pressure
from edge_agent.journey import Pulse

RATE_INTERVALS = 8
FRESH_S = 5.0
"""A vital sign older than this is unknown."""


def vital_signs(evidence: Evidence, now: int) -> dict[str, float | None]:
    """By the names of ``events.Vitals``; None is unknown."""
    fresh = now - FRESH_S * evidence.fs
    pulse = _pressure(evidence, fresh)
    return {
        "heart_rate_per_min": _heart_rate(evidence, fresh),
        "systolic_mmhg": None if pulse is None else pulse.systolic,
        "diastolic_mmhg": None if pulse is None else pulse.diastolic,
        "mean_mmhg": None if pulse is None else pulse.mean,
        "pulse_rate_per_min": _pulse_rate(evidence, fresh),
    }


def _heart_rate(evidence: Evidence, fresh: float) -> float | None:
    for lead in evidence.ecg.values():
        beats = [beat for beat in list(lead.beats)[-RATE_INTERVALS - 1 :] if beat >= lead.since]
        if lead.worth.good and len(beats) >= 3 and beats[-1] >= fresh:
            return 60 * evidence.fs / median(b - a for a, b in itertools.pairwise(beats))
    return None


def _pressure(evidence: Evidence, fresh: float) -> Pulse | None:
    for line in evidence.abp.values():
        good = [one for one in line.pulses if one.end >= fresh and is_pressure(one)]
        if line.worth.good and good:
            return good[-1]
    return None


def _pulse_rate(evidence: Evidence, fresh: float) -> float | None:
    for line in (*evidence.abp.values(), *evidence.pleth.values()):
        rates = [
            one.rate_per_min for one in list(line.pulses)[-RATE_INTERVALS:] if one.rate_per_min and one.end >= fresh
        ]
        if line.worth.good and len(rates) >= 2:
            return median(rates)
    return None
