"""Ventricular beats in a row, from the model's classes: these rules are asked on the verdict lane.

Ventricular tachycardia: five or more, faster than 100 /min (PhysioNet/CinC Challenge 2015; Clifford et al. 2015).
Couplet, run (three or more, whatever
their rate) and bigeminy: the usual names (Buxton et al. 2006, "ACC/AHA/HRS key data elements and definitions for electrophysiology").

A lead in which the patient's own beats look odd makes them ventricular for the model, and that lead alone. So a run
is held against what the same model
says of the same seconds in the other good leads.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from edge_agent.alarms.evidence import Evidence
from edge_agent.alarms.judged import Judged, JudgedBeat
from edge_agent.alarms.limits import AlarmLimits
from edge_agent.alarms.rules.alone import alone
from edge_agent.alarms.rules.base import ARREST, RUNS, Finding, Rule, confidence
from edge_agent.alarms.rules.fibrillation import KNOWN_BEAT, MOST_ALIKE
from edge_agent.alarms.rules.unlike import Shown, is_usual, unlike_run
from edge_agent.alarms.rules.unmoved import unmoved
from edge_agent.alarms.scene import SHAPES, TEXTURES, LineScene
from edge_agent.journey import UNREADABLE
from edge_agent.signal.texture import USUAL_TO_S

OVER_S = 2.0
"""A run is over when no beat of it has come for so long."""
HOLD_S = 10.0
"""A couplet is an instant; its alarm stands for so long."""
NEXT_S = 3.0
"""Further apart two beats are no neighbours: there were others between them that no model was asked about."""
BIGEMINAL = 3
"""Pairs of an own and a ventricular beat."""
EARLY = 0.9
"""An extrasystole comes before its time and the beat after it waits: an even rhythm of which a model calls every other beat
ventricular (a slow one in noise, say) is none."""
LEAST_RUN = 3
IN_NOISE = 0.25
"""So many of another good lead's beats that are not ventricular are against a run; half of them where the lead itself is clear."""
COUPLET = [False, True, True, False]


def ventricular_tachycardia(judged: Judged, now: int, limits: AlarmLimits) -> Finding | None:
    """ventricular_beats in a row, by the model or by their shapes, faster than ventricular_per_min, and no good lead that shows other
    beats meanwhile."""
    least, limit = limits.ventricular_beats, limits.ventricular_per_min
    found = []
    for channel, run in _runs(judged, now):
        if len(run) >= least:
            newest = run[-least:]
            rate = (least - 1) * 60 * judged.fs / (newest[-1] - newest[0])
            if rate > limit:
                seen = {"rate_per_min": round(rate, 1), "beats": len(run)}
                found.append(_weighed(judged, channel, run, newest, seen))
    leads = [Shown(lead.channel, lead.clear_since, lead.shapes, lead.textures) for lead in judged.scene.leads]
    shape = unlike_run(leads, judged.fs, now, limits)
    return _best([_held(one, judged.scene.lines, judged.fs) for one in (found if shape is None else [*found, shape])])


def ventricular_tachycardia_unjudged(evidence: Evidence, now: int, limits: AlarmLimits) -> Finding | None:
    """By the beats' shapes alone, where no model classes the beats or none answers."""
    if evidence.judged:
        return None
    leads = [
        Shown(name, one.clear_since, list(one.shapes)[-SHAPES:], list(one.textures)[-TEXTURES:])
        for name, one in evidence.ecg.items()
    ]
    return unlike_run(leads, evidence.fs, now, limits)


def _held(found: Finding, lines: Sequence[LineScene], fs: float) -> Finding:
    """Against the pulses."""
    first = max(found.since, found.met - round(HOLD_S * fs))
    return _also(found, unmoved(lines, first, found.met, float(found.evidence["rate_per_min"]), fs))


def _also(found: Finding, against: Sequence[str]) -> Finding:
    return replace(found, against="; ".join(filter(None, [found.against, *against]))) if against else found


