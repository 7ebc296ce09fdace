"""Ventricular flutter and fibrillation: the ECG swings to and fro for 4 s and shows no beat (PhysioNet/CinC Challenge
2015; Clifford et al. 2015).

No model and no beat detector is asked whether it is there: both answer in beats whatever they are shown. What counts is the texture of
each lead (`signal.texture`): one slow oscillation (concentrated, Barro et al. 1989) whose values are spread as a
sine's or as noise's are and not as those of
complexes on a quiet line, and nothing in it that resembles the patient's usual beat. Beats speak only against it:
another lead that shows the patient's own
complexes, a detector that counts regular ones where nothing repeats itself that fast (a paced rhythm's broad
complexes make such a texture), a pulse
that goes on.
"""

from __future__ import annotations

import itertools
import math

from edge_agent.alarms.evidence import OUT_OF_BAND, EcgEvidence, Evidence
from edge_agent.alarms.limits import AlarmLimits
from edge_agent.alarms.rules.base import Finding, Rule, confidence
from edge_agent.alarms.rules.witness import DISTURBED, beats_between, good_leads, pulsing_between
from edge_agent.journey import Texture
from edge_agent.signal.texture import STEPS_PER_S, WINDOW_S

KIND = "ventricular_fibrillation"
LEAST_CONCENTRATION = 0.45
SLOW_HZ, LEAST_CONCENTRATION_SLOW = 3.6, 0.7
"""The slower the swing, the purer it must be: broad complexes at 75 /min swing at 150, among other things."""
PURE, PURE_REPEATS = 0.85, 0.6
"""Flutter. A sine resembles a part of any broad beat, so it need not be unlike the usual one."""
MOST_PEAKED = 3.3
"""A sine has 1.5, noise 3, complexes on a quiet line 5 and more."""
LEAST_SLOW = 0.4
HZ = (2.4, 8.0)
MOST_ALIKE = 0.9
LEAST_LIKE = 0.75
"""What resembles the usual beat so much may be one."""
KNOWN_BEAT = 0.6
"""Of `Texture.usual`: from here on there is a usual beat to be compared with."""
LEAST_STEADY = 0.15
LEAST_SIZE_LOG = -1.6
"""Smaller than a fifth of the usual amplitude is an asystole's line."""
PEAKED_BEATS = 5.0
LEAST_PULSES = 3
LATELY = 3
"""Of another lead only the newest textures speak: the older ones still have the beats of before in them."""
REPEATS = 0.5
SLOW_PER_MIN = 140.0
UNEVEN = 0.15
GOES_ON_S = 20.0
"""A fibrillation that was raised waxes and wanes: it goes on without a full 4 s of swing for so long, while nothing else is shown."""
STILL_PART = 0.5
"""Of its swings: while no second of asystole_s reaches this in any lead the heart stands, whatever noise is on the line."""


def ventricular_fibrillation(evidence: Evidence, now: int, limits: AlarmLimits) -> Finding | None:
    """fibrillation_s of it in a good lead, and nothing else that shows beats or pulses; once raised, until something else is shown."""
    found = _begins(evidence, now, limits)
    if KIND in evidence.standing and (found is None or found.against is not None):
        return _goes_on(evidence, now, limits.asystole_s) or found
    return found


