"""Rhythms that the training records hardly have, from the simulated patient.

DS1 holds a few dozen fast ventricular beats, all of three patients. A verifier trained on it alone takes the wide beats of a
tachycardia for T waves, which costs nothing on the test records and everything at a bedside.
"""

from __future__ import annotations

import numpy as np

from edge_agent.sources.simulated.patient import CHANNELS, SimulatedPatient
from edge_agent.sources.simulated.script import Episode, Script
from edge_train.qrs.changes import Rng
from edge_train.qrs.records import Indices, Signal

LEADS = tuple(name for name in CHANNELS if name not in ("ABP", "PLETH"))
RHYTHMS = {
    "vt": 0.4,
    "svt": 0.12,
    "sinus": 0.2,
    "lbbb": 0.06,
    "rbbb": 0.04,
    "af": 0.06,
    "couplets": 0.06,
    "paced": 0.06,
}
RATES = {"vt": (105, 245), "svt": (140, 240), "sinus": (35, 190), "lbbb": (50, 160), "rbbb": (50, 160), "af": (60, 180)}


def stretch(length_s: float, fs: float, rng: Rng) -> tuple[Signal, Indices]:
    """One simulated patient in one lead: sinus rhythm with spells of other rhythms, clean (`changes` adds the noise)."""
    episodes, left = [], length_s
    while left > 0:
        episodes.append(Episode("rest", float(rng.uniform(5, 40)), "sinus", float(rng.uniform(50, 110))))
        rhythm = str(rng.choice(list(RHYTHMS), p=np.array(list(RHYTHMS.values())) / sum(RHYTHMS.values())))
        low, high = RATES.get(rhythm, (60, 90))
        episodes.append(Episode(rhythm, float(rng.uniform(4, 60)), rhythm, float(rng.uniform(low, high))))
        left -= episodes[-1].duration_s + episodes[-2].duration_s
    patient = SimulatedPatient(fs, (str(rng.choice(LEADS)),), Script(tuple(episodes)), int(rng.integers(1 << 31)))
    parts = []
    while (block := patient.read(round(60 * fs))) is not None:
        parts.append(block.values[0].astype(np.float64))
    beats = np.array([beat.sample for beat in patient.truth.beats], np.int64)
    x = np.concatenate(parts)
    return x, beats[(beats > 20) & (beats < len(x) - 20)]
