"""The heart stands still: asystole, and the pause that passes.

Asystole: no QRS for 4 s (PhysioNet/CinC Challenge 2015; Clifford et al. 2015). Pause: 3 s (Kusumoto et al. 2018, "ACC/AHA/HRS guideline on
bradycardia and cardiac conduction delay").
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from edge_agent.alarms.evidence import EcgEvidence, Evidence
from edge_agent.alarms.limits import AlarmLimits
from edge_agent.alarms.rules.base import ARREST, DETECTION_S, QUIVERS, Finding, Rule, confidence
from edge_agent.alarms.rules.fibrillation import KNOWN_BEAT, swings_now
from edge_agent.alarms.rules.witness import DISTURBED, NEAR_S, beats_between, connected, good_leads, pulsing_between
from edge_agent.alarms.signs import resemblance

QUIET_SIZE_LOG = -0.9
"""A second with less than two fifths of the lead's usual amplitude, in which no beat was found either, holds none."""
STRAY = 0.4
"""Resemblance to the usual beat below which a beat may be none."""
LOOKED_AT = 8
LATE_PULSES = 1
"""One pulse may still be the last beat's, on its way to the wrist."""


def asystole(evidence: Evidence, now: int, limits: AlarmLimits) -> Finding | None:
    """No QRS in any good lead for asystole_s; pulses that go on are against it. Where the line is not still it may be a fibrillation, which
    shows no QRS either and takes fibrillation_s to be told: for so long it has the first word."""
    found = _silence(evidence, now, limits.asystole_s)
    if found is None or "asystole" in evidence.standing:
        return found
    told = found.since + round((limits.asystole_s + DETECTION_S + limits.fibrillation_s) * evidence.fs)
    return None if now < told and _moves(evidence, found.evidence["leads"]) else found


def pause(evidence: Evidence, now: int, limits: AlarmLimits) -> Finding | None:
    """The same for pause_s, less than an asystole; where that alarm is off nobody else would say that the heart stands still."""
    found = _silence(evidence, now, limits.pause_s)
    if found is None or "asystole" in limits.off:
        return found
    return None if now - found.since >= (limits.asystole_s + DETECTION_S) * evidence.fs else found


def _silence(evidence: Evidence, now: int, seconds: float) -> Finding | None:
    fs = evidence.fs
    needed = (seconds + DETECTION_S) * fs
    good = good_leads(evidence)
    silent = {}
    for name, lead in good.items():
        silent[name] = last = max(_last_beat(evidence, name), lead.since)
        if now - last < needed:
            return None  # a good lead has seen a beat
    for name, lead in evidence.ecg.items():
        quiet = None if name in good else _quiet_since(lead, now, fs)
        if quiet is not None and now - quiet >= needed and not beats_between(lead, quiet, now):
            silent[name] = quiet
    if not silent:
        return None
    channel = max(silent, key=silent.__getitem__)  # the lead that was the last to see a beat
    since = silent[channel]
    lines = pulsing_between(evidence, now - round(seconds * fs), now)
    pulsing = [line for line in lines if line.count > LATE_PULSES]
    seen = {
        "silent_s": round((now - since) / fs, 2),
        "leads": sorted(silent),
        "pulses": max((line.count for line in lines), default=0),
    }
    speak = len(silent) + len(lines)
    against = [f"{line.channel} pulses on: {line.count} in {seconds:g} s" for line in pulsing[:1]]
    # What swings is not still: should it swing on for long enough it is a fibrillation, and raised as one.
    against += [f"{name} swings" for name in sorted(silent) if swings_now(evidence.ecg[name], now, fs)]
    agree = confidence(speak - len(pulsing), speak)
    return Finding(since, since + round(seconds * fs), channel, seen, agree, "; ".join(against) or None)


def _moves(evidence: Evidence, leads: Sequence[str]) -> bool:
    """The last second of one of them is not quiet."""
    newest = [evidence.ecg[name].textures[-1] for name in leads if evidence.ecg[name].textures]
    return any(one.last_size_log > QUIET_SIZE_LOG for one in newest)


def _last_beat(evidence: Evidence, name: str) -> int:
    """The newest beat, strays left out: what looks nothing like the patient's usual beat and is in no other connected lead is the noise
    of a still line. Until its shape is known a beat counts, and a lead that is alone is always believed."""
    lead = evidence.ecg[name]
    if not lead.beats:
        return lead.since
    others = [one for other, one in evidence.ecg.items() if other != name and connected(one)]
    if not others or not lead.textures or lead.textures[-1].usual < KNOWN_BEAT:
        return lead.beats[-1]
    near = round(NEAR_S * evidence.fs)
    elsewhere = [beat for one in others for beat in islice(reversed(one.beats), LOOKED_AT)]
    shapes = {one.sample: one for one in islice(reversed(lead.shapes), LOOKED_AT)}
    for beat in islice(reversed(lead.beats), LOOKED_AT):
        shape = shapes.get(beat)
        if shape is None or resemblance(shape) >= STRAY or any(abs(beat - one) <= near for one in elsewhere):
            return beat
    return lead.beats[-1]


def _quiet_since(lead: EcgEvidence, now: int, fs: float) -> int | None:
    """From when on each second of a disturbed lead has been all but flat: what disturbs it is then no greater than that."""
    if lead.worth.quality is None or not set(lead.worth.reasons) <= DISTURBED:
        return None
    if not lead.textures or now - lead.textures[-1].sample > 1.5 * fs:
        return None
    since = None
    for one in reversed(lead.textures):
        if one.last_size_log > QUIET_SIZE_LOG:
            break
        since = one.sample - round(fs)
    return since


RULES: tuple[Rule[Evidence], ...] = (
    Rule("asystole", "high", asystole, under=QUIVERS),
    Rule("pause", "medium", pause, under=ARREST),
)
