"""Atrial fibrillation: the rhythm, as `alarms.rhythm_watch` follows it. The one rule that is asked on both lanes: where a model classes the
beats the verdict lane knows the rhythm better, and the pipeline leaves it the word.
"""

from __future__ import annotations

from edge_agent.alarms.evidence import Evidence
from edge_agent.alarms.judged import Judged
from edge_agent.alarms.limits import AlarmLimits
from edge_agent.alarms.rules.base import Finding, Rule


def atrial_fibrillation(evidence: Evidence, now: int, limits: AlarmLimits) -> Finding | None:
    """From the intervals alone, where no model classes the beats or none answers."""
    return None if evidence.judged else _finding(evidence)


def atrial_fibrillation_judged(judged: Judged, now: int, limits: AlarmLimits) -> Finding | None:
    """From the intervals between the heart's own beats, and what the rhythm model says of them."""
    return _finding(judged)


def _finding(known: Evidence | Judged) -> Finding | None:
    change = known.rhythm
    if change is None or change.rhythm != "AFIB":
        return None
    return Finding(change.since, change.known, change.channel, dict(change.evidence))


RULES: tuple[Rule[Evidence], ...] = (Rule("atrial_fibrillation", "medium", atrial_fibrillation, instead=True),)
VERDICT_RULES: tuple[Rule[Judged], ...] = (Rule("atrial_fibrillation", "medium", atrial_fibrillation_judged),)
