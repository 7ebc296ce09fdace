"""A second opinion: how likely is *this* alarm of a monitor, given what was seen up to it?

Another question than a rule's. A rule watches all day and must be right about the hour; here a monitor has already found
something, nine times in ten wrongly, and only the last 16 s count, held against the two minutes before. What speaks: each ECG
lead's beats, their shapes and the lead's texture, the quality of each, and every arterial or pleth pulse that can be believed.

Small classes are rules with wide plateaus, because fifty records teach no statistics; ventricular tachycardia, of which there
are three times as many, is weighed by a logistic over a few numbers (`ventricular_signs`), delivered as an artifact like any
model, and by the points of `scorecard` where there is none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, get_args

from edge_agent.alarms.evidence import Evidence
from edge_agent.alarms.pulses import Pulses
from edge_agent.alarms.signs import (
    Lead,
    PulseTrain,
    Signs,
    beat_run,
    comparable,
    fastest,
    least_peaked,
    look,
    pulse_trains,
    readable,
    similarity,
    slowest,
    texture_run,
    usual_rate,
)
from edge_agent.errors import RequestError

Kind = Literal["asystole", "bradycardia", "tachycardia", "ventricular_tachycardia", "ventricular_fibrillation"]
KINDS: tuple[str, ...] = get_args(Kind)
Answer = Literal["true", "false", "cannot say"]

AGAINST_THE_USUAL = frozenset({"asystole", "ventricular_tachycardia"})
"""Kinds whose signs are differences from the patient's own beats; a rate can be counted, and a flutter seen, without knowing them."""
PAUSE_S = 3.2
"""Four seconds by definition; what is measured begins with the end of the last beat's stretch."""
SILENT_LOG = -1.4
"""The lead's size falls below a quarter of the usual."""
DEAD_LOG = -5.5
"""Below this a lead is not connected."""
WORTH = 0.5
"""Least agreement of a lead's usual beats for its silence to mean something."""
PLAINLY_BEATING_S = 2.5
SLOW_PER_MIN = 46.0
"""40 by definition; annotators disagree up to 47."""
SURELY_NOT_SLOW_PER_MIN = 55.0
QUICK_PER_MIN = 120.0
"""140 over 17 beats by definition; over nine, and leaning to true."""
COVERED = 0.85
HOLE_S = 2.6
"""Pulses with a longer hole in them have not gone on."""
WAVING = 0.85
"""Share of power below 6 Hz."""
ROUND = 4.0
"""Kurtosis."""
FAINT_LOG = -2.0
FIBRILLATION_STEPS = 8
"""Quarter seconds, each of which looks back over three: 5 s in all."""


@dataclass(frozen=True, slots=True)
class Opinion:
    answer: Answer
    probability: float
    """That the alarm is true. Of rules it is a mark in tenths, of the logistic what it was trained to say."""
    by: str
    """The rule, the scorecard or the model (name and version) that decided."""
    evidence: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Combiner:
    """The learned part, as its artifact has it."""

    name: str
    version: str
    features: tuple[str, ...]
    threshold: float
    ask: Callable[[Sequence[float]], float]


def opinion(
    evidence: Evidence,
    kind: str,
    at: int,
    combiner: Combiner | None = None,
    *,
    signals: Sequence[str] = ("abp", "pleth"),
) -> Opinion:
    """``signals``: which pulses may speak beside the ECG."""
    if kind not in KINDS:
        raise RequestError(f"kind: one of {', '.join(KINDS)} is wanted, found {kind!r}")
    signs = look(evidence, at, kinds=signals)
    if not readable(signs):
        return Opinion("cannot say", 0.5, "too little signal", _seen(signs))
    if kind in AGAINST_THE_USUAL and not comparable(signs):
        return Opinion("cannot say", 0.5, "no usual beat or pulse is known to hold it against", _seen(signs))
    match kind:
        case "asystole":
            return _asystole(signs)
        case "bradycardia":
            return _bradycardia(signs)
        case "tachycardia":
            return _tachycardia(signs)
        case "ventricular_fibrillation":
            return _fibrillation(signs)
        case _:
            return _ventricular(signs, combiner)


def _says(signs: Signs, probability: float, by: str, threshold: float = 0.5, **numbers: Any) -> Opinion:
    return Opinion("true" if probability >= threshold else "false", probability, by, {**numbers, **_seen(signs)})


def _seen(signs: Signs) -> dict[str, Any]:
    return {
        "leads": {
            lead.name: {"quality": round(lead.quality, 2), "usual": round(lead.usual, 2)} for lead in signs.leads
        },
        "pulses": {
            one.channel: {
                "valid": one.count,
                "doubtful": one.doubtful,
                "longest_s": round(one.longest_s, 1),
                "rate_per_min": None if one.rate_per_min is None else round(one.rate_per_min, 1),
                "systolic_part": None if one.systolic_fall is None else round(one.systolic_fall, 2),
            }
            for one in signs.pulses
        },
    }