def ventricular_run(judged: Judged, now: int, limits: AlarmLimits) -> Finding | None:
    """Three or more in a row, at any rate."""
    found = []
    for channel, run in _runs(judged, now):
        if len(run) >= LEAST_RUN:
            rate = (len(run) - 1) * 60 * judged.fs / (run[-1] - run[0])
            seen = {"rate_per_min": round(rate, 1), "beats": len(run)}
            weighed = _weighed(judged, channel, run, run[:LEAST_RUN], seen)
            found.append(_also(weighed, alone(judged, channel, run[:LEAST_RUN])))
    return _best(found)


def ventricular_couplet(judged: Judged, now: int, limits: AlarmLimits) -> Finding | None:
    """Two between others."""
    found = []
    for channel, kept in _fresh(judged, now):
        if not _lately_ventricular(kept, now - HOLD_S * judged.fs):
            continue  # nearly always
        beats = list(kept)
        ventricular = [beat.label == "V" for beat in beats]
        for i, second in enumerate(ventricular[1:-2]):
            if not second or ventricular[i : i + 4] != COUPLET:
                continue
            four = beats[i : i + 4]
            pair = [four[1].sample, four[2].sample]
            apart = max(four[1].sample - four[0].sample, four[3].sample - four[2].sample)
            if pair[1] - pair[0] > OVER_S * judged.fs or apart > NEXT_S * judged.fs:
                continue
            if now - four[3].sample <= HOLD_S * judged.fs:
                seen = {"rr_ms": round((pair[1] - pair[0]) / judged.fs * 1000)}
                if _elsewhere(judged, channel, pair):
                    found.append(_weighed(judged, channel, pair, [*pair, four[3].sample], seen))
    return _best(found)


def ventricular_bigeminy(judged: Judged, now: int, limits: AlarmLimits) -> Finding | None:
    """Every other beat, for three pairs."""
    found = []
    for channel, beats in _fresh(judged, now):
        if len(beats) < 2 * BIGEMINAL or (beats[-1].label == "V") == (beats[-2].label == "V"):
            continue  # nearly always
        last = list(beats)[-2 * BIGEMINAL :]
        turns = [beat.label == "V" for beat in last]
        if len(last) == 2 * BIGEMINAL and all(a != b for a, b in itertools.pairwise(turns)):
            at = [beat.sample for beat in last]
            steps = [b - a for a, b in itertools.pairwise(at)]
            coupled, waited = (steps[1::2], steps[::2]) if turns[0] else (steps[::2], steps[1::2])
            if fmean(coupled) > EARLY * fmean(waited) or max(steps) > NEXT_S * judged.fs:
                continue
            seen = {"pairs": BIGEMINAL, "rate_per_min": round((len(at) - 1) * 60 * judged.fs / (at[-1] - at[0]), 1)}
            pairs = [beat.sample for beat, early in zip(last, turns, strict=True) if early]
            seconded = _seconded(judged, channel, pairs, Finding(at[0], at[-1], channel, seen))
            found.append(_also(seconded, alone(judged, channel, pairs)))
    return _best(found)


def _lately_ventricular(beats: deque[JudgedBeat], since: float) -> bool:
    """Whether there is a ventricular beat among those since then and the three before them."""
    before = 0
    for beat in reversed(beats):
        if beat.label == "V":
            return True
        before += beat.sample < since
        if before == len(COUPLET) - 1:
            return False
    return False


def _fresh(judged: Judged, now: int) -> Iterator[tuple[str, deque[JudgedBeat]]]:
    """Channels in which beats are still being judged."""
    for (channel, _), beats in judged.beats.items():
        if beats and now - beats[-1].sample <= OVER_S * judged.fs:
            yield channel, beats


def _runs(judged: Judged, now: int) -> Iterator[tuple[str, list[int]]]:
    """The ventricular beats that each channel's newest beats are, if they are."""
    for channel, beats in _fresh(judged, now):
        if beats[-1].label != "V":
            continue  # nearly always
        run: list[int] = []
        for beat in reversed(beats):
            if beat.label != "V" or (run and run[0] - beat.sample > OVER_S * judged.fs):
                break
            run.insert(0, beat.sample)
        if run:
            yield channel, run


