"""The daemon's own simulated patient as an arterial line: every rhythm that its script knows, every fault of its line.

Its truth is exact, so what a pressure does when the heart stumbles, races or stops is here as a *normal* line, which the recorded
patients show too seldom.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.sources.simulated.patient import SimulatedPatient
from edge_agent.sources.simulated.script import Episode, Script
from edge_train.arrays import Floats

FS = 250.0
GOOD, BAD, NEITHER = 0, 1, 2
RHYTHMS = (
    "sinus",
    "pvc",
    "bigeminy",
    "couplets",
    "af",
    "flutter",
    "svt",
    "brady",
    "tachy",
    "vt",
    "vf",
    "asystole",
    "low",
    "high",
)
FAULTS = ("damped", "flush", "clipped", "disconnected", "noise")
LEAST_S = {"damped": 4.0, "flush": 1.0, "clipped": 3.0, "disconnected": 1.0, "noise": 2.0}
"""As in `edge_train.abp.faults`. The simulated drift (1.5 mmHg a second) is not used: ten seconds do not tell it from a patient."""
_SEEN_MMHG = 5.0
_HELD_S = 0.6
"""A fault that crosses the true pressure is still there: what differs within so long before and after counts."""


@dataclass(frozen=True, slots=True)
class Simulated:
    """A pressure, and what is true of every sample."""

    name: str
    fs: float
    abp: Floats
    truth: NDArray[np.int8]
    """GOOD, BAD or NEITHER."""
    kind: NDArray[np.str_]
    """The fault where BAD, the rhythm elsewhere."""


def simulate(seed: int, fs: float = FS, events: int = 16, held_out: bool = False) -> Simulated:
    """A patient of his own pressures, rhythms and faults. ``held_out``: faults of other lengths and strengths."""
    rng = np.random.default_rng([4711, seed])
    systolic = rng.uniform(90, 175)
    pulse = rng.uniform(28, 75)
    usual: dict[str, Any] = {
        "rate_per_min": rng.uniform(50, 115),
        "systolic_mmhg": systolic,
        "diastolic_mmhg": float(np.clip(systolic - pulse, 38, 115)),
        "transit_ms": rng.uniform(150, 260),
        "variability": rng.uniform(0.01, 0.08),
    }
    episodes = [Episode("sinus", rng.uniform(20, 30), **usual)]
    order = list(rng.permutation(RHYTHMS)[: events // 2]) + list(rng.permutation(FAULTS))[: events // 2]
    while len(order) < events:
        order.append(str(rng.choice(RHYTHMS)))
    for event in rng.permutation(order).tolist():
        episodes.append(_fault(event, usual, rng, held_out) if event in FAULTS else _rhythm(event, usual, rng))
        episodes.append(Episode("sinus", rng.uniform(14, 26), **usual))
    abp, ends = _render(fs, episodes, seed)
    clean, _ = _render(fs, [replace(each, line=None, pulse_snr_db=None) for each in episodes], seed)
    wrong = np.abs(abp - clean)
    width = round(_HELD_S * fs)
    largest = np.maximum.reduceat(wrong, np.arange(0, len(wrong), width))
    near = np.maximum(largest, np.maximum(np.roll(largest, 1), np.roll(largest, -1)))
    near, here = (np.repeat(part, width)[: len(wrong)] for part in (near, largest))
    truth = np.where(here > _SEEN_MMHG, BAD, np.where(near > 1.0, NEITHER, GOOD)).astype(np.int8)
    kind = np.full(len(abp), "sinus", "U16")
    first = 0
    for each, end in zip(episodes, ends, strict=True):
        kind[first:end] = each.name
        if each.name in FAULTS:
            kind[end : end + 2 * width] = each.name  # its end is felt a little longer
        first = end + (2 * width if each.name in FAULTS else 0)
    return Simulated(f"sim-{seed}", fs, abp, truth, kind)


def _render(fs: float, episodes: Sequence[Episode], seed: int) -> tuple[Floats, list[int]]:
    """The pressure, and where each episode ends."""
    patient = SimulatedPatient(fs, ("ABP",), Script(tuple(episodes)), seed)
    parts = []
    while (block := patient.read(round(10 * fs))) is not None:
        parts.append(block.values[0])
    abp = np.concatenate(parts)
    return abp, [min(each.end, len(abp)) for each in patient.truth.episodes]


def _rhythm(name: str, usual: dict[str, Any], rng: np.random.Generator) -> Episode:
    special: dict[str, dict[str, Any]] = {
        "pvc": {"pvc_per_min": rng.uniform(4, 20)},
        "bigeminy": {"rhythm": "bigeminy"},
        "couplets": {"rhythm": "couplets"},
        "af": {"rhythm": "af", "rate_per_min": rng.uniform(70, 140)},
        "flutter": {"rhythm": "flutter", "rate_per_min": rng.uniform(75, 150)},
        "svt": {"rhythm": "svt", "rate_per_min": rng.uniform(150, 200)},
        "brady": {"rate_per_min": rng.uniform(26, 42)},
        "tachy": {"rate_per_min": rng.uniform(130, 175)},
        "vt": {"rhythm": "vt", "rate_per_min": rng.uniform(120, 220)},
        "vf": {"rhythm": "vf", "rate_per_min": rng.uniform(220, 400)},
        "asystole": {"rhythm": "asystole", "rate_per_min": 0.0},
        "low": {"systolic_mmhg": rng.uniform(58, 80), "diastolic_mmhg": rng.uniform(30, 44)},
        "high": {"systolic_mmhg": rng.uniform(180, 235), "diastolic_mmhg": rng.uniform(85, 125)},
    }
    long_s = rng.uniform(6, 22) if name in ("vt", "vf", "asystole") else rng.uniform(15, 40)
    return Episode(name, float(long_s), **(usual | special.get(name, {})))


def _fault(name: str, usual: dict[str, Any], rng: np.random.Generator, held_out: bool) -> Episode:
    long_s = rng.uniform(7, 14) if held_out else rng.uniform(9, 26)
    if name == "noise":
        snr_db = rng.uniform(-4, 1) if held_out else rng.uniform(-6, 3)
        return Episode(name, long_s, pulse_snr_db=snr_db, **usual)
    return Episode(name, long_s, line=name, **usual)


def verdict(line: Simulated, first: int, end: int) -> tuple[int, str]:
    """GOOD, BAD or NEITHER for a segment, and the fault or the rhythms in it."""
    truth, kind = line.truth[first:end], line.kind[first:end]
    wrong = kind[truth == BAD]
    for name in np.unique(wrong).tolist():
        if name in LEAST_S and float((wrong == name).sum()) / line.fs >= LEAST_S[name]:
            return BAD, name
    if (truth != GOOD).any():
        return NEITHER, ""
    names = [name for name in np.unique(kind).tolist() if name != "sinus" and name not in FAULTS]
    return GOOD, "+".join(names) or "sinus"