# -- rules ---------------------------------------------------------------------------------------------------------------------


def _asystole(signs: Signs) -> Opinion:
    """A lead that knows its beat shows nothing like it for a while, has gone quiet, and no pulse goes through."""
    silent: dict[str, float] = {}
    for lead in signs.leads:
        pause = _silence(lead)
        if pause >= PAUSE_S:
            silent[lead.name] = round(pause, 1)
        elif lead.usual >= 0.8 and lead.quality >= 0.5 and _plainly_beating(lead):
            others = any(one is not lead and (_silence(one) >= PAUSE_S or _dead(one)) for one in signs.leads)
            return _says(signs, 0.1, f"{'another' if others else 'a'} lead goes on beating", lead=lead.name)
    dead = [lead.name for lead in signs.leads if _dead(lead)]
    if not silent and not dead:
        return _says(signs, 0.1, "no lead falls silent")
    through = [one.channel for one in signs.pulses if one.longest_s < PAUSE_S]
    if through:
        return _says(signs, 0.1, "pulses go through the pause", unlike_usual_s=silent, channels=through)
    if not silent:  # its fall was long ago: no news of a heart, and none of its standing still
        return Opinion("cannot say", 0.5, "the lead is a still line", {"leads_still": dead, **_seen(signs)})
    return _says(signs, 0.9, "silent", unlike_usual_s=silent)


def _silence(lead: Lead) -> float:
    """Longest time without anything like the usual beat, of the pauses in which the lead's size fell."""
    longest, fell = 0.0, False
    for before, one in pairwise(lead.textures):
        if one.unlike_s < before.unlike_s:
            fell = False
        fell = fell or DEAD_LOG < one.size_log < SILENT_LOG
        if fell and one.usual >= WORTH:
            longest = max(longest, one.unlike_s)
    return longest


def _dead(lead: Lead) -> bool:
    """It showed beats once, and now for all these 16 s nothing: the heart stands still, or the electrode is off."""
    return lead.usual >= WORTH and bool(lead.textures) and max(one.size_log for one in lead.textures) <= DEAD_LOG


def _plainly_beating(lead: Lead) -> bool:
    return bool(lead.textures) and max(one.unlike_s for one in lead.textures) < PLAINLY_BEATING_S


def _bradycardia(signs: Signs) -> Opinion:
    """Pulses first, if they go on without a doubtful one; then the leads, which must agree as far as they can be read."""
    trains = pulse_trains(signs)
    covering = [one for one in trains if one.covered >= COVERED and one.slowest is not None]
    rates = {one.channel: round(one.slowest or 0.0, 1) for one in trains}
    longest_s = {one.channel: one.longest_s for one in signs.pulses}
    for one in covering:
        if (one.slowest or 0.0) >= SURELY_NOT_SLOW_PER_MIN and longest_s[one.channel] < HOLE_S:
            return _says(signs, 0.05, "pulses are not slow", pulse_rates=rates)
    for one in covering:
        if (one.slowest or 0.0) < SLOW_PER_MIN:
            return _says(signs, 0.9, "pulses are slow", pulse_rates=rates)
    slow = {lead.name: slowest(signs.fs, lead, 5) for lead in signs.leads if lead.quality >= 0.5}
    if not slow:
        return _says(signs, 0.5, "no lead is good enough to refute it", pulse_rates=rates)
    known = {name: round(rate, 1) for name, rate in slow.items() if rate is not None}
    if not known:
        return _says(signs, 0.3, "no lead shows five beats", pulse_rates=rates)
    voices = [
        *known.values(),
        *(sparse for one in trains if (sparse := one.sparse) is not None and longest_s[one.channel] >= HOLE_S),
    ]
    agree = max(known.values()) < SLOW_PER_MIN or sum(voice < SLOW_PER_MIN for voice in voices) >= 2
    return _says(signs, 0.8 if agree else 0.2, "leads", lead_rates=known, pulse_rates=rates)


def _tachycardia(signs: Signs) -> Opinion:
    """Leaning to true: a monitor seldom counts too fast. Refuted by slow leads, or by pulses that go on unchanged."""
    rates = {lead.name: round(fastest(signs.fs, lead, 9), 1) for lead in signs.leads}
    trains = {one.channel: one for one in pulse_trains(signs)}
    for one in signs.pulses:
        train = trains.get(one.channel)
        if train is not None and _unmoved(one, train):
            return _says(signs, 0.1, "pulses go on, slower and unchanged", rates=rates, channel=one.channel)
    best = max(rates.values(), default=0.0)
    if 0.0 < best < QUICK_PER_MIN:
        return _says(signs, 0.1, "no lead is quick", rates=rates)
    return _says(signs, 0.9, "a lead is quick" if best else "nothing refutes it", rates=rates)


