"""Other hearts, electrodes, amplifiers and observers than MIT-BIH's, made from its records; and simulated patients.

Records are changed whole and then cut by the daemon's code like any other, so that templates and rhythm change with them.
What is cheap is done anew in every epoch, on the windows themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge_agent.sources.simulated.patient import SimulatedPatient
from edge_agent.sources.simulated.script import Episode, Script
from edge_train.arrays import Floats, Ints
from edge_train.data.mitdb import LABELS, Record

Doubles = NDArray[np.float64]


# --- on the windows -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Strength:
    """How often, and how much."""

    gain: float = 0.06
    """Standard deviation of the logarithm of the beat's size."""
    noise: float = 0.03
    """Of white noise on the beat, against the usual beat's standard deviation."""
    rr_dropout: float = 0.1
    """Share of beats whose RR features are 0 (history too short): shape alone must do then, as in a run of wide beats."""
    usual_dropout: float = 0.08
    """Share of beats that know no usual beat: the first of a recording."""


def vary(inputs: list[Floats], rng: np.random.Generator, how: Strength) -> list[Floats]:
    """``inputs`` in the model's order: beat, rr, shape, usual; flat rows."""
    beat, rr, shape, usual = inputs
    n = beat.shape[0]
    larger = beat * np.exp(rng.normal(0, how.gain, (n, 1))) + rng.normal(0, 1, beat.shape) * how.noise
    timed = rng.random((n, 1)) >= how.rr_dropout
    known = rng.random((n, 1)) >= how.usual_dropout
    return [np.asarray(x, np.float32) for x in (larger, rr * timed, shape * known, usual * known)]


# --- on whole records -----------------------------------------------------------------------------------------------------


def changed(record: Record, rng: np.random.Generator, faster: bool) -> Record:
    """A changed copy: stretched in time, noisy, seen by a detector that is some ms off and misses some beats.

    ``faster``: with stretches in which the rhythm is up to 2.4 times as fast, by shortening what lies between the QRS
    complexes; the usual beat and its P wave have then been learned at another rate, as in a patient whose sinus rhythm
    quickens.
    """
    stretch = float(np.exp(np.clip(rng.normal(0, 0.12), -0.25, 0.25)))
    signals, sample = _in_other_time(record, _quickening(record, rng) if faster else None, stretch)
    signals = np.array([_disturbed(lead, record.fs, rng) for lead in signals], np.float32)
    n = sample.size
    off_s = rng.normal(0, 0.006, n) * np.where(rng.random(n) < 0.1, 3, 1)
    sample = sample + np.rint(off_s * record.fs).astype(np.int64)
    seen = np.flatnonzero((rng.random(n) > 0.003) & (sample >= 0))
    seen = seen[np.argsort(sample[seen], kind="stable")]
    seen = seen[np.concatenate([[True], np.diff(sample[seen]) > 0])]
    return replace(record, signals=signals, sample=sample[seen], label=record.label[seen], vf=())


def _quickening(record: Record, rng: np.random.Generator) -> Doubles:
    """For each interval what it is multiplied by: faster for 15 to 90 s now and then, beginning and ending gradually."""
    at_s = record.sample / record.fs
    factor = np.ones(at_s.size)
    begin = 0.0
    while begin < at_s[-1]:
        begin += rng.uniform(20, 200)
        end = begin + rng.uniform(15, 90)
        most, ramp_s = rng.uniform(np.log(0.42), np.log(0.9)), rng.uniform(2, 10)
        inside = (at_s >= begin) & (at_s < end)
        share = np.clip(np.minimum(at_s - begin, end - at_s) / ramp_s, 0, 1)
        factor[inside] = np.exp(most * share)[inside]
        begin = end
    return factor


def _in_other_time(record: Record, factor: Doubles | None, stretch: float) -> tuple[Floats, Ints]:
    """The record with its intervals multiplied by ``factor`` and all of it by ``stretch``; QRS complexes keep their width."""
    n = record.signals.shape[1]
    fs, sample = record.fs, record.sample
    old, new = [0.0], [0.0]
    for i in range(sample.size - 1 if factor is not None else 0):
        assert factor is not None
        low, high = sample[i] + 0.06 * fs, sample[i + 1] - 0.10 * fs
        if factor[i] > 0.999 or high - low < 0.1 * fs:
            continue
        wanted = max((sample[i + 1] - sample[i]) * factor[i], 0.28 * fs) - 0.16 * fs
        inner = max(0.3 * (high - low), wanted)
        if inner < high - low:
            new += [new[-1] + low - old[-1], new[-1] + low - old[-1] + inner]
            old += [low, high]
    new.append(new[-1] + n - 1 - old[-1])
    old.append(n - 1.0)
    in_new = np.array(new) * stretch
    place = np.interp(np.arange(int(in_new[-1])), in_new, old)
    left = place.astype(np.int64)
    right = np.minimum(left + 1, n - 1)
    part = (place - left).astype(np.float32)
    signals = record.signals[:, left] * (1 - part) + record.signals[:, right] * part
    return signals.astype(np.float32), np.rint(np.interp(sample, old, in_new)).astype(np.int64)


