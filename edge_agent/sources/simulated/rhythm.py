"""When the ventricles depolarise, and as what: the beats of every rhythm, one after the other.

Times are in seconds and do not depend on the sampling rate, so one seed is one patient at every rate. They are rounded
to 2^-20 s: sums of them are exact, and no difference in the last bit of a machine's sine can grow over hours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edge_agent.sources.simulated.bits import Floats, normal, stream_key, uniform
from edge_agent.sources.simulated.script import Span, Timeline

_TICK = 2.0**20
_MIN_RR_S = 0.24
FLUTTER_HZ = 5.0
_COMPENSATED = 2.0
"""A premature ventricular beat does not reset the sinus node: the next sinus beat comes two intervals on."""


def _ticks(seconds: float) -> float:
    return round(seconds * _TICK) / _TICK


class Tone:
    """Slow rhythms of the body, as functions of time: breathing, and the 0.1 Hz waves of the pressure control."""

    def __init__(self, seed: int) -> None:
        key = stream_key(seed, "tone")
        self.breaths_hz = 0.22 + 0.07 * uniform(key, 0)
        self._turns = [2.0 * math.pi * uniform(key, 1 + n) for n in range(8)]
        # Low-frequency power is spread about 0.1 Hz (McSharry 2003 uses a Gaussian of .01 Hz there).
        self._low_hz = [0.1 + 0.012 * normal(key, 20 + n) for n in range(4)]

    def breath(self, t: Floats | float) -> Floats:
        """-1 to 1. Its pace wanders by a few per cent, so the high-frequency peak has a width."""
        wander = 0.9 * np.sin(2.0 * math.pi * 0.017 * np.asarray(t) + self._turns[0])
        return np.asarray(np.sin(2.0 * math.pi * self.breaths_hz * np.asarray(t) + self._turns[1] + wander))

    def low(self, t: Floats | float) -> Floats:
        """Standard deviation 1/sqrt 2, as `breath`'s."""
        time = np.asarray(t)
        total = sum(
            np.sin(2.0 * math.pi * hz * time + turn) for hz, turn in zip(self._low_hz, self._turns[2:6], strict=True)
        )
        return np.asarray(total / math.sqrt(len(self._low_hz)))


@dataclass(frozen=True, slots=True)
class Depolarisation:
    """One ventricular beat."""

    index: int
    time_s: float
    """The middle of the QRS's main deflection."""
    rr_s: float
    """Since the beat before, whatever that was."""
    qt_rr_s: float
    """The interval that the repolarisation has adapted to."""
    shape: str
    label: str
    """N (any conducted beat), S (premature or supraventricular), V (ventricular), Q (paced)."""
    p_wave: str | None
    """"sinus", "ectopic" or None."""
    span: Span
    """The episode it belongs to."""


@dataclass(slots=True)
class _Pattern:
    """Where in its pattern a rhythm stands."""

    entering: bool = True
    since_normal: int = 0
    """Ectopic beats since the last normal one."""
    normals: int = 0
    """Normal beats since the last ectopic one."""


@dataclass(frozen=True, slots=True)
class _Next:
    time_s: float
    shape: str
    label: str
    p_wave: str | None
    sinus_s: float
    """The sinus node's last firing once this beat has been."""


