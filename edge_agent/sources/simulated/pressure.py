"""Arterial pressure and pleth: what each beat ejects, and what the arteries make of it.

A Windkessel of three elements: the arteries fill with each ejection and empty at a rate (peripheral resistance times
compliance), and the flow itself adds a wave (characteristic impedance, and reflections with the dicrotic notch). So
everything that a bedside shows follows from the beats: a premature beat ejects little because the ventricle had no
time to fill, the beat after its pause ejects more; in atrial fibrillation and tachycardia some beats eject nothing that
reaches the wrist; without beats the pressure falls exponentially to the mean filling pressure.

Systolic and diastolic pressure are settings: the constants of the Windkessel are solved from them.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from edge_agent.sources.simulated.bits import Floats, stream_key, uniform
from edge_agent.sources.simulated.rhythm import Depolarisation, Tone
from edge_agent.sources.simulated.script import Episode

FILLING_MMHG = 12.0
"""Where arterial pressure ends without ejection."""
VALVE_SHARE = 0.27
"""The share of a full ventricle that it takes to open the aortic valve against the diastolic setting; more against the
higher pressure soon after a beat, less when the arteries have run empty. Below it there is no pulse (pulse deficit)."""

_REFERENCE_RR_S = 0.8
_SETTLING_S = 3.0
"""Time constant with which the pressure goes to a new episode's setting."""
_RIPPLE_SHARE = 0.6
"""Share of the pulse pressure that is filling of the arteries; the rest is the wave."""
_EJECTION_S = 0.3
_SUPPORT_S = 0.75
"""After this nothing of a beat is left but what it put into the arteries."""
_PLETH_AFTER_S = 0.09

# (at s, width s, weight) from the ejection's beginning; the first rows' weights sum to 1 (a flow)
_FLOW = np.array([(0.095, 0.032, 0.62), (0.165, 0.045, 0.38)])
_WAVE = np.array([(0.115, 0.040, 1.0), (0.200, 0.055, 0.62), (0.318, 0.017, -0.16), (0.395, 0.048, 0.24)])
_PLETH = np.array([(0.190, 0.060, 0.80), (0.280, 0.085, 0.45), (0.470, 0.085, 0.30)])


def _bells(table: Floats, t: Floats, stretch: float) -> Floats:
    """The sum of a table's Gaussians at times `t`, stretched in time."""
    apart = (t - stretch * table[:, 0:1]) / (stretch * table[:, 1:2])
    return np.asarray(table[:, 2] @ np.exp(-0.5 * apart * apart))


def _flow(t: Floats, stretch: float) -> Floats:
    """Integral one."""
    area = stretch * math.sqrt(2.0 * math.pi) * float(_FLOW[:, 1] @ _FLOW[:, 2])
    return _bells(_FLOW, t, stretch) / area


def filling(rr_s: float) -> float:
    """How full the ventricle is after `rr_s`, of its most: systole takes .25 s of it, then it fills exponentially."""
    return 1.0 - math.exp(-max(rr_s - 0.25, 0.0) / 0.25)


def _ejection_stretch(rr_s: float) -> float:
    """Systole shortens with the interval, about as its root."""
    return min(max(math.sqrt(rr_s / 0.857), 0.68), 1.15)


@dataclass(frozen=True, slots=True)
class Arteries:
    """The Windkessel's constants: of one pressure at one rate."""

    decay_per_s: float
    fill_mmhg: float
    """What a usual stroke adds to the arteries' pressure, all at once."""
    wave_mmhg: float
    """Height of a usual stroke's wave on top."""