def _weighed(
    judged: Judged, channel: str, run: Sequence[int], newest: Sequence[int], seen: Mapping[str, object]
) -> Finding:
    """Against what the other good leads show of the beats from newest[0] to newest[-1]: beats that the model does not
    call ventricular, and the patient's
    usual beat to be seen. The class alone is not enough: leads differ in what they show of a ventricular beat."""
    margin = round(0.15 * judged.fs)
    speak, against = 1, []
    own = judged.scene.lead(channel)
    # Of a lead in noise or hum, though its beats are sure, the model's word is worth less than that of a lead without.
    most = IN_NOISE if own is not None and own.clean_since > newest[0] else 0.5
    for (other, _), beats in judged.beats.items():
        lead = judged.scene.lead(other)
        if other == channel or lead is None or not lead.good:
            continue
        labels = [beat.label for beat in beats if newest[0] - margin <= beat.sample <= newest[-1] + margin]
        if len(labels) < max(2, len(newest) // 2):
            continue
        speak += 1
        not_ventricular = sum(label != "V" for label in labels)
        # Where no usual beat is known, the class alone must do.
        usual = [one.usual < KNOWN_BEAT or one.alike >= MOST_ALIKE for one in lead.textures if one.sample > newest[0]]
        if not_ventricular > len(labels) * most and sum(usual) >= len(usual) / 2:
            against.append(f"{other} shows {not_ventricular} of {len(labels)} beats that are not ventricular")
    agree = speak - len(against)
    found = Finding(run[0], newest[-1], channel, dict(seen), confidence(agree, speak), "; ".join(against) or None)
    return _also(found, _usual(judged, channel, run))


def _usual(judged: Judged, channel: str, run: Sequence[int]) -> list[str]:
    """Against beats called ventricular whose shapes, as far as they are known, are the patient's usual one: as a tachycardia begins
    their intervals are all that is new. None of a run that has lasted can speak: it may have become the usual."""
    lead = judged.scene.lead(channel)
    if lead is None or judged.scene.known - run[0] > USUAL_TO_S * judged.fs:
        return []
    shown = Shown(channel, lead.clear_since, lead.shapes, lead.textures)
    known = [one for one in lead.shapes if one.sample >= run[0]]
    usual = sum(is_usual(one) for one in known)
    if not known or 2 * usual <= len(known) or not shown.has_usual(run[0]):
        return []
    return [f"{usual} of its {len(known)} shapes are the usual one"]


def _seconded(judged: Judged, channel: str, at: Sequence[int], found: Finding) -> Finding:
    """Against what another good lead shows at the very places of the beats called ventricular."""
    margin = round(0.15 * judged.fs)
    for (other, _), beats in judged.beats.items():
        lead = judged.scene.lead(other)
        if other == channel or lead is None or not lead.good:
            continue
        labels = [beat.label for beat in beats if any(abs(beat.sample - one) <= margin for one in at)]
        own = sum(label != "V" for label in labels)
        if len(labels) >= len(at) - 1 and own == len(labels):
            return replace(found, against=f"{other} shows {own} of {len(at)} that are not ventricular")
    return found


def _elsewhere(judged: Judged, channel: str, pair: Sequence[int]) -> bool:
    """Two beats are little: where another lead is connected, it must show them as ventricular, too."""
    others = [lead for lead in judged.scene.leads if lead.channel != channel and not UNREADABLE & set(lead.reasons)]
    margin = round(0.15 * judged.fs)
    shown = [
        {beat.label for beat in beats if pair[0] - margin <= beat.sample <= pair[1] + margin}
        for (other, _), beats in judged.beats.items()
        if any(lead.channel == other for lead in others)
    ]
    return not others or {"V"} in shown


def _best(found: list[Finding]) -> Finding | None:
    """One that nothing is against before one that something is."""
    return min(found, key=lambda one: one.against is not None, default=None)


RULES: tuple[Rule[Evidence], ...] = (
    Rule("ventricular_tachycardia", "high", ventricular_tachycardia_unjudged, instead=True, under=ARREST),
)
VERDICT_RULES: tuple[Rule[Judged], ...] = (
    Rule("ventricular_tachycardia", "high", ventricular_tachycardia, under=ARREST),
    Rule("ventricular_run", "medium", ventricular_run, refractory_s=30.0, under=RUNS),
    Rule("ventricular_couplet", "low", ventricular_couplet, refractory_s=60.0, under=RUNS),
    Rule("ventricular_bigeminy", "low", ventricular_bigeminy, refractory_s=20.0, under=RUNS),
)
