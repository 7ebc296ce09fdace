"""The ECG: waves of a heart vector, seen from each lead.

McSharry et al. 2003 ("A dynamical model for generating synthetic electrocardiogram signals") make a beat of Gaussians
along the phase of an oscillator, one lead at a time; Sameni et al. 2007 give each Gaussian a direction in space, so
that all leads come from one heart vector. This is their model in closed form, with these departures:

- a Gaussian's place and width are in seconds from the R peak rather than in phase: the QRS keeps its width at every
  rate, and only the P and T waves move with the interval (as the QT does, with a memory of some beats);
- the waves are summed rather than integrated, so that a sample depends on its time alone (any rate, any block);
- ventricular, paced and bundle-branch beats have wave tables of their own, fibrillation has no beats at all.

Leads are projections by Dower's matrix (Dower, Machado & Osborne 1980), so limb leads obey Einthoven's law.
Axes: x to the left arm, y to the feet, z to the back. Amplitudes in mV.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_agent.sources.simulated.bits import Floats, normal, stream_key, uniform
from edge_agent.sources.simulated.rhythm import FLUTTER_HZ, Depolarisation, Tone
from edge_agent.sources.simulated.script import Span, Timeline

_DOWER: dict[str, tuple[float, float, float]] = {
    "V1": (-0.515, 0.157, -0.917),
    "V2": (0.044, 0.164, -1.387),
    "V3": (0.882, 0.098, -1.277),
    "V4": (1.213, 0.127, -0.601),
    "V5": (1.125, 0.127, -0.086),
    "V6": (0.831, 0.076, 0.230),
    "I": (0.632, -0.235, 0.059),
    "II": (0.235, 1.066, -0.132),
}
_FROM_LIMBS = {"III": (-1.0, 1.0), "aVR": (-0.5, -0.5), "aVL": (1.0, -0.5), "aVF": (-0.5, 1.0)}
_ALIASES = {"MLII": "II", "ECG": "II", "V": "V1", "MCL1": "V1"}
ECG_LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6", *_ALIASES)
"""Every name that an ECG channel may have. `V`, a monitor's chest lead, is V1 here; `ECG` and `MLII` are II."""


def lead_vector(name: str) -> Floats:
    """The direction that a lead sees, in mV per mV of heart vector."""
    name = _ALIASES.get(name, name)
    if name in _FROM_LIMBS:
        one, two = _FROM_LIMBS[name]
        return one * np.array(_DOWER["I"]) + two * np.array(_DOWER["II"])
    return np.array(_DOWER[name])


@dataclass(frozen=True, slots=True)
class Wave:
    """One Gaussian of the heart vector."""

    at_s: float
    """From the R peak."""
    width_s: float
    """Standard deviation."""
    x: float
    y: float
    z: float


