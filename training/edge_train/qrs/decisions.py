"""Rows to learn from: the detector's candidates on one stretch, each with what it saw and whether it was a beat."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge_agent.signal import _kernel
from edge_agent.signal.qrs_design import INPUTS, Weights, design
from edge_train.qrs.records import Indices, Record

WINDOW_S = 0.15
_HEAD = 6
"""Columns of a traced row before the inputs: candidate, R peak, decided, probability, not asked, energy."""


@dataclass(frozen=True, slots=True)
class Rows:
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    weight: NDArray[np.float32]


def join(rows: list[Rows]) -> Rows:
    return Rows(*(np.concatenate([getattr(r, name) for r in rows]) for name in ("x", "y", "weight")))


def traced(x: NDArray[np.float32], fs: float, weights: Weights | None, forced: Indices | None) -> NDArray[np.float64]:
    """Every candidate's row; where ``forced`` is given, those candidates are the beats and nothing is decided."""
    numbers = replace(design(fs, "native"), fs=fs)
    kernel = _kernel.Kernel(numbers.packed(), weights.packed() if weights else b"", 0, True)
    if forced is not None:
        kernel.force(forced.astype(np.int64).tobytes())
    kernel.feed(x, 0)
    kernel.flush()
    return np.frombuffer(kernel.trace(), np.float64).reshape(-1, _HEAD + INPUTS)


def truth(peaks: NDArray[np.float64], beats: Indices, fs: float) -> NDArray[np.float32]:
    """1 for the candidate nearest to each annotated beat, if it is within the scoring window."""
    y = np.zeros(len(peaks), np.float32)
    order = np.argsort(peaks, kind="stable")
    ranked = peaks[order]
    for beat, place in zip(beats.tolist(), np.searchsorted(ranked, beats).tolist(), strict=True):
        near = range(max(0, place - 2), min(len(ranked), place + 2))
        best = min(near, key=lambda k: abs(ranked[k] - beat), default=None)
        if best is not None and abs(ranked[best] - beat) <= WINDOW_S * fs:
            y[order[best]] = 1
    return y


def learnable(
    x: NDArray[np.float32],
    fs: float,
    beats: Indices,
    weights: Weights | None,
    weight: float,
    record: Record | None = None,
) -> Rows:
    """Without weights the truth decides, so that the state is that of a perfect detector; with weights they decide."""
    rows = traced(x, fs, None, np.zeros(0, np.int64))
    y = truth(rows[:, 1], beats, fs)
    rows = traced(x, fs, None, rows[y == 1, 0].astype(np.int64)) if weights is None else traced(x, fs, weights, None)
    asked = rows[:, 4] == 0
    for start, stop in record.fibrillation if record else ():
        asked &= ~((rows[:, 1] >= start - WINDOW_S * fs) & (rows[:, 1] <= stop + WINDOW_S * fs))
    y = y[asked]
    return Rows(rows[asked, _HEAD:].astype(np.float32), y, np.full(len(y), weight, np.float32))
