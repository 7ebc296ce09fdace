"""The arterial pressure: too low, too high, or no pulse left while the ECG goes on.

Mean pressure under 65 mmHg for a minute is the usual label of hypotension (Salmasi et al. 2017). Pulse lost: what a pulse oximeter or an
arterial line shows of a heart that beats electrically alone, or of a line that is no longer where it was; either wants somebody at the bed.
"""

from __future__ import annotations

from statistics import fmean

from edge_agent.alarms.evidence import Evidence
from edge_agent.alarms.limits import AlarmLimits
from edge_agent.alarms.pulses import is_pressure
from edge_agent.alarms.rules.base import ABP, ARREST, LINES, Finding, Rule, confidence
from edge_agent.alarms.rules.witness import beats_between, lines, vouched

FRESH_PULSE_S = 15.0
"""A pressure is still believed this long after its last good pulse: one artefact must not end an alarm."""
USED_TO_PULSE_S = 60.0
LEAST_PULSES = 10
"""A line has lost its pulse if it had one: so many onsets in the minute before."""
LEAST_BEATS = 4


def hypotension(evidence: Evidence, now: int, limits: AlarmLimits) -> Finding | None:
    """Mean (or, where its limit is set, systolic) pressure of every good pulse under the limit for the whole duration."""
    found = _pressure(evidence, now, limits.pressure_duration_s, "mean", below=limits.hypotension_mean_mmhg)
    if found is None and limits.hypotension_systolic_mmhg is not None:
        found = _pressure(evidence, now, limits.pressure_duration_s, "systolic", below=limits.hypotension_systolic_mmhg)
    return found


def hypertension(evidence: Evidence, now: int, limits: AlarmLimits) -> Finding | None:
    """Systolic (or, where its limit is set, mean) pressure of every good pulse over the limit for the whole duration."""
    found = _pressure(evidence, now, limits.pressure_duration_s, "systolic", above=limits.hypertension_systolic_mmhg)
    if found is None and limits.hypertension_mean_mmhg is not None:
        found = _pressure(evidence, now, limits.pressure_duration_s, "mean", above=limits.hypertension_mean_mmhg)
    return found


def _pressure(
    evidence: Evidence,
    now: int,
    duration_s: float,
    number: str,
    *,
    below: float = float("-inf"),
    above: float = float("inf"),
) -> Finding | None:
    """All good pulses of the last duration_s beyond a limit, good pulses covering at least two thirds of it."""
    for name, line in evidence.abp.items():
        first = now - round(duration_s * evidence.fs)
        pulses = [pulse for pulse in line.pulses if pulse.end > first and is_pressure(pulse)]
        if not pulses or line.since > first:
            continue
        values = [float(getattr(pulse, number)) for pulse in pulses]
        covered = sum(pulse.end - max(pulse.sample, first) for pulse in pulses) / evidence.fs
        if (
            all(value < below or value > above for value in values)
            and covered >= duration_s * 2 / 3
            and now - pulses[-1].end < FRESH_PULSE_S * evidence.fs
        ):
            seen = {f"{number}_mmhg": round(fmean(values), 1), "pulses": len(pulses), "covered_s": round(covered, 1)}
            return Finding(max(first, pulses[0].sample), now, name, seen, confidence(1, 1))
    return None


def pulse_lost(evidence: Evidence, now: int, limits: AlarmLimits) -> Finding | None:
    """A line that pulsed has shown none for pulse_lost_s, while beats go on that can be counted on; another line that
    pulses on is against it."""
    fs = evidence.fs
    first = now - round(limits.pulse_lost_s * fs)
    before = first - round(USED_TO_PULSE_S * fs)
    silent, pulsing = {}, []
    for name, line in lines(evidence):
        if not line.worth.usable or line.since > first:
            continue
        last = line.onsets[-1] if line.onsets else None
        if last is not None and last >= first:
            pulsing.append(name)
        elif last is not None and sum(before <= onset < first for onset in line.onsets) >= LEAST_PULSES:
            silent[name] = last
    if not silent:
        return None
    listed = {name: beats_between(lead, first, now) for name, lead in evidence.ecg.items()}
    beats = {name: len(one) for name, one in listed.items() if len(one) >= LEAST_BEATS and vouched(evidence, name, one)}
    if not beats:
        return None
    channel = max(silent, key=silent.__getitem__)
    since = silent[channel]
    seen = {"silent_s": round((now - since) / fs, 2), "beats": max(beats.values()), "lines": sorted(silent)}
    against = f"{pulsing[0]} pulses on" if pulsing else None
    agree = len(silent)
    return Finding(
        since, since + round(limits.pulse_lost_s * fs), channel, seen, confidence(agree, agree + len(pulsing)), against
    )


RULES: tuple[Rule[Evidence], ...] = (
    Rule("pulse_lost", "high", pulse_lost, needs=LINES, under=ARREST),
    Rule("hypotension", "medium", hypotension, needs=ABP),
    Rule("hypertension", "medium", hypertension, needs=ABP),
)