_T = (Wave(0.235, 0.052, 0.15, 0.12, -0.04), Wave(0.280, 0.032, 0.20, 0.17, -0.05))
_P = (Wave(-0.166, 0.020, 0.025, 0.075, -0.055), Wave(-0.136, 0.018, 0.045, 0.050, 0.045))
_QRS: dict[str, tuple[Wave, ...]] = {
    # septum to the right and front; main mass; base to the back
    "normal": (
        Wave(-0.025, 0.0080, -0.14, -0.06, -0.14),
        Wave(0.0, 0.0110, 1.02, 0.90, 0.42),
        Wave(0.023, 0.0095, -0.20, -0.22, 0.36),
    ),
    "lbbb": (
        Wave(-0.026, 0.0120, 0.40, 0.38, 0.40),
        Wave(0.0, 0.0150, 0.70, 0.55, 0.80),
        Wave(0.032, 0.0160, 0.80, 0.35, 0.70),
    ),
    "rbbb": (
        Wave(-0.025, 0.0080, -0.12, -0.06, -0.14),
        Wave(0.0, 0.0105, 0.95, 0.95, 0.25),
        Wave(0.043, 0.0170, -0.62, -0.28, -0.42),
    ),
    # from the right ventricle's outflow tract: like a left bundle-branch block, axis to the feet
    "pvc_a": (
        Wave(-0.033, 0.0140, 0.20, 0.45, 0.15),
        Wave(0.0, 0.0180, 0.55, 1.25, 0.75),
        Wave(0.036, 0.0175, 0.30, 0.50, 0.55),
    ),
    # from the left ventricle's lower wall: like a right bundle-branch block, axis to the head
    "pvc_b": (
        Wave(-0.032, 0.0140, -0.10, -0.45, -0.30),
        Wave(0.0, 0.0185, -0.45, -1.20, -0.75),
        Wave(0.038, 0.0180, -0.30, -0.35, -0.20),
    ),
    "paced": (
        Wave(-0.030, 0.0140, 0.10, -0.30, 0.25),
        Wave(0.0, 0.0180, 0.35, -1.00, 0.70),
        Wave(0.040, 0.0190, 0.30, -0.40, 0.40),
    ),
}
_T_OF: dict[str, tuple[Wave, ...]] = {
    "normal": _T,
    # after a wide QRS the T wave points the other way
    "lbbb": (Wave(0.260, 0.055, -0.20, -0.05, -0.22), Wave(0.315, 0.036, -0.18, -0.05, -0.18)),
    "rbbb": (Wave(0.250, 0.052, 0.22, 0.14, 0.12), Wave(0.298, 0.034, 0.22, 0.16, 0.14)),
    "pvc_a": (Wave(0.250, 0.070, -0.20, -0.27, -0.24), Wave(0.315, 0.050, -0.17, -0.24, -0.20)),
    "pvc_b": (Wave(0.250, 0.070, 0.17, 0.28, 0.20), Wave(0.315, 0.050, 0.15, 0.24, 0.19)),
    "paced": (Wave(0.260, 0.065, -0.14, 0.26, -0.20), Wave(0.320, 0.048, -0.13, 0.23, -0.18)),
}
_SAME_AS = {"vt_a": ("pvc_a", 1.05, 0.75), "vt_b": ("pvc_b", 1.05, 0.75)}
"""Tachycardia comes from a place of its own: the premature beats' tables, the QRS somewhat wider, the T lower."""
SHAPES = (*_QRS, *_SAME_AS)

_QT_RR_S = 60.0 / 70.0
"""The interval at which the T tables are right."""
_BEFORE_S = 0.32
_AFTER_S = 0.72
_SPIKE_S = 0.002
_SPIKE_AT_S = -0.074
_SPIKE = np.array([0.5, -1.1, 0.6])
_BREATHING = np.array([0.010, 0.010, -0.008])
_RAMP_S = 0.35


@dataclass(frozen=True, slots=True)
class _Table:
    """A shape's waves for one patient, seen from the patient's leads."""

    at_s: Floats
    width_s: Floats
    leads: Floats
    """(waves, leads), mV."""
    scaled: Floats
    """1 for waves that move with the interval (T), 0 for those that do not."""


