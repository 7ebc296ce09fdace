"""MIT-BIH Arrhythmia Database (Moody & Mark 2001): records, beats, and the split between patients of de Chazal (2004)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import wfdb
from numpy.typing import NDArray

Signal = NDArray[np.float64]
Indices = NDArray[np.int64]

_DS1 = "101 106 108 109 112 114 115 116 118 119 122 124 201 203 205 207 208 209 215 220 223 230"
_DS2 = "100 103 105 111 113 117 121 123 200 202 210 212 213 214 219 221 222 228 231 232 233 234"
_PACED = "102 104 107 217"
DS1, DS2, PACED = _DS1.split(), _DS2.split(), _PACED.split()
BEATS = frozenset("NLRBAaJSVrFejnE/fQ?")


@dataclass(frozen=True, slots=True)
class Record:
    name: str
    fs: float
    leads: tuple[Signal, Signal]
    beats: Indices
    ventricular: Indices
    """Those of the beats that are ectopic from the ventricles."""
    fibrillation: tuple[tuple[int, int], ...]
    """Ventricular: beats in it are not scored and not learned from."""


def read(folder: Path, name: str) -> Record:
    signals = wfdb.rdrecord(str(folder / name))
    marks = wfdb.rdann(str(folder / name), "atr")
    values = np.nan_to_num(np.asarray(signals.p_signal, np.float64))
    beats = [s for s, symbol in zip(marks.sample, marks.symbol, strict=True) if symbol in BEATS]
    ventricular = [s for s, symbol in zip(marks.sample, marks.symbol, strict=True) if symbol in "VE"]
    edges = [int(s) for s, symbol in zip(marks.sample, marks.symbol, strict=True) if symbol in "[]"]
    spells = tuple(zip(edges[::2], edges[1::2], strict=False))
    leads = (values[:, 0], values[:, 1])
    return Record(
        name, float(signals.fs), leads, np.asarray(beats, np.int64), np.asarray(ventricular, np.int64), spells
    )
