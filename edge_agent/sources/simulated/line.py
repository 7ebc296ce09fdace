"""Faults of the arterial line: what the catheter, the tubing and the transducer do to a true pressure.

Each takes the clean pressure with some of the past before it and gives the seconds asked for. mmHg throughout.
"""

from __future__ import annotations

import math

import numpy as np

from edge_agent.sources.simulated.bits import Floats
from edge_agent.sources.simulated.script import Span

FLUSH_MMHG = 300.0
DAMPING_S = 0.13
"""Of each of two equal lags: they halve the fundamental at 70 /min and leave little above it."""
PAST_S = 10.0 * DAMPING_S
"""How much clean past `apply_fault` needs."""
DRIFT_MMHG_PER_S = 1.5
DRIFT_BOUND_MMHG = 45.0

_CLOT_S = 3.0
_FLUSH_AFTER_S = 0.6
_FLUSH_LONGEST_S = 6.0
_FLUSH_EVERY_S = 9.0
_FALL_S = 0.12


def apply_fault(span: Span, began_s: float, past: Floats, clean: Floats, t: Floats, fs: float) -> Floats:
    """The pressure as the faulty line shows it at times `t`, all within `span`; the fault itself may be older.

    `past` holds at least `PAST_S` of clean pressure just before `clean`.
    """
    since = t - began_s
    line = span.episode.line
    if line == "damped":
        wet = _smoothed(past, clean, fs)
        share = np.minimum(since / _CLOT_S, 1.0)
        return np.asarray(clean + share * (wet - clean))
    if line == "clipped":
        systolic, diastolic = span.episode.systolic_mmhg, span.episode.diastolic_mmhg
        return np.clip(clean, diastolic + 0.12 * (systolic - diastolic), diastolic + 0.65 * (systolic - diastolic))
    if line == "drift":
        return np.asarray(clean + np.minimum(DRIFT_MMHG_PER_S * since, DRIFT_BOUND_MMHG))
    if line == "disconnected":
        return np.asarray(clean * np.exp(-since / _FALL_S))
    if line == "flush":
        return _flushed(span.end_s - began_s, clean, since)
    return clean


def _smoothed(past: Floats, clean: Floats, fs: float) -> Floats:
    """Two lags in a row, an overdamped system: a narrowed line passes the mean and little else, and passes it late."""
    delay_s = np.arange(math.floor(PAST_S * fs)) / fs
    taps = delay_s * np.exp(-delay_s / DAMPING_S)
    joined = np.concatenate([past[len(past) - len(taps) + 1 :], clean])
    return np.asarray(np.convolve(joined, taps / taps.sum(), mode="valid"))


def _flushed(length_s: float, clean: Floats, since: Floats) -> Floats:
    """The fast-flush valve opened and let go: a square wave to the pressure bag's, then ringing of the tubing."""
    held_s = min(_FLUSH_LONGEST_S, max(0.5, length_s - 1.6))
    phase = (since - _FLUSH_AFTER_S) % _FLUSH_EVERY_S
    started = since >= _FLUSH_AFTER_S
    # no second flush that would be cut by the episode's end
    turn = np.floor((since - _FLUSH_AFTER_S) / _FLUSH_EVERY_S)
    whole = _FLUSH_AFTER_S + turn * _FLUSH_EVERY_S + held_s + 0.9 <= length_s
    whole |= turn == 0
    held = started & whole & (phase < held_s)
    rising = 1.0 - np.exp(-np.maximum(phase, 0.0) / 0.02)
    out = np.where(held, clean + (FLUSH_MMHG - clean) * rising, clean)
    after = phase - held_s
    ringing = started & whole & (after >= 0.0)
    late = np.maximum(after, 0.0)
    ring = (FLUSH_MMHG - 90.0) * np.exp(-late / 0.055) * np.cos(2.0 * math.pi * 13.0 * late)
    return np.where(ringing, clean + ring, out)
