"""Ventricular beats that one lead alone shows. Movement makes bumps of a QRS's size and width, on which detectors agree and which a model
calls ventricular; but each electrode moves by itself, and a beat of the heart is in every lead (Li, Mark & Clifford 2008 compare leads
likewise, iSQI)."""

from __future__ import annotations

from collections.abc import Sequence

from edge_agent.alarms.judged import Judged
from edge_agent.alarms.signs import DETECTED_S
from edge_agent.journey import UNREADABLE

NEAR_S = 0.15
RESTLESS_S = 16.0
"""A lead that was bad so lately is believed only where another one shows ventricular beats, too."""
LEAST_SHARE = 0.5
LEAST_PLACES = 2


def alone(judged: Judged, channel: str, at: Sequence[int]) -> list[str]:
    """What the other connected leads say against ventricular beats of this lead at these places; nothing, where there are none."""
    others = [lead for lead in judged.scene.leads if lead.channel != channel and not UNREADABLE & set(lead.reasons)]
    near = round(NEAR_S * judged.fs)
    known = [one for one in at if one + DETECTED_S * judged.fs <= judged.scene.known]
    against = []
    for lead in others:
        counts = lead.good and bool(lead.beats) and max(lead.since, lead.beats[0]) <= at[0]
        if counts and len(known) >= LEAST_PLACES:
            missing = len(known) - _places(known, lead.beats, near)
            if missing >= LEAST_SHARE * len(known):
                against.append(f"{lead.channel} shows no beat at {missing} of {len(known)}")
    if not against and others and _is_restless(judged, channel, at[0]):
        names = {lead.channel for lead in others}
        shown = [
            _places(at, [beat.sample for beat in beats if beat.label == "V"], near)
            for (other, _), beats in judged.beats.items()
            if other in names
        ]
        if max(shown, default=0) < LEAST_SHARE * len(at):
            against.append(f"{channel} was disturbed lately and no other lead shows it")
    return against


def _is_restless(judged: Judged, channel: str, first: int) -> bool:
    lead = judged.scene.lead(channel)
    # A lead that has been good from the stream's first sample on has never been seen to be disturbed.
    return lead is not None and (not lead.good or lead.since > max(0, first - round(RESTLESS_S * judged.fs)))


def _places(at: Sequence[int], beats: Sequence[int], near: int) -> int:
    return sum(any(abs(beat - one) <= near for beat in beats) for one in at)