def solve_arteries(systolic: float, diastolic: float, rr_s: float) -> Arteries:
    """The constants with which a steady rhythm of interval `rr_s` has these pressures."""
    above = diastolic - FILLING_MMHG
    pulse = systolic - diastolic
    stretch = _ejection_stretch(rr_s)
    decay = math.log1p(_RIPPLE_SHARE * pulse / above) / max(rr_s - _EJECTION_S * stretch, 0.12)
    count = 160
    step = rr_s / count
    t = np.linspace(0.0, rr_s, count, endpoint=False)
    turns = range(math.ceil(_SUPPORT_S / rr_s) + 1)
    flow, wave = np.zeros(count), np.zeros(count)
    for turn in turns:
        flow += _flow(t + turn * rr_s, stretch)
        wave += _bells(_WAVE, t + turn * rr_s, stretch)
    growth = np.exp(decay * t)
    gained = np.cumsum(flow * growth) * step
    once = float(gained[-1]) * math.exp(-decay * rr_s)
    level = (gained + once / (1.0 - math.exp(-decay * rr_s))) / growth
    fill, height = above, pulse
    for _ in range(8):
        shape = fill * level + height * wave
        low, high = int(np.argmin(shape)), int(np.argmax(shape))
        matrix = np.array([[level[low], wave[low]], [level[high], wave[high]]])
        fill, height = (float(value) for value in np.linalg.solve(matrix, np.array([above, systolic - FILLING_MMHG])))
    return Arteries(decay, fill, max(height, 0.0))


@dataclass(frozen=True, slots=True)
class Ejection:
    """One beat's pulse on its way."""

    start_s: float
    """When it reaches the transducer."""
    stroke: float
    """Of the usual stroke volume."""
    stretch: float
    arteries: Arteries
    pleth: float