class Heart:
    """Yields the beats of a timeline in order."""

    def __init__(self, timeline: Timeline, seed: int, tone: Tone) -> None:
        self._timeline = timeline
        self._tone = tone
        self._key = stream_key(seed, "beats")
        self._vt_shape = "vt_a" if uniform(stream_key(seed, "vt"), 0) < 0.5 else "vt_b"
        self._index = 0
        self._span = timeline.span(0)
        self._last_s = -0.4
        self._sinus_s = -0.4
        self._qt_rr_s = 60.0 / 70.0
        self._first = True
        self._pattern = _Pattern()

    def next_beat(self) -> Depolarisation | None:
        """The next beat; None when the script has none left."""
        while self._span is not None:
            found = self._propose(self._span)
            if found is None or _ticks(found.time_s) >= self._span.end_s:
                self._span = self._timeline.span(self._span.index + 1)
                self._pattern = _Pattern()
                continue
            time_s = _ticks(found.time_s)
            rr_s = time_s - self._last_s if not self._first else 60.0 / (self._span.episode.rate_per_min or 70.0)
            self._qt_rr_s += 0.35 * (min(rr_s, 1.6) - self._qt_rr_s)
            beat = Depolarisation(
                self._index, time_s, rr_s, self._qt_rr_s, found.shape, found.label, found.p_wave, self._span
            )
            self._first = False
            self._last_s = time_s
            self._sinus_s = found.sinus_s
            self._note(found.label)
            self._index += 1
            return beat
        return None

    def _note(self, label: str) -> None:
        pattern = self._pattern
        pattern.entering = False
        if label == "N":
            pattern.since_normal = 0
            pattern.normals += 1
        else:
            pattern.since_normal += 1
            pattern.normals = 0

    def _draw(self, use: int) -> float:
        return uniform(self._key, 16 * self._index + use)

    def _bell(self, use: int) -> float:
        # uses 8 + use, 9 + use: kept apart from the plain draws, which use 0 to 7
        radius = math.sqrt(-2.0 * math.log(self._draw(8 + 2 * use)))
        return radius * math.cos(2.0 * math.pi * self._draw(9 + 2 * use))

    def _propose(self, span: Span) -> _Next | None:
        rhythm = span.episode.rhythm
        if rhythm in ("asystole", "vf", "vflutter"):
            return None
        if rhythm in ("af", "flutter"):
            return self._fibrillation(span)
        if rhythm in ("vt", "svt", "paced"):
            return self._own_focus(span)
        return self._sinus(span)

    def _not_before(self, span: Span, time_s: float, rr_s: float) -> float:
        """A rhythm that begins takes over at once, but never inside the refractory time of what was before."""
        if not self._pattern.entering:
            return max(time_s, self._last_s + _MIN_RR_S)
        if time_s < span.start_s:
            time_s = span.start_s + (0.15 + 0.6 * self._draw(0)) * rr_s
        return max(time_s, self._last_s + max(_MIN_RR_S, 0.6 * min(rr_s, 1.0)))

    def _sinus_rr(self, span: Span) -> float:
        episode = span.episode
        share = episode.lf_hf / (1.0 + episode.lf_hf)
        low = float(self._tone.low(self._last_s)) * math.sqrt(2.0 * share)
        high = float(self._tone.breath(self._last_s)) * math.sqrt(2.0 * (1.0 - share))
        own = 0.15 * self._bell(0)
        return 60.0 / episode.rate_per_min * (1.0 + episode.variability * (low + high + own))

    def _sinus(self, span: Span) -> _Next:
        episode, pattern = span.episode, self._pattern
        rr_s = self._sinus_rr(span)
        conducted = episode.rhythm if episode.rhythm in ("lbbb", "rbbb") else "normal"
        kind = None if pattern.entering else self._premature(span)
        if kind == "V":
            after_v = pattern.since_normal > 0
            coupling = 0.36 + 0.08 * rr_s if after_v else 0.23 + 0.31 * rr_s
            time_s = self._last_s + coupling + 0.012 * self._bell(1)
            single = episode.rhythm in ("bigeminy", "trigeminy")
            shape = "pvc_a" if single or self._draw(2) < 0.65 else "pvc_b"
            return _Next(self._not_before(span, time_s, rr_s), shape, "V", None, self._sinus_s)
        if kind == "S":
            time_s = self._not_before(span, self._last_s + (0.62 + 0.08 * self._draw(3)) * rr_s, rr_s)
            # The sinus node is reset, and comes a little late.
            return _Next(time_s, conducted, "S", "ectopic", time_s + 0.08 * rr_s)
        due_s = self._sinus_s + rr_s
        if pattern.since_normal and self._sinus_s + 0.25 * rr_s < self._last_s:
            # The node went on firing under the ventricular beats: take its first beat that finds the ventricles able.
            due_s = self._sinus_s + _COMPENSATED * rr_s
            while due_s < self._last_s + 0.55 * rr_s:
                due_s += rr_s
        time_s = self._not_before(span, due_s, rr_s)
        return _Next(time_s, conducted, "N", "sinus", time_s)

    def _premature(self, span: Span) -> str | None:
        """Whether the next beat comes before its time; decided once a beat."""
        episode, pattern = span.episode, self._pattern
        if episode.rhythm == "bigeminy":
            return "V" if pattern.normals >= 1 else None
        if episode.rhythm == "trigeminy":
            return "V" if pattern.normals >= 2 else None
        if episode.rhythm == "couplets":
            return "V" if pattern.normals >= 4 or pattern.since_normal == 1 else None
        if pattern.normals < 2:  # isolated ones: at least two normal beats between
            return None
        # The wait for two normal beats lowers the count; the chance is raised to make up for it.
        wanted_v = min(episode.pvc_per_min / episode.rate_per_min, 0.25)
        wanted_s = min(episode.pac_per_min / episode.rate_per_min, 0.25)
        spare = max(1.0 - 3.0 * (wanted_v + wanted_s), 0.2)
        draw = self._draw(1)
        if draw < wanted_v / spare:
            return "V"
        if draw < (wanted_v + wanted_s) / spare:
            return "S"
        return None

    def _fibrillation(self, span: Span) -> _Next:
        mean_s = 60.0 / span.episode.rate_per_min
        if span.episode.rhythm == "flutter":
            # Conducted every second to fourth wave, about the ratio that gives the rate asked.
            wave_s = 1.0 / FLUTTER_HZ
            ratio = max(2, min(6, round(mean_s / wave_s + 0.7 * self._bell(2))))
            rr_s = ratio * wave_s * (1.0 + 0.01 * self._bell(0))
        else:
            # Skewed, without memory: a floor by the node's refractory time and a gamma-like rest (sum of exponentials).
            floor_s = max(0.27, 0.45 * mean_s) if mean_s > 0.4 else 0.6 * mean_s
            rest = -sum(math.log(self._draw(use)) for use in (4, 5, 6, 7)) / 4.0
            rr_s = floor_s + (mean_s - floor_s) * rest
        time_s = self._not_before(span, self._last_s + rr_s, rr_s)
        return _Next(time_s, "normal", "N", None, time_s)

    def _own_focus(self, span: Span) -> _Next:
        """Rhythms with a pacemaker of their own, hardly variable."""
        rhythm = span.episode.rhythm
        spread = {"vt": 0.012, "svt": 0.006, "paced": 0.0}[rhythm]
        rr_s = 60.0 / span.episode.rate_per_min * (1.0 + spread * self._bell(0))
        shape, label = {"vt": (self._vt_shape, "V"), "svt": ("normal", "S"), "paced": ("paced", "Q")}[rhythm]
        time_s = self._not_before(span, self._last_s + rr_s, rr_s)
        return _Next(time_s, shape, label, None, time_s)
