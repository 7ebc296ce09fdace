"""What the last 16 s show that can speak for or against a rhythm alarm, against the two minutes before: numbers, no judgement.

Every number is taken from the evidence at a moment ``at`` and uses nothing that became known later, so an alarm of a minute ago is judged
as it could have been judged then.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median

from edge_agent.alarms.evidence import EcgEvidence, Evidence
from edge_agent.alarms.pulses import Pulses, is_valid, pulses_between, usual_pulses
from edge_agent.journey import BeatShape, Texture

LOOK_S = 16.0
"""A monitor alarms at most 10 s after the onset; the rest is for what led to it."""
DETECTED_S = 0.4
"""A beat is known up to this long after it happened: younger ones were not, when the alarm came."""
RUN_BEATS = 5
FAST_S = (0.8, 0.5)
"""Mean interval of a run that is not fast at all, and that is as fast as can be asked for."""
SIZE_PART = SLOPE_PART = 0.5


@dataclass(frozen=True, slots=True)
class Lead:
    """One lead's last 16 s."""

    name: str
    textures: tuple[Texture, ...]
    shapes: tuple[BeatShape, ...]
    before: tuple[BeatShape, ...]
    """The shapes of the two minutes before."""
    beats: tuple[int, ...]
    quality: float
    """Mean score; 0 where there was nothing to judge."""

    @property
    def usual(self) -> float:
        return self.textures[-1].usual if self.textures else 0.0


@dataclass(frozen=True, slots=True)
class Signs:
    fs: float
    at: int
    since: int
    leads: tuple[Lead, ...]
    pulses: tuple[Pulses, ...]
    """Of the channels that can be believed."""
    evidence: Evidence


def look(evidence: Evidence, at: int, *, ecg_only: bool = False, kinds: Sequence[str] = ("abp", "pleth")) -> Signs:
    """``ecg_only`` and ``kinds``: leave channels out, to see what they are worth."""
    fs = evidence.fs
    since = at - round(LOOK_S * fs)
    pulses = () if ecg_only else tuple(pulses_between(evidence, since, at))
    pulses = tuple(one for one in pulses if ("abp" if one.arterial else "pleth") in kinds)
    return Signs(
        fs, at, since, tuple(_lead(n, one, since, at, fs) for n, one in evidence.ecg.items()), pulses, evidence
    )


def _lead(name: str, lead: EcgEvidence, since: int, at: int, fs: float) -> Lead:
    known = [one for one in lead.shapes if one.known < at]
    scores = [one.score for one in lead.qualities if since < one.sample and one.known < at]
    return Lead(
        name=name,
        textures=tuple(one for one in lead.textures if since < one.sample and one.known < at),
        shapes=tuple(one for one in known if one.sample >= since),
        before=tuple(one for one in known if one.sample < since),
        beats=tuple(beat for beat in lead.beats if since <= beat < at - round(DETECTED_S * fs)),
        quality=fmean(scores) if scores else 0.0,
    )


def readable(signs: Signs) -> bool:
    """Whether there is anything to go by: half of the 16 s in a lead that is worth something or was, or a pulse that can be believed."""
    return bool(signs.pulses) or any(
        len(lead.textures) >= 2 * LOOK_S and (lead.quality > 0 or lead.usual > 0) for lead in signs.leads
    )


def comparable(signs: Signs) -> bool:
    """Whether anything is known of how this patient's heart usually looks: a beat, or a pulse."""
    return bool(signs.pulses) or any(lead.usual > 0 for lead in signs.leads)


# -- ECG -----------------------------------------------------------------------------------------------------------------------


def texture_run(leads: Sequence[Lead]) -> float:
    """0 to 1: the quarter second at which all leads together look most like a ventricular rhythm: they repeat, are unlike the
    usual beat, and slow."""
    at: dict[int, list[float]] = {}
    for lead in leads:
        for one in lead.textures:
            unlike = math.sqrt(min(1.0, max(0.0, 1.0 - one.alike)))
            at.setdefault(one.sample, []).append(one.repeats * unlike * one.slow)
    most = max(map(len, at.values()), default=0)
    return max((fmean(values) for values in at.values() if len(values) == most), default=0.0)


def least_peaked(leads: Sequence[Lead]) -> float:
    """The lowest kurtosis, leads taken together."""
    at: dict[int, list[float]] = {}
    for lead in leads:
        for one in lead.textures:
            at.setdefault(one.sample, []).append(one.peaked)
    most = max(map(len, at.values()), default=0)
    return min((fmean(values) for values in at.values() if len(values) == most), default=6.0)