class Circulation:
    """Turns beats into pressure and pleth, chunk by chunk in order."""

    def __init__(self, fs: float, seed: int, tone: Tone, first: Episode) -> None:
        self._fs = fs
        self._tone = tone
        self._key = stream_key(seed, "stroke")
        self._setting = (first.systolic_mmhg, first.diastolic_mmhg)
        self._solved: dict[tuple[float, float, float], Arteries] = {}
        self._last_beat_s: float | None = None
        self._ejections: deque[Ejection] = deque()
        self._decay_per_s = self._arteries(*self._setting, self._reference_rr_s(first)).decay_per_s
        self._level = (0.5 * sum(self._setting) - FILLING_MMHG) if first.ejects else 0.0
        self._flow_before = 0.0
        # The arteries' pressure above filling as the valve meets it, beat by beat (`render` has it sample by sample).
        self._filled = self._level
        self._emptying_per_s = self._decay_per_s

    @staticmethod
    def _reference_rr_s(episode: Episode) -> float:
        """The interval at which the episode's pressures are meant: its own, if the rhythm can carry a pressure."""
        if not episode.ejects or episode.rhythm == "vt":
            return _REFERENCE_RR_S
        return 60.0 / episode.rate_per_min

    def _arteries(self, systolic: float, diastolic: float, rr_s: float) -> Arteries:
        wanted = (systolic, diastolic, rr_s)
        if wanted not in self._solved:
            if len(self._solved) > 64:
                self._solved.clear()
            self._solved[wanted] = solve_arteries(*wanted)
        return self._solved[wanted]

    def take(self, beat: Depolarisation) -> Ejection | None:
        """What this beat ejects; None if no pulse comes of it. Beats come in order."""
        episode = beat.span.episode
        self._settle(beat.time_s, episode)
        reference_s = self._reference_rr_s(episode)
        strength = filling(beat.rr_s)
        draw = uniform(self._key, beat.index)
        if beat.label == "V":
            # No atrial kick, or one at the wrong moment, and the walls contract one after the other.
            strength *= (0.5 + 0.45 * draw) if episode.rhythm == "vt" else (0.55 + 0.15 * draw)
        elif episode.rhythm == "af":
            strength *= 0.93 + 0.14 * draw
        else:
            strength *= 0.985 + 0.03 * draw
        strength *= 1.0 + 0.03 * float(self._tone.breath(beat.time_s))
        arteries = self._arteries(*self._setting, reference_s)
        against = self._filled / (self._setting[1] - FILLING_MMHG)
        if strength < VALVE_SHARE * against or not episode.ejects:
            return None
        stroke = strength / filling(reference_s)
        self._filled += stroke * arteries.fill_mmhg
        self._emptying_per_s = arteries.decay_per_s
        # A larger pulse pressure runs a little faster; 3 ms is what the transit varies at rest.
        transit_s = episode.transit_ms / 1000.0 + 0.012 * (1.0 - min(stroke, 1.4)) + 0.003 * (2.0 * draw - 1.0)
        ejection = Ejection(
            beat.time_s + transit_s - _FOOT_S,
            stroke,
            _ejection_stretch(min(beat.qt_rr_s, 1.2)),
            arteries,
            0.22 * stroke**0.8 * math.sqrt(min(max((self._setting[0] - self._setting[1]) / 40.0, 0.4), 1.6)),
        )
        self._ejections.append(ejection)
        return ejection

    def _settle(self, time_s: float, episode: Episode) -> None:
        wanted = (episode.systolic_mmhg, episode.diastolic_mmhg)
        passed_s = time_s if self._last_beat_s is None else time_s - self._last_beat_s
        self._last_beat_s = time_s
        self._filled *= math.exp(-self._emptying_per_s * passed_s)
        if self._setting != wanted:
            share = 1.0 - math.exp(-min(passed_s, 2.0) / _SETTLING_S)
            moved = tuple(now + share * (to - now) for now, to in zip(self._setting, wanted, strict=True))
            near = max(abs(to - now) for now, to in zip(moved, wanted, strict=True)) < 0.05
            self._setting = wanted if near else (moved[0], moved[1])

    def render(self, first: int, count: int) -> tuple[Floats, Floats]:
        """Clean pressure (mmHg) and pleth (NU) of the next chunk; every ejection that begins in it has been taken."""
        fs = self._fs
        t = np.arange(first, first + count) / fs
        while self._ejections and self._ejections[0].start_s + _SUPPORT_S + 0.5 < t[0]:
            self._ejections.popleft()
        flow, wave, pleth = np.zeros(count), np.zeros(count), np.zeros(count)
        decay = np.full(count, self._decay_per_s)
        for ejection in self._ejections:
            start = ejection.start_s
            low = max(0, math.ceil((start - 0.03) * fs) - first)
            high = min(count, math.ceil((start + _SUPPORT_S) * fs) - first)
            if high > low:
                apart = t[low:high] - start
                flow[low:high] += ejection.stroke * ejection.arteries.fill_mmhg * _flow(apart, ejection.stretch)
                wave[low:high] += ejection.stroke * ejection.arteries.wave_mmhg * _bells(_WAVE, apart, ejection.stretch)
            low = max(0, math.ceil((start + _PLETH_AFTER_S - 0.05) * fs) - first)
            high = min(count, math.ceil((start + _PLETH_AFTER_S + _SUPPORT_S) * fs) - first)
            if high > low:
                apart = t[low:high] - start - _PLETH_AFTER_S
                pleth[low:high] += ejection.pleth * _bells(_PLETH, apart, ejection.stretch)
            begin = math.ceil(start * fs) - first
            if begin < count:
                decay[max(begin, 0) :] = ejection.arteries.decay_per_s
        level = self._advance(flow, decay)
        share = np.minimum(level / 50.0, 1.0)
        breath, low_wave = self._tone.breath(t), self._tone.low(t)
        pressure = FILLING_MMHG + level + wave + share * (1.3 * breath + 1.5 * low_wave)
        return pressure, 0.4 + pleth + 0.012 * breath * share

    def _advance(self, flow: Floats, decay: Floats) -> Floats:
        """d level / dt = flow - decay * level, by the trapezium, from the last chunk's level."""
        step = 1.0 / self._fs
        growth = np.exp(np.cumsum(decay) * step)
        scaled = flow * growth
        before = np.concatenate([[self._flow_before], scaled[:-1]])
        level = (self._level + np.cumsum(0.5 * step * (scaled + before))) / growth
        self._level, self._flow_before = float(level[-1]), float(flow[-1])
        self._decay_per_s = float(decay[-1])
        return np.asarray(level)


def _foot_s() -> float:
    """Where a usual pulse has its foot after its ejection's beginning (the least pressure, on the way up)."""
    arteries = solve_arteries(120.0, 80.0, _REFERENCE_RR_S)
    t: Floats = np.arange(-0.03, 0.1, 0.0005)
    rise = arteries.fill_mmhg * np.cumsum(_flow(t, 1.0)) * 0.0005 + arteries.wave_mmhg * _bells(_WAVE, t, 1.0)
    return float(t[int(np.argmin(rise - arteries.decay_per_s * (80.0 - FILLING_MMHG) * t))])


_FOOT_S = _foot_s()
