"""Too slow and too fast: below 40 /min over 5 beats, above 140 /min over 17 (PhysioNet/CinC Challenge 2015; Clifford et al. 2015).

A lead can miss small beats or count T waves, and then has a rate that no other signal has. So every good lead and
every good line is asked what
it counted over the same stretch.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

from edge_agent.alarms.evidence import Evidence
from edge_agent.alarms.limits import AlarmLimits
from edge_agent.alarms.rules.base import ARREST, DETECTION_S, Finding, Rule, confidence
from edge_agent.alarms.rules.witness import beats_between, good_leads, pulsing_between, rate_of, seconded, vouched

SLOW_BEATS = 5
SLOW_BEATS_SECONDED = 4
FAST_BEATS = 17
FAST_BEATS_SECONDED = 13
"""A rate over many beats keeps one lead's errors out. Where another signal shows the same beats there are none to keep out,
and as few as a bedside monitor averages (12 intervals) will do."""
EXTREME_BEATS, EXTREME_PER_MIN = 9, 20.0
"""So much above the limit is an extreme tachycardia to a monitor; a burst of nine, seconded, is told."""
DIFFERENT = 0.1
"""Another signal is against it if its rate lies so much beyond the limit, on the other side; about the limit itself they may differ."""
DOUBLE = (1.7, 2.3)
"""As many beats as this for each pulse: T waves were counted. (In a true tachycardia some beats give no pulse, but
not every other one, evenly.)"""


def bradycardia(evidence: Evidence, now: int, limits: AlarmLimits) -> Finding | None:
    """Under bradycardia_per_min over 5 beats."""
    limit = limits.bradycardia_per_min
    beats = SLOW_BEATS
    found = _lead(evidence, now, beats, limits.asystole_s, below=limit)
    if found is None:
        beats = SLOW_BEATS_SECONDED
        found = _lead(evidence, now, beats, limits.asystole_s, below=limit, sure=seconded)
    if found is None:
        return None
    channel, first, last, _ = found
    against, speak = [], 1
    for name, other in _others(evidence, channel, first, last):
        speak += 1
        if other is not None and other >= (1 + DIFFERENT) * limit:
            against.append(f"{name} counts {other:.0f} beats per minute")
    for line in pulsing_between(evidence, first, last):
        speak += line.count > 0
        if line.rate_per_min is not None and line.count >= beats - 1 and line.rate_per_min >= (1 + DIFFERENT) * limit:
            against.append(f"{line.channel} counts {line.rate_per_min:.0f} pulses per minute")
    return _finding(found, beats, against, speak)


def tachycardia(evidence: Evidence, now: int, limits: AlarmLimits) -> Finding | None:
    """Over tachycardia_per_min over 17 beats."""
    limit = limits.tachycardia_per_min
    beats = FAST_BEATS
    found = _lead(evidence, now, beats, limits.asystole_s, above=limit)
    for fewer, least in ((FAST_BEATS_SECONDED, limit), (EXTREME_BEATS, limit + EXTREME_PER_MIN)):
        if found is None:
            beats = fewer
            found = _lead(evidence, now, beats, limits.asystole_s, above=least, sure=seconded)
    if found is None:
        return None
    channel, first, last, rate = found
    against, speak = [], 1
    for name, other in _others(evidence, channel, first, last):
        speak += 1
        if other is not None and other <= (1 - DIFFERENT) * limit:
            against.append(f"{name} counts {other:.0f} beats per minute")
    for line in pulsing_between(evidence, first, last):
        speak += line.count > 0
        if line.rate_per_min is not None and line.regular and DOUBLE[0] <= rate / line.rate_per_min <= DOUBLE[1]:
            against.append(f"{line.channel} counts {line.rate_per_min:.0f} pulses per minute, evenly")
    return _finding(found, beats, against, speak)


def _others(evidence: Evidence, channel: str, first: int, last: int) -> Iterator[tuple[str, float | None]]:
    """What every other good lead that was there all along counts per minute."""
    for name, lead in good_leads(evidence).items():
        if name != channel and lead.since <= first:
            yield name, rate_of(beats_between(lead, first, last), evidence.fs)


_Rate = tuple[str, int, int, float]


def _lead(
    evidence: Evidence,
    now: int,
    beats: int,
    longest_s: float,
    *,
    below: float = 0.0,
    above: float = float("inf"),
    sure: Callable[[Evidence, str, list[int]], bool] = vouched,
) -> _Rate | None:
    """The first lead whose last beats are beyond the limit: channel, first and last beat, rate. They must be sure.

    A beat that has not come yet is as good as one that comes now, for a rate below a limit: the interval can only grow.
    A pause of longest_s among them, or since, is asystole's affair and no rate.
    """
    for name, lead in evidence.ecg.items():
        if not _may_be(lead.beats, now, beats, evidence.fs, below, above):
            continue  # nearly always
        last = list(itertools.islice(reversed(lead.beats), beats))[::-1]
        heard = last
        due = now - round(DETECTION_S * evidence.fs)
        if below > 0.0 and len(last) >= beats - 1 and last[-1] < due:
            waiting = [*last[-(beats - 1) :], due]
            if (beats - 1) * 60 * evidence.fs / (due - waiting[0]) < below:
                last = waiting
        if len(last) < beats or last[-1] <= last[0]:
            continue
        rate = (beats - 1) * 60 * evidence.fs / (last[-1] - last[0])
        if not (rate < below or rate > above):
            continue
        pause = max(after - before for before, after in itertools.pairwise([*heard, now]))
        if pause < longest_s * evidence.fs and sure(evidence, name, [beat for beat in heard if beat >= last[0]]):
            return name, last[0], last[-1], rate
    return None


def _may_be(at: Sequence[int], now: int, beats: int, fs: float, below: float, above: float) -> bool:
    """Whether the last beats (or, for a slow rate, those and the one that has not come) are beyond a limit at all."""
    many, minute = len(at), 60 * fs
    if many >= beats:
        rate = (beats - 1) * minute / max(1, at[-1] - at[-beats])
        if rate < below or rate > above:
            return True
    if below <= 0.0 or many < beats - 1:
        return False
    waited = now - round(DETECTION_S * fs) - at[1 - beats]
    return waited > 0 and (beats - 1) * minute / waited < below


def _finding(found: _Rate, beats: int, against: list[str], speak: int) -> Finding:
    channel, first, last, rate = found
    seen = {"rate_per_min": round(rate, 1), "beats": beats}
    why = "; ".join(against) or None
    return Finding(first, last, channel, seen, confidence(speak - len(against), speak), why)


RULES: tuple[Rule[Evidence], ...] = (
    Rule("bradycardia", "high", bradycardia, under=ARREST),
    Rule("tachycardia", "high", tachycardia, under=ARREST),
)
