"""The alarm rules: each a small function over the same evidence, asked four times a second.

A rule answers with a `Finding` while its definition holds and with None while it does not. Definitions: PhysioNet/CinC
Challenge 2015 (Clifford et al. 2015) for asystole, bradycardia, tachycardia; mean pressure under 65 mmHg for a minute for
hypotension (Salmasi et al. 2017). Rules say nothing about signals that are not good: a bad signal has its own,
technical alarm.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from edge_agent.alarms.evidence import EcgEvidence, Evidence, PressureEvidence, Worth
from edge_agent.config import AlarmLimits
from edge_agent.events import AlarmKind, Priority

DETECTION_S = 0.6
"""A beat is known up to this long after it happened: a pause is only sure when that has passed too."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A definition that holds now."""

    since: int
    """Sample from which the evidence counts."""
    met: int
    """Sample at which the definition was met."""
    channel: str | None
    evidence: dict[str, Any] = field(default_factory=dict)


FRESH_PULSE_S = 15.0
"""A pressure is still believed this long after its last good pulse: one artefact must not end an alarm."""

Rule = Callable[[Evidence, int, AlarmLimits], Finding | None]


def asystole(evidence: Evidence, now: int, limits: AlarmLimits) -> Finding | None:
    """No QRS in any good lead for asystole_s, and no good arterial or pleth signal that pulses on."""
    fs = evidence.fs
    pause = limits.asystole_s * fs
    good = {name: lead for name, lead in evidence.ecg.items() if lead.worth.good}
    if not good:
        return None
    last = {name: max(lead.beats[-1] if lead.beats else lead.since, lead.since) for name, lead in good.items()}
    channel = max(last, key=last.__getitem__)  # the lead that saw a beat last: all must be silent
    since = last[channel]
    if now - since < pause + DETECTION_S * fs:
        return None
    pulses = _pulses_since(evidence, now - round(pause))
    if pulses > 1:  # one may still be the last beat's, on its way to the wrist
        return None
    return Finding(since, since + round(pause), channel, {"silent_s": round((now - since) / fs, 2), "pulses": pulses})


def _pulses_since(evidence: Evidence, first: int) -> int:
    """Most onsets since then in any good pressure or pleth channel."""
    channels = (*evidence.abp.values(), *evidence.pleth.values())
    return max((sum(onset >= first for onset in one.onsets) for one in channels if one.worth.good), default=0)


def _rate(evidence: Evidence, now: int, beats: int, longest_s: float) -> tuple[str, int, int, float] | None:
    """Rate over the last ``beats`` beats of the first good lead that has them: channel, first, last, per minute.

    A pause of longest_s among them, or since, is asystole's affair and no rate.
    """
    for name, lead in evidence.ecg.items():
        last = list(lead.beats)[-beats:]
        if not lead.worth.good or len(last) < beats or last[0] < lead.since or last[-1] <= last[0]:
            continue
        pause = max(after - before for before, after in itertools.pairwise([*last, now]))
        if pause < longest_s * evidence.fs:
            return name, last[0], last[-1], (beats - 1) * 60 * evidence.fs / (last[-1] - last[0])
    return None


def bradycardia(evidence: Evidence, now: int, limits: AlarmLimits) -> Finding | None:
    """Under bradycardia_per_min over 5 beats."""
    found = _rate(evidence, now, 5, limits.asystole_s)
    if found is None or found[3] >= limits.bradycardia_per_min:
        return None
    channel, first, last, rate = found
    return Finding(first, last, channel, {"rate_per_min": round(rate, 1), "beats": 5})


def tachycardia(evidence: Evidence, now: int, limits: AlarmLimits) -> Finding | None:
    """Over tachycardia_per_min over 17 beats."""
    found = _rate(evidence, now, 17, limits.asystole_s)
    if found is None or found[3] <= limits.tachycardia_per_min:
        return None
    channel, first, last, rate = found
    return Finding(first, last, channel, {"rate_per_min": round(rate, 1), "beats": 17})


