"""Ventricular tachycardia by the beats' shapes, without a model: five in a row, faster than 100 /min, that do not look
like this patient's usual beat but like each other.

Shape is correlation, size and steepness of the QRS against the median of the two minutes before (`signal.texture`), as a
monitor's template matching has it (Krasteva & Jekova 2007, "QRS template matching for recognition of ventricular ectopic
beats"). One of the five may look usual: a capture or fusion beat does not end a tachycardia. A lead that shows the usual beats
meanwhile is against it; noise resembles neither the usual beat nor itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from edge_agent.alarms.limits import AlarmLimits
from edge_agent.alarms.rules.base import Finding, confidence
from edge_agent.alarms.rules.fibrillation import KNOWN_BEAT
from edge_agent.alarms.signs import resemblance
from edge_agent.journey import BeatShape, Texture

UNLIKE = 0.6
"""A beat that resembles the usual one less than this is not of its kind."""
AGAIN = 0.8
"""What repeats itself so well is no noise."""
SHARPER_LOG = 0.2
"""Ventricular beats are broad. Steeper ones than the usual are the patient's narrow beats, after broad ones have become usual."""
LIKE = 0.9
SAME_LOG = 0.3
"""A beat of the usual kind differs in size and steepness by no more than a third."""
USUAL_BEATS = 1
"""So many of the run may look usual."""
FASTER = 1.1
"""Than the rhythm before, where it is known: no faster than that is a change of conduction."""
LEAST_STEPS = 3
LONGEST_S = 1.0
MOST_PER_MIN = 300.0
MARGIN_S = 0.1
NEWEST_S = 3.0
"""A run stands for so long after its last beat."""


class Shown(NamedTuple):  # made five times a second
    """What a lead shows: its beats' shapes, newest last, and since when it has been clear enough."""

    channel: str
    clear_since: int
    shapes: Sequence[BeatShape]
    textures: Sequence[Texture]

    def knows(self, first: int) -> bool:
        """There was a usual beat to be compared with then, and the lead was clear."""
        return first >= self.clear_since and self.has_usual(first)

    def has_usual(self, first: int) -> bool:
        usual = next((one.usual for one in reversed(self.textures) if one.sample <= first), 0.0)
        return usual >= KNOWN_BEAT


def unlike_run(leads: Iterable[Shown], fs: float, now: int, limits: AlarmLimits) -> Finding | None:
    """The run that nothing is against before one that something is."""
    listed = [lead for lead in leads if lead.shapes]
    found = [one for lead in listed if (one := _of(lead, listed, fs, now, limits)) is not None]
    return min(found, key=lambda one: one.against is not None, default=None)


def _of(lead: Shown, leads: Sequence[Shown], fs: float, now: int, limits: AlarmLimits) -> Finding | None:
    """The newest run of the last seconds: shapes become known some beats at a time, so the run need not end the list."""
    least = limits.ventricular_beats
    for end in range(len(lead.shapes), least - 1, -1):
        last = lead.shapes[end - 1]
        if now - last.sample > NEWEST_S * fs:
            return None
        if resemblance(last) >= UNLIKE:
            continue  # nearly always
        run = lead.shapes[end - least : end]
        if (
            _is_run(run, fs, limits)
            and lead.knows(run[0].sample)
            and _is_faster(run, lead.shapes[: end - least + 1], fs)
        ):
            return _weighed(lead, run, leads, fs)
    return None


def _is_run(run: Sequence[BeatShape], fs: float, limits: AlarmLimits) -> bool:
    steps = [b.sample - a.sample for a, b in pairwise(run)]
    if max(steps) > LONGEST_S * fs or not limits.ventricular_per_min < _rate(run, fs) < MOST_PER_MIN:
        return False
    if sorted(one.slope_log for one in run)[-1 - USUAL_BEATS] > SHARPER_LOG:
        return False
    unlike = [resemblance(one) < UNLIKE for one in run]
    return unlike[-1] and sum(unlike) >= len(run) - USUAL_BEATS and median(one.again for one in run[1:]) >= AGAIN


def _is_faster(run: Sequence[BeatShape], before: Sequence[BeatShape], fs: float) -> bool:
    """Than the rhythm out of which it came: than what was there before the beats became unlike the usual one."""
    end = len(before)
    while end and resemblance(before[end - 1]) < UNLIKE:
        end -= 1
    steps = [b.sample - a.sample for a, b in pairwise(before[:end])]
    return len(steps) < LEAST_STEPS or _rate(run, fs) > FASTER * 60 * fs / median(steps)


def _rate(run: Sequence[BeatShape], fs: float) -> float:
    return (len(run) - 1) * 60 * fs / max(1, run[-1].sample - run[0].sample)


def _weighed(lead: Shown, run: Sequence[BeatShape], leads: Sequence[Shown], fs: float) -> Finding:
    first, last = run[0].sample, run[-1].sample
    margin, speak, against = round(MARGIN_S * fs), 1, []
    for other in leads:
        if other.channel == lead.channel or not other.has_usual(first):
            continue
        theirs = [one for one in other.shapes if first - margin <= one.sample <= last + margin]
        if len(theirs) < 2:
            continue
        usual = sum(is_usual(one) for one in theirs)
        most = usual > len(theirs) / 2
        if not most and not other.knows(first):
            continue  # a lead that was not clear, or is not any more, may hide the usual beats; it makes none up
        speak += 1
        if most:
            against.append(f"{other.channel} shows {usual} of {len(theirs)} usual beats")
    seen = {
        "rate_per_min": round(_rate(run, fs), 1),
        "beats": sum(resemblance(one) < UNLIKE for one in run),
        "again": round(median(one.again for one in run[1:]), 2),
        "by": "shape",
    }
    return Finding(first, last, lead.channel, seen, confidence(speak - len(against), speak), "; ".join(against) or None)


def is_usual(one: BeatShape) -> bool:
    return one.alike >= LIKE and abs(one.size_log) <= SAME_LOG and abs(one.slope_log) <= SAME_LOG