def beat_run(fs: float, lead: Lead) -> float:
    """0 to 1: the five beats in a row that are most unlike the usual ones, alike among themselves and fast. The second most usual of
    the five counts: one fusion or capture beat does not end a run."""
    shapes = (*lead.before[-RUN_BEATS:], *lead.shapes)
    best = 0.0
    for last in range(RUN_BEATS - 1, len(shapes)):
        five = shapes[last - RUN_BEATS + 1 : last + 1]
        if five[-1].sample < lead.shapes[0].sample if lead.shapes else True:
            continue
        interval_s = (five[-1].sample - five[0].sample) / fs / (RUN_BEATS - 1)
        fast = min(1.0, max(0.0, (FAST_S[0] - interval_s) / (FAST_S[0] - FAST_S[1])))
        usual = sorted(resemblance(one) for one in five)[-2]
        among = max(0.0, median(one.again for one in five[1:]))
        best = max(best, math.sqrt(min(1.0, max(0.0, 1.0 - usual))) * fast * among)
    return best


def resemblance(shape: BeatShape) -> float:
    """To the usual beat, in shape, size and steepness; 1 is the same."""
    return shape.alike * math.exp(-SIZE_PART * abs(shape.size_log) + SLOPE_PART * min(0.0, shape.slope_log))


def similarity(lead: Lead) -> float:
    """How much each beat resembles the one before: near 1 in any regular rhythm, low in noise."""
    return median(one.again for one in lead.shapes) if lead.shapes else 0.0


def fastest(fs: float, lead: Lead, beats: int) -> float:
    """The highest rate over so many beats, per minute; 0 if there are too few."""
    return max(_rates(fs, lead.beats, beats), default=0.0)


def slowest(fs: float, lead: Lead, beats: int) -> float | None:
    return min(_rates(fs, lead.beats, beats), default=None)


def _rates(fs: float, samples: Sequence[int], beats: int) -> list[float]:
    return [
        60.0 * fs * (beats - 1) / (last - first)
        for first, last in zip(samples, samples[beats - 1 :], strict=False)
        if last > first
    ]


def usual_rate(fs: float, lead: Lead) -> float | None:
    """Of the two minutes before."""
    intervals = [b.sample - a.sample for a, b in pairwise(lead.before)]
    return 60.0 * fs / median(intervals) if len(intervals) >= 3 else None


# -- pulses --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PulseTrain:
    """The valid pulses of a believed channel, as rates."""

    channel: str
    covered: float
    """0 to 1: the share of the stretch that lies in valid pulses."""
    slowest: float | None
    """Over five pulses in a row of which none was doubtful."""
    fastest: float | None
    """Over nine."""
    sparse: float | None
    """The slowest over five valid pulses, whatever lies between them."""


def pulse_trains(signs: Signs) -> list[PulseTrain]:
    trains = []
    for one in signs.pulses:
        lines = signs.evidence.abp if one.arterial else signs.evidence.pleth
        line = lines[one.channel]
        usual = usual_pulses(line, signs.fs, signs.at, one.arterial)
        if usual is None:
            continue
        here = [pulse for pulse in line.seen if pulse.end > signs.since and pulse.known < signs.at]
        flags = [is_valid(pulse, usual.amplitude, one.arterial) for pulse in here]
        covered = sum(
            min(pulse.end, signs.at) - max(pulse.sample, signs.since)
            for pulse, good in zip(here, flags, strict=True)
            if good
        )
        trains.append(
            PulseTrain(
                one.channel,
                covered / (signs.at - signs.since),
                min(_train_rates(signs.fs, [p.sample for p in here], [p.end for p in here], flags, 5), default=None),
                max(_train_rates(signs.fs, [p.sample for p in here], [p.end for p in here], flags, 9), default=None),
                min(_rates(signs.fs, [p.sample for p, good in zip(here, flags, strict=True) if good], 5), default=None),
            )
        )
    return trains


def _train_rates(
    fs: float, starts: Sequence[int], ends: Sequence[int], good: Sequence[bool], pulses: int
) -> Iterable[float]:
    for first in range(len(starts) - pulses + 2):
        last = first + pulses - 2  # the end of the last interval's pulse is the onset of one more
        if last < len(starts) and all(good[first : last + 1]):
            yield 60.0 * fs * (pulses - 1) / (ends[last] - starts[first])