def _begins(evidence: Evidence, now: int, limits: AlarmLimits) -> Finding | None:
    if not any(lead.textures and swings(lead.textures[-1]) for lead in evidence.ecg.values()):
        return None  # nothing is found that does not go on
    fs = evidence.fs
    many = round((limits.fibrillation_s - WINDOW_S) * STEPS_PER_S) + 1
    found: list[tuple[str, list[Texture]]] = []
    leads = {name: lead for name, lead in evidence.ecg.items() if _readable(lead)}
    for name, lead in leads.items():
        newest = _newest(lead, many + 1, now, fs)
        swinging = [one for one in newest if swings(one)]
        if len(newest) > many and len(swinging) >= many and swings(newest[-1]):
            found.append((name, newest))
    clear = any(set(leads[name].worth.reasons) <= OUT_OF_BAND for name, _ in found)
    if not clear and len(found) < max(2, len(leads)):
        return None  # of noisy leads all must show it
    channel, textures = max(found, key=lambda one: one[1][-1].concentration)
    first, last = textures[0].sample - round(WINDOW_S * fs), textures[-1].sample
    against, speak = [], len(found)
    for name, lead in good_leads(evidence).items():
        if name not in dict(found):
            shown = [shows_beats(one) for one in _newest(lead, LATELY, now, fs)]
            speak += 1
            if shown and sum(shown) > len(shown) / 2:
                against.append(f"{name} shows the patient's own beats")
    median_repeats = sorted(one.repeats for one in textures)[len(textures) // 2]
    if median_repeats < REPEATS:
        for name, lead in leads.items():
            rate = _regular(beats_between(lead, first, last), fs)
            if rate is not None and rate < SLOW_PER_MIN:
                against.append(f"{name} counts {rate:.0f} regular beats per minute")
    for line in pulsing_between(evidence, first + round(fs), now):
        speak += 1
        if line.count >= LEAST_PULSES:
            against.append(f"{line.channel} pulses on at {line.rate_per_min:.0f} per minute")
    seen = _seen(textures[-1], [name for name, _ in found])
    agree = max(0, speak - len(against))
    met = first + round(limits.fibrillation_s * fs)
    return Finding(first, min(met, last), channel, seen, confidence(agree, speak), "; ".join(against) or None)


def _goes_on(evidence: Evidence, now: int, still_s: float) -> Finding | None:
    """It has swung within GOES_ON_S, and nothing shows that the heart beats or stands still: no lead anything like the usual beat, no line
    pulses, in some lead something that is as large as its swings."""
    fs = evidence.fs
    leads = {name: lead for name, lead in evidence.ecg.items() if _readable(lead) and _newest(lead, 1, now, fs)}
    newest = [lead.textures[-1] for lead in leads.values()]
    known = [one for one in newest if one.usual >= KNOWN_BEAT]
    if not known or any(one.alike >= LEAST_LIKE for one in known):
        return None
    if all(one.last_size_log <= LEAST_SIZE_LOG for one in newest):
        return None
    many = round(GOES_ON_S * STEPS_PER_S)
    lately = {name: _newest(lead, many, now, fs) for name, lead in leads.items()}
    swung = {name: one for name, listed in lately.items() if (one := _last_swing(listed)) is not None}
    if all(_has_stopped(lately[name], still_s) for name in swung):
        return None
    if any(line.count >= LEAST_PULSES for line in pulsing_between(evidence, now - round(4 * fs), now)):
        return None
    channel = max(swung, key=lambda name: swung[name].sample)
    one = swung[channel]
    since = one.sample - round(WINDOW_S * fs)
    return Finding(since, one.sample, channel, _seen(one, sorted(swung)), confidence(len(swung), len(leads)))


def _has_stopped(textures: list[Texture], still_s: float) -> bool:
    """For still_s no second has had STILL_PART of the amplitude of the largest swing before."""
    swings_log = max(one.size_log for one in textures if swings(one))
    newest = textures[-round(still_s * STEPS_PER_S) :]
    return max(one.last_size_log for one in newest) < swings_log + math.log(STILL_PART)


def swings_now(lead: EcgEvidence, now: int, fs: float) -> bool:
    """Within the last second."""
    return any(swings(one) for one in _newest(lead, STEPS_PER_S, now, fs))


def _last_swing(textures: list[Texture]) -> Texture | None:
    return next((one for one in reversed(textures) if swings(one)), None)


def _seen(one: Texture, leads: list[str]) -> dict[str, object]:
    return {
        "oscillation_per_min": round(60 * one.peak_hz),
        "concentration": round(one.concentration, 2),
        "peaked": round(one.peaked, 2),
        "alike": round(one.alike, 2),
        "leads": leads,
    }


def _readable(lead: EcgEvidence) -> bool:
    return lead.worth.quality is not None and set(lead.worth.reasons) <= DISTURBED


def swings(one: Texture) -> bool:
    """These three seconds are an oscillation without beats."""
    if not (
        one.peaked < MOST_PEAKED
        and one.slow > LEAST_SLOW
        and HZ[0] <= one.peak_hz < HZ[1]
        and one.steady > LEAST_STEADY
        and one.last_size_log > LEAST_SIZE_LOG
    ):
        return False
    if is_pure(one):
        return True
    least = LEAST_CONCENTRATION if one.peak_hz > SLOW_HZ else LEAST_CONCENTRATION_SLOW
    return one.concentration > least and (one.alike < MOST_ALIKE or one.usual < KNOWN_BEAT)


def is_pure(one: Texture) -> bool:
    return one.concentration > PURE and one.repeats > PURE_REPEATS


def shows_beats(one: Texture) -> bool:
    """The patient's own beats, or at least complexes on a quiet line."""
    own = one.usual >= KNOWN_BEAT and one.alike >= MOST_ALIKE and not is_pure(one)
    return one.peaked > PEAKED_BEATS or own


def _newest(lead: EcgEvidence, many: int, now: int, fs: float) -> list[Texture]:
    """The last ones in order, if they are of now."""
    newest = list(itertools.islice(reversed(lead.textures), many))[::-1]
    return newest if newest and now - newest[-1].sample <= 1.5 * fs else []


def _regular(beats: list[int], fs: float) -> float | None:
    """The rate of four beats or more that are evenly spaced."""
    steps = sorted(b - a for a, b in itertools.pairwise(beats))
    if len(steps) < 3:
        return None
    middle = steps[len(steps) // 2]
    even = all(abs(step - middle) <= UNEVEN * middle for step in steps)
    return 60 * fs / middle if even else None


RULES: tuple[Rule[Evidence], ...] = (Rule("ventricular_fibrillation", "high", ventricular_fibrillation),)
