"""What a CSV does not say: whether the first of its unnamed columns is a time, and whether numbers without a unit can be millivolts.

A wrong guess shows nowhere else: seconds taken for an ECG are a flat line, microvolts taken for millivolts a good signal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import SourceError
from edge_agent.journey import Samples
from edge_agent.sources.base import Signal
from edge_agent.sources.csv_time import EPOCH_S
from edge_agent.sources.recording import NO_UNIT

LEAST_ROWS = 10
RISING = 0.95
"""Of the steps of a clock or a counter go up (one that begins anew, or was set, falls once in a while); of an ECG's about half."""
MOVING = 0.3
"""Of them go up at all: times rounded to milliseconds stand still between."""
RATES_HZ = (50.0, 5000.0)
"""Which a step in seconds or milliseconds must make."""
UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
AS_TOLD = 0.1
MOST_ECG_MV = 20.0
"""Peak to peak within two seconds: what is usual over the file. Pacing spikes and movement are seldom."""
ABP_MMHG = (-50.0, 350.0)
LOOK_S = 2.0
MOST_WINDOWS = 500


@dataclass(frozen=True, slots=True)
class FirstColumn:
    """It is no signal."""

    factor: float
    """Seconds per number; 0: since 1970, in what makes sense."""
    counts: bool
    """Sample numbers: to be left out."""
    word: str


def rises(column: NDArray[np.float64]) -> float | None:
    """Its usual step, if it goes up and up as no signal does."""
    there = column[np.isfinite(column)]
    if there.size < LEAST_ROWS or there.size < 0.9 * column.size:
        return None
    steps = np.diff(there)
    if (steps >= 0).mean() < RISING or (steps > 0).mean() < MOVING:
        return None
    forward = np.sort(steps[steps >= 0])  # without the holes: a mean, since single steps may be rounded
    return float(np.mean(forward[: max(1, forward.size * 9 // 10)])) or None


def first_column(column: NDArray[np.float64], told: float | None, where: str) -> FirstColumn | None:
    """What the first of several unnamed columns is, unless it is a signal; an error where it is a time of no certain unit."""
    step = rises(column)
    if step is None:
        return None
    counts = abs(step - 1) < 1e-6
    if told is not None:
        for unit, factor in UNITS.items():
            if abs(step * factor * told - 1) < AS_TOLD:
                return FirstColumn(factor, False, f"the time in {unit}")
        if counts:
            return FirstColumn(0.0, True, "sample numbers")
    # What a rate that was told contradicts is said with both rates, when they are compared.
    first = abs(float(column[np.isfinite(column)][0]))
    if any(EPOCH_S[0] * scale < first < EPOCH_S[1] * scale for scale in (1.0, 1e3, 1e6, 1e9)):
        return FirstColumn(0.0, False, "the time since 1970")
    for unit in ("s", "ms"):
        if not counts and RATES_HZ[0] <= 1 / (step * UNITS[unit]) <= RATES_HZ[1]:
            return FirstColumn(UNITS[unit], False, f"the time in {unit}")
    raise SourceError(
        f"{where}: its first column rises by {step:.4g} from line to line: no signal, but a time in a unit that is not certain"
        + (f" (no known one makes {told:g} Hz of it)" if told is not None else ", or sample numbers" if counts else ""),
        remedy='put a header above it that says what it is: "time_ms,ECG" ("time": seconds; "sample": to be left out, with --fs RATE)',
    )


def no_rate(where: str, names: list[str], data: NDArray[np.float64], *, named: bool) -> SourceError:
    """There is no column of times: which columns there are, and whether one looks as if it were meant."""
    shown = ", ".join(map(repr, names[:8])) + (", ..." if len(names) > 8 else "")
    columns = f" (its columns: {shown})" if named else f" ({len(names)} columns, no header)" if len(names) > 1 else ""
    remedy = "give it: --fs RATE (replay), or fs = RATE in the source's table (samples per second)"
    like = next((name for name, column in zip(names, data.T, strict=True) if rises(column) is not None), None)
    if named and like is not None:
        remedy = (
            f"{like!r} rises steadily: if it is the time, call it time (seconds), time_ms or time_us; else {remedy}"
        )
    return SourceError(f"{where}: has no time column, so its rate is unknown{columns}", remedy=remedy)


def doubts(signals: tuple[Signal, ...], values: Samples, fs: float) -> list[str]:
    """Of the ECGs and pressures whose unit is not said: which cannot be in mV or mmHg."""
    said = []
    for signal, row in zip(signals, values, strict=True):
        if signal.unit.strip().lower() not in NO_UNIT or signal.kind not in ("ecg", "abp"):
            continue
        low, high = _usual(row, fs)
        if signal.kind == "ecg" and high - low > MOST_ECG_MV:
            said.append(
                f"{signal.name!r} says no unit and is taken for mV, but moves by {high - low:.4g} within {LOOK_S:g} s: no ECG in mV;"
                f' say its unit in the header: "{signal.name} (uV)"; bring counts of a converter to mV first'
            )
        elif signal.kind == "abp" and not ABP_MMHG[0] <= low <= high <= ABP_MMHG[1]:
            said.append(
                f"{signal.name!r} says no unit and is taken for mmHg, but lies between {low:.4g} and {high:.4g}: no pressure in mmHg;"
                f' say its unit in the header: "{signal.name} (kPa)"; bring counts of a converter to mmHg first'
            )
    return said


def _usual(row: NDArray[np.float32], fs: float) -> tuple[float, float]:
    """The lowest and the highest value of a usual stretch."""
    n = max(2, min(row.size, round(LOOK_S * fs)))
    starts = np.unique(np.linspace(0, max(0, row.size - n), MOST_WINDOWS).astype(int))
    pieces = [piece[np.isfinite(piece)] for piece in (row[at : at + n] for at in starts)]
    extents = [(float(piece.min()), float(piece.max())) for piece in pieces if piece.size > n // 2]
    if not extents:
        return 0.0, 0.0
    return sorted(extents, key=lambda one: one[1] - one[0])[len(extents) // 2]
