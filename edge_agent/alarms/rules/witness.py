"""What each signal can say of a stretch of time: the QRS of every lead, the pulses of every line. Rules weigh them against each other."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from edge_agent.alarms import pulses
from edge_agent.alarms.evidence import EcgEvidence, Evidence, PressureEvidence
from edge_agent.signal.slope_beats import agreement

UNEVEN = 0.25
DISTURBED = frozenset({"noise", "hum", "wander", "disagreement"})
"""A lead that is no worse than this may still show its beats; whether it does, another signal must say."""
NEAR_S = 0.15
AGREED = 0.95
LEAST_PULSES = 4


def lines(evidence: Evidence) -> Iterator[tuple[str, PressureEvidence]]:
    """Arterial lines first, then pleths."""
    yield from evidence.abp.items()
    yield from evidence.pleth.items()


def good_leads(evidence: Evidence) -> dict[str, EcgEvidence]:
    return {name: lead for name, lead in evidence.ecg.items() if lead.worth.good}


def vouched(evidence: Evidence, channel: str, beats: list[int]) -> bool:
    """Whether these beats of a lead can be counted on.

    Those of a good lead can. Those of a disturbed one can if another signal, whose noise is another, has the same:
    beat by beat in another lead, or as many
    valid pulses.
    """
    lead = evidence.ecg[channel]
    if not beats or not _there(lead, beats[0]):
        return False
    return (lead.worth.good and lead.since <= beats[0]) or seconded(evidence, channel, beats)


def seconded(evidence: Evidence, channel: str, beats: list[int]) -> bool:
    """Whether another signal shows these beats of a lead as well: two do not err alike."""
    if not beats or not _there(evidence.ecg[channel], beats[0]):
        return False
    first, last = beats[0], beats[-1]
    near = round(NEAR_S * evidence.fs)
    for name, other in evidence.ecg.items():
        if name != channel and _there(other, first):
            theirs = beats_between(other, first - near, last + near)
            if agreement(beats, theirs, near) >= AGREED:
                return True
    late = round(pulses.ARRIVAL_S * evidence.fs)
    return any(
        line.count >= LEAST_PULSES and abs(line.count - len(beats)) <= 1
        for line in pulsing_between(evidence, first + late // 2, last + late)
    )


def connected(lead: EcgEvidence) -> bool:
    """At worst disturbed."""
    return lead.worth.quality is not None and set(lead.worth.reasons) <= DISTURBED


def _there(lead: EcgEvidence, first: int) -> bool:
    """Connected, and at worst disturbed since then."""
    return connected(lead) and all(
        not one.reasons or set(one.reasons) <= DISTURBED for one in lead.qualities if one.sample > first
    )


@dataclass(frozen=True, slots=True)
class Pulsing:
    """What a line that can be believed shows of a stretch."""

    channel: str
    count: int
    """Pulses that look like the patient's own; 0 where most of what is there does not."""
    rate_per_min: float | None
    regular: bool
    """Every interval is within a quarter of the median: what a true, steady circulation gives."""


def pulsing_between(evidence: Evidence, first: int, last: int) -> list[Pulsing]:
    """By the patient's own usual pulse (`alarms.pulses`); until there is one, pulses that break no rule of jSQI's on a good line."""
    found = []
    believed = {one.channel: one for one in pulses.pulses_between(evidence, first, last)}
    for name, line in lines(evidence):
        if name in believed:
            one = believed[name]
            old = pulses.usual_pulses(line, evidence.fs, last, name in evidence.abp)
            size = 0.0 if old is None else old.amplitude
            at = [p.sample for p in line.seen if first <= p.sample < last and pulses.is_valid(p, size, one.arterial)]
            found.append(_pulsing(name, at if one.going_on else [], evidence.fs))
        elif line.worth.good and line.since <= first and not _used_to_pulse(line, last, evidence.fs):
            at = [p.sample for p in line.pulses if first <= p.sample < last and not p.reasons]
            found.append(_pulsing(name, at, evidence.fs))
    return found


def _used_to_pulse(line: PressureEvidence, last: int, fs: float) -> bool:
    """There were enough pulses to know its usual one: that it is not believed all the same has its reason."""
    old = [p for p in line.seen if last - pulses.USUAL_FROM_S * fs <= p.sample < last - pulses.USUAL_TO_S * fs]
    return len(old) >= pulses.LEAST_USUAL


def _pulsing(channel: str, at: list[int], fs: float) -> Pulsing:
    steps = sorted(b - a for a, b in itertools.pairwise(at))
    middle = steps[len(steps) // 2] if steps else 0
    regular = len(steps) >= 2 and all(abs(step - middle) <= UNEVEN * middle for step in steps)
    return Pulsing(channel, len(at), 60 * fs / middle if middle else None, regular)


def beats_between(lead: EcgEvidence, first: int, last: int) -> list[int]:
    return [beat for beat in lead.beats if first <= beat <= last]


def rate_of(beats: Iterable[int], fs: float) -> float | None:
    """Per minute, of three beats or more."""
    listed = list(beats)
    return (len(listed) - 1) * 60 * fs / (listed[-1] - listed[0]) if len(listed) >= 3 else None