def _disturbed(x: Floats, fs: float, rng: np.random.Generator) -> Floats:
    n = x.size
    t = np.arange(n) / fs
    spread = 1.5 * float(np.median(np.abs(x - np.median(x)))) + 0.3 * float(x.std())
    made = x.astype(np.float64)
    if rng.random() < 0.3:  # a monitor's filter, or a board that samples at 125 Hz
        hz = np.fft.rfftfreq(n, 1 / fs)
        made = np.fft.irfft(np.fft.rfft(made) * np.exp(-0.5 * (hz / rng.uniform(15, 40)) ** 2), n)
    breath_hz = 0.3 + 0.15 * np.sin(0.05 * t + rng.uniform(0, 6))
    made += spread * rng.uniform(0, 0.6) * np.sin(2 * np.pi * np.cumsum(breath_hz) / fs)
    pieces = int(t[-1] // 10) + 2
    loud = np.where(rng.random(pieces) < 0.4, np.exp(rng.uniform(np.log(0.02), np.log(0.5), pieces)), 0)
    noise = rng.normal(0, 1, n)
    if rng.random() < 0.5:  # muscle has less of the highest frequencies than an amplifier
        noise = (noise + np.roll(noise, 1) + np.roll(noise, 2)) / np.sqrt(3)
    made += spread * np.interp(t, 10.0 * np.arange(pieces), loud) * noise
    if rng.random() < 0.15:
        made += spread * rng.uniform(0.02, 0.1) * np.sin(2 * np.pi * rng.choice([50, 60]) * t)
    if rng.random() < 0.08:  # leads swapped, or leads that look that way
        made = -made
    return np.asarray(made * np.exp(rng.normal(0, 0.3)), np.float32)


# --- simulated patients ---------------------------------------------------------------------------------------------------

_OFTEN = {"quick": 0.35, "vt": 0.2, "sinus": 0.15, "block": 0.1, "ectopic": 0.08, "svt": 0.05, "af": 0.07}


def simulated(seed: int) -> Record:
    """One patient of the daemon's simulator with what MIT-BIH has too little of: sinus rhythm that
    quickens, and runs of ventricular tachycardia."""
    rng = np.random.default_rng(seed)
    fs = float(rng.choice([125, 250, 360, 500]))
    episodes = [_sinus(40.0, rng.uniform(50, 95), pvc_per_min=rng.choice([0.0, 4.0, 10.0]))]
    for kind in rng.choice(list(_OFTEN), 5, p=list(_OFTEN.values())):
        episode = _episode(str(kind), rng)
        if rng.random() < 0.4:
            episode = replace(episode, snr_db=float(rng.uniform(8, 25)))
        episodes.append(episode)
        if kind in ("quick", "vt", "svt"):
            episodes.append(_sinus(rng.uniform(20, 40), rng.uniform(55, 90)))
    patient = SimulatedPatient(fs, (str(rng.choice(["II", "V"])),), Script(tuple(episodes)), seed=seed)
    blocks = []
    while (block := patient.read(2000)) is not None:
        blocks.append(block.values)
    truth = patient.truth.beats
    return Record(
        name=f"s{seed}",
        fs=fs,
        signals=np.concatenate(blocks, axis=1),
        leads=("simulated",),
        sample=np.array([beat.sample for beat in truth], np.int64),
        label=np.array([LABELS.index(beat.label) for beat in truth], np.int64),
    )


def _sinus(duration_s: float, rate: float, pvc_per_min: float = 0.0) -> Episode:
    return Episode(duration_s=float(duration_s), rate_per_min=float(rate), pvc_per_min=float(pvc_per_min))


def _episode(kind: str, rng: np.random.Generator) -> Episode:
    match kind:
        case "quick":
            return _sinus(rng.uniform(15, 60), rng.uniform(105, 180), rng.choice([0.0, 0.0, 6.0]))
        case "vt":
            return Episode(rhythm="vt", duration_s=float(rng.uniform(5, 20)), rate_per_min=float(rng.uniform(120, 220)))
        case "sinus":
            return _sinus(30.0, rng.uniform(45, 100), 8.0)
        case "block":
            return Episode(rhythm=str(rng.choice(["lbbb", "rbbb"])), duration_s=40.0)
        case "svt":
            return Episode(rhythm="svt", duration_s=15.0)
        case "af":
            return Episode(rhythm="af", duration_s=40.0, rate_per_min=float(rng.uniform(70, 150)))
    return Episode(rhythm=str(rng.choice(["bigeminy", "trigeminy", "couplets"])), duration_s=30.0)