def atrial_fibrillation(evidence: Evidence, now: int, limits: AlarmLimits) -> Finding | None:
    """The rhythm, as `alarms.rhythm` follows it from the RR intervals."""
    if evidence.rhythm != "AFIB":
        return None
    return Finding(evidence.rhythm_since, evidence.rhythm_known, evidence.rhythm_channel, {})


def hypotension(evidence: Evidence, now: int, limits: AlarmLimits) -> Finding | None:
    """Mean pressure of every good pulse under the limit for the whole duration."""
    return _pressure(evidence, now, limits.pressure_duration_s, "mean", below=limits.hypotension_mean_mmhg)


def hypertension(evidence: Evidence, now: int, limits: AlarmLimits) -> Finding | None:
    """Systolic pressure of every good pulse over the limit for the whole duration."""
    return _pressure(evidence, now, limits.pressure_duration_s, "systolic", above=limits.hypertension_systolic_mmhg)


def _pressure(
    evidence: Evidence,
    now: int,
    duration_s: float,
    number: str,
    *,
    below: float | None = None,
    above: float | None = None,
) -> Finding | None:
    """All good pulses of the last duration_s beyond a limit, good pulses covering at least two thirds of it."""
    for name, line in evidence.abp.items():
        first = now - round(duration_s * evidence.fs)
        pulses = [pulse for pulse in line.pulses if pulse.end > first and not pulse.reasons]
        if not pulses or line.since > first:
            continue
        values = [float(getattr(pulse, number)) for pulse in pulses]
        beyond = all((below is not None and value < below) or (above is not None and value > above) for value in values)
        covered = sum(pulse.end - max(pulse.sample, first) for pulse in pulses) / evidence.fs
        if beyond and covered >= duration_s * 2 / 3 and now - pulses[-1].end < FRESH_PULSE_S * evidence.fs:
            seen = {f"{number}_mmhg": round(fmean(values), 1), "pulses": len(pulses)}
            return Finding(max(first, pulses[0].sample), now, name, seen)
    return None


def _technical(
    channels: Mapping[str, EcgEvidence | PressureEvidence],
    now: int,
    fs: float,
    least_s: float,
    since_of: Callable[[Worth], int | None],
) -> Finding | None:
    """A channel that has been so for least_s."""
    for name, channel in channels.items():
        since = since_of(channel.worth)
        if since is not None and now - since >= least_s * fs:
            return Finding(since, since + round(least_s * fs), name, {"reasons": sorted(channel.worth.reasons)})
    return None


def lead_off(evidence: Evidence, now: int, limits: AlarmLimits) -> Finding | None:
    return _technical(evidence.ecg, now, evidence.fs, limits.lead_off_s, lambda worth: worth.unreadable_since)


def ecg_noise(evidence: Evidence, now: int, limits: AlarmLimits) -> Finding | None:
    """Every lead is too noisy to judge: one good lead is enough to go on."""
    if any(lead.worth.good for lead in evidence.ecg.values()):
        return None
    return _technical(evidence.ecg, now, evidence.fs, limits.noise_s, lambda worth: worth.disturbed_since)


def abp_artifact(evidence: Evidence, now: int, limits: AlarmLimits) -> Finding | None:
    """The line does not show the patient's pressure: damped, flushed, disconnected and the like; the reasons say which."""
    return _technical(evidence.abp, now, evidence.fs, limits.abp_artifact_s, lambda worth: worth.bad_since)


# Kind, priority after IEC 60601-1-8, rule. Ventricular tachycardia needs the beats' classes: `alarms.ventricular`.
RULES: tuple[tuple[AlarmKind, Priority, Rule], ...] = (
    ("asystole", "high", asystole),
    ("bradycardia", "high", bradycardia),
    ("tachycardia", "high", tachycardia),
    ("atrial_fibrillation", "medium", atrial_fibrillation),
    ("hypotension", "medium", hypotension),
    ("hypertension", "medium", hypertension),
    ("ecg_noise", "low", ecg_noise),
    ("lead_off", "low", lead_off),
    ("abp_artifact", "low", abp_artifact),
)