def _unmoved(one: Pulses, train: PulseTrain) -> bool:
    """Arterial only: a probe may show every other beat of a tachycardia as a good pulse."""
    if train.fastest is None or train.fastest >= QUICK_PER_MIN or train.covered < 0.9:
        return False
    return one.systolic_fall is not None and one.systolic_fall > 0.85


def _fibrillation(signs: Signs) -> Opinion:
    """One smooth oscillation in all leads for five seconds, unlike the usual beat, and no pulse."""
    for train in pulse_trains(signs):
        if train.covered >= 0.5:
            return _says(signs, 0.05, "pulses go on", channel=train.channel)
    leads = [lead for lead in signs.leads if len(lead.textures) >= FIBRILLATION_STEPS and lead.quality > 0.0]
    at: dict[int, list[bool]] = {}
    for lead in leads:
        for one in lead.textures:
            unlike = one.alike < 0.7 or one.usual < WORTH
            waving = one.slow > WAVING and one.peaked < ROUND and one.size_log > FAINT_LOG
            at.setdefault(one.sample, []).append(unlike and waving)
    longest = run = 0
    for sample in sorted(at):
        run = run + 1 if len(at[sample]) == len(leads) and all(at[sample]) else 0
        longest = max(longest, run)
    holds = longest >= FIBRILLATION_STEPS
    return _says(
        signs, 0.7 if holds else 0.05, "oscillation" if holds else "no oscillation in all leads", steps=longest
    )


# -- ventricular tachycardia ---------------------------------------------------------------------------------------------------


def ventricular_signs(signs: Signs) -> dict[str, float]:
    """The numbers that the combiner weighs; each is bounded, and known whatever is missing."""
    leads = [lead for lead in signs.leads if lead.textures and len(lead.shapes) >= 2]
    runs = [beat_run(signs.fs, lead) for lead in leads]
    ratios = []
    for lead in leads:
        usual = usual_rate(signs.fs, lead)
        if usual is not None:
            ratios.append(fastest(signs.fs, lead, 4) / usual)
    irregular = min((one.irregular for one in signs.pulses if one.irregular is not None), default=None)
    falls = [one.systolic_fall for one in signs.pulses if one.systolic_fall is not None]
    return {
        "texture_run": texture_run(leads),
        "beat_run": sum(runs) / len(runs) if runs else 0.0,
        "similarity": max(0.0, sum(similarity(lead) for lead in leads) / len(leads)) if leads else 0.0,
        "rate_ratio_log": math.log(min(4.0, max(0.5, min(ratios)))) if ratios else 0.0,
        "quality": sum(lead.quality for lead in signs.leads) / len(signs.leads) if signs.leads else 0.0,
        "peaked_log": math.log(min(12.0, max(1.5, least_peaked(leads)))),
        "pulse_irregular_log": 0.0 if irregular is None else math.log(min(1.0, max(0.01, irregular)) / 0.1),
        "systolic_fall": 0.0 if not falls else min(0.6, max(0.0, 1.0 - min(falls))),
    }


VENTRICULAR_SIGNS = (
    "texture_run",
    "beat_run",
    "similarity",
    "rate_ratio_log",
    "quality",
    "peaked_log",
    "pulse_irregular_log",
    "systolic_fall",
)


def _ventricular(signs: Signs, combiner: Combiner | None) -> Opinion:
    numbers = ventricular_signs(signs)
    shown = {name: round(value, 3) for name, value in numbers.items()}
    if combiner is None:
        return _says(signs, scorecard(numbers), "scorecard", **shown)
    probability = combiner.ask([numbers[name] for name in combiner.features])
    return _says(signs, probability, f"{combiner.name} {combiner.version}", combiner.threshold, **shown)


def scorecard(numbers: dict[str, float]) -> float:
    """Points for what speaks for a ventricular tachycardia; five of them or more is true."""
    points = (
        2 * (numbers["beat_run"] > 0.35)
        + (numbers["beat_run"] > 0.2)
        + (numbers["texture_run"] > 0.2)
        + (numbers["similarity"] > 0.7)
        + (numbers["quality"] > 0.6)
        + (numbers["rate_ratio_log"] > 0.3)
        + (numbers["pulse_irregular_log"] > 0.0)
        + (numbers["systolic_fall"] > 0.2)
        - (numbers["pulse_irregular_log"] < -1.0)
    )
    return min(1.0, max(0.0, float(points) / 10.0))