class Heartbeats:
    """The ECG of one patient in the given leads: noiseless, in mV, at any time."""

    def __init__(self, leads: Sequence[str], fs: float, seed: int, tone: Tone) -> None:
        self._fs = fs
        self._tone = tone
        key = stream_key(seed, "anatomy")
        gain = 0.9 + 0.4 * uniform(key, 0)
        turn = math.radians(14.0 * (2.0 * uniform(key, 1) - 1.0))
        tilt = math.radians(10.0 * (2.0 * uniform(key, 2) - 1.0))
        self._pr = 0.94 + 0.2 * uniform(key, 3)
        width = 0.95 + 0.12 * uniform(key, 4)
        t_gain = 0.8 + 0.4 * uniform(key, 5)
        frontal = np.array(
            [[math.cos(turn), -math.sin(turn), 0.0], [math.sin(turn), math.cos(turn), 0.0], [0.0, 0.0, 1.0]]
        )
        level = np.array(
            [[math.cos(tilt), 0.0, -math.sin(tilt)], [0.0, 1.0, 0.0], [math.sin(tilt), 0.0, math.cos(tilt)]]
        )
        anatomy = gain * (frontal @ level)
        sees = np.array([lead_vector(name) for name in leads]).reshape(len(leads), 3)
        self._sees = sees @ anatomy  # (leads, 3)
        self._beat_key = stream_key(seed, "beat gain")
        self._tables: dict[str, _Table] = {}
        for shape in SHAPES:
            source, wider, lower = _SAME_AS.get(shape, (shape, 1.0, 1.0))
            qrs = _QRS[source]
            t_wave = _T_OF.get(source, _T)
            waves = (*qrs, *t_wave)
            stretch = np.array([width * wider] * len(qrs) + [1.0] * len(t_wave))
            vectors = np.array([(w.x, w.y, w.z) for w in waves])
            vectors[len(qrs) :] *= t_gain * lower
            self._tables[shape] = _Table(
                np.array([w.at_s for w in waves]) * stretch,
                np.array([w.width_s for w in waves]) * stretch,
                vectors @ self._sees.T,
                np.array([0.0] * len(qrs) + [1.0] * len(t_wave)),
            )
        self._p_at = np.array([w.at_s for w in _P])
        self._p_width = np.array([w.width_s for w in _P])
        self._p_leads = {
            "sinus": np.array([(w.x, w.y, w.z) for w in _P]) @ self._sees.T,
            # from low in the atrium: upside down below, and closer to the QRS
            "ectopic": np.array([(w.x, -0.8 * w.y, w.z) for w in _P]) @ self._sees.T,
        }
        self._spike = self._sees @ _SPIKE
        self._f_waves = _Waves(seed, "f waves", 6.3, 0.55, 6, leads)
        self._chaos = _Waves(seed, "vf", 5.0, 0.7, 18, leads)
        # f waves are largest over the right atrium (V1), flutter's teeth in the leads that look up from the feet
        self._atrial = self._sees @ np.array([-0.012, 0.030, -0.048])
        self._teeth = self._sees @ np.array([-0.02, 0.110, -0.045])
        self._atrial_gain = 0.8 + 0.5 * uniform(key, 6)
        self._peaks = {shape: self._peak_offset(shape) for shape in SHAPES}

    @property
    def leads(self) -> int:
        return int(self._sees.shape[0])

    def normal_peak_to_peak(self) -> Floats:
        """Of the patient's own normal QRS, lead by lead, mV."""
        qrs = self._qrs("normal", np.arange(-0.1, 0.1, 0.0005))
        return np.asarray(qrs.max(axis=1) - qrs.min(axis=1))

    def peak_s(self, shape: str) -> float:
        """Where the first lead has the QRS's largest deflection, from the beat's time."""
        return self._peaks[shape]

    def _qrs(self, shape: str, t: Floats) -> Floats:
        table = self._tables[shape]
        keep = table.scaled == 0.0
        bells = np.exp(-0.5 * ((t - table.at_s[keep, None]) / table.width_s[keep, None]) ** 2)
        return np.asarray(table.leads[keep].T @ bells)

    def _peak_offset(self, shape: str) -> float:
        if not self.leads:
            return 0.0
        t = np.arange(-0.1, 0.1, 0.00025)
        return float(t[int(np.argmax(np.abs(self._qrs(shape, t)[0])))])

    def add_beats(self, out: Floats, first: int, beats: Sequence[Depolarisation]) -> None:
        """Adds to `out` (leads, samples from index `first`) what each beat contributes there."""
        fs, count = self._fs, out.shape[1]
        for beat in beats:
            low = max(0, math.ceil((beat.time_s - _BEFORE_S) * fs) - first)
            high = min(count, math.ceil((beat.time_s + _AFTER_S) * fs) - first)
            if high <= low:
                continue
            t = np.arange(first + low, first + high) / fs - beat.time_s
            table = self._tables[beat.shape]
            scale = min(max(math.sqrt(beat.qt_rr_s / _QT_RR_S), 0.62), 1.22)
            stretch = 1.0 + (scale - 1.0) * table.scaled
            at_s, width_s, leads = table.at_s * stretch, table.width_s * stretch, table.leads
            if beat.p_wave is not None:
                pr = self._pr * (scale**0.4 if beat.p_wave == "sinus" else 0.85)
                at_s = np.concatenate([at_s, self._p_at * pr])
                width_s = np.concatenate([width_s, self._p_width])
                leads = np.concatenate([leads, self._p_leads[beat.p_wave]])
            # Breathing moves the heart's axis and the chest's impedance; the rest varies a little from beat to beat.
            gain = 1.0 + 0.035 * float(self._tone.breath(beat.time_s)) + 0.012 * normal(self._beat_key, beat.index)
            bells = np.exp(-0.5 * ((t - at_s[:, None]) / width_s[:, None]) ** 2)
            out[:, low:high] += gain * (leads.T @ bells)
            if beat.shape == "paced":
                self._add_spike(out, first, beat.time_s + _SPIKE_AT_S)

    def _add_spike(self, out: Floats, first: int, start_s: float) -> None:
        """A pacemaker's pulse of 2 ms, averaged over each sample's interval as a converter does."""
        begin, end = start_s * self._fs, (start_s + _SPIKE_S) * self._fs
        for index in range(math.floor(begin), math.ceil(end)):
            if 0 <= index - first < out.shape[1]:
                share = min(end, index + 1.0) - max(begin, float(index))
                out[:, index - first] += share * self._spike

    def add_breathing(self, out: Floats, first: int) -> None:
        """The little that the baseline moves with each breath, in the cleanest of recordings."""
        t = np.arange(first, first + out.shape[1]) / self._fs
        out += (self._sees @ _BREATHING)[:, None] * self._tone.breath(t)

    def add_fibrillation(self, out: Floats, first: int, spans: Sequence[Span], timeline: Timeline) -> None:
        """Adds what has no beats: f waves, flutter waves and ventricular fibrillation."""
        fs = self._fs
        for span in spans:
            rhythm = span.episode.rhythm
            if rhythm not in ("af", "flutter", "vf", "vflutter"):
                continue
            low = max(0, math.ceil(span.start_s * fs) - first)
            high = min(out.shape[1], math.ceil(span.end_s * fs) - first)
            if high <= low:
                continue
            t = np.arange(first + low, first + high) / fs
            ramp = span.fade(t, _RAMP_S, *timeline.joins(span, ("rhythm", "rate_per_min")))
            if rhythm == "af":
                waves = 1.5 * np.tanh(self._f_waves.at(t, 1.0) / 1.5)
                # A sharper rise than fall.
                out[:, low:high] += ramp * self._atrial_gain * self._atrial[:, None] * (waves + 0.35 * waves**2 - 0.35)
            elif rhythm == "flutter":
                turns = (2.0 * math.pi * FLUTTER_HZ) * t
                saw = np.sin(turns) + np.sin(2.0 * turns) / 2.0 + np.sin(3.0 * turns) / 4.0
                out[:, low:high] += ramp * self._teeth[:, None] * saw
            elif rhythm == "vf":
                pace = span.episode.rate_per_min / 300.0
                fading = 0.12 + 0.88 * np.exp(-(t - span.start_s) / 180.0)  # coarse at first, fine after minutes
                waves = self._chaos.at(t, pace)
                strength = np.abs(self._sees @ np.array([0.22, 0.25, 0.16])) * 0.8 + 0.05
                out[:, low:high] += ramp * fading * strength[:, None] * (waves + 0.12 * waves**2 - 0.12)
            else:
                turns = 2.0 * math.pi * span.episode.rate_per_min / 60.0 * t
                swing = np.sin(turns + 0.35 * np.sin(turns)) * (1.0 + 0.06 * np.sin(turns / 7.3))
                out[:, low:high] += ramp * (self._sees @ np.array([0.5, 0.75, 0.4]))[:, None] * swing


class _Waves:
    """Waves of a narrow band with no repeating shape: sines about a frequency, unit power, each lead its own mix."""

    def __init__(
        self, seed: int, name: str, centre_hz: float, spread_hz: float, count: int, leads: Sequence[str]
    ) -> None:
        key = stream_key(seed, name)
        # Drawn evenly over the bell rather than at random, so that no patient's fibrillation is a pure tone.
        grid = (np.arange(count) + 0.5) / count
        self._hz = np.array([centre_hz + spread_hz * _probit(g) + 0.05 * normal(key, n) for n, g in enumerate(grid)])
        shared = np.array([2.0 * math.pi * uniform(key, 1000 + n) for n in range(count)])
        mixes = [stream_key(seed, f"{name} {_ALIASES.get(lead, lead)}") for lead in leads]
        own = np.array([[0.9 * normal(mix, n) for n in range(count)] for mix in mixes])
        self._turns = shared[None, :] + own.reshape(len(leads), count)
        self._scale = math.sqrt(2.0 / count)

    def at(self, t: Floats, pace: float) -> Floats:
        """(leads, samples)."""
        angle = (2.0 * math.pi * pace) * self._hz[:, None] * t
        sine, cosine = np.sin(angle), np.cos(angle)
        return np.asarray(self._scale * (np.cos(self._turns) @ sine + np.sin(self._turns) @ cosine))


def _probit(share: float) -> float:
    """The normal quantile, by bisection on erf: exactness is cheap here, and nothing needs scipy."""
    low, high = -6.0, 6.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        if 0.5 * (1.0 + math.erf(middle / math.sqrt(2.0))) < share:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)
