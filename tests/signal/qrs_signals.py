"""Electrocardiograms for the QRS detector's tests: made ones with known R peaks, and stretches of recordings."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import wfdb
from numpy.typing import NDArray

from edge_agent.journey import Beat, Samples
from edge_agent.signal.qrs import QrsDetector, make_qrs_detector

BEATS = frozenset("NLRBAaJSVrFejnE/fQ?")
_RECORDS = (
    "100 101 102 103 104 105 106 107 108 109 111 112 113 114 115 116 117 118 119 121 122 123 124 200 201 202 203 205 207 208 "
    "209 210 212 213 214 215 217 219 220 221 222 223 228 230 231 232 233 234"
)
RECORDS = _RECORDS.split()
# centre (s from the R peak), width (s), height (mV): P, Q, R, S, T
_WAVES = ((-0.17, 0.022, 0.12), (-0.026, 0.009, -0.12), (0.0, 0.010, 1.1), (0.028, 0.010, -0.22), (0.27, 0.045, 0.3))


def ecg(
    fs: float, seconds: float, rate_per_min: float = 72.0, noise_mv: float = 0.01, seed: int = 0
) -> tuple[Samples, list[int]]:
    """Sinus rhythm whose intervals vary by a few percent, and where its R peaks are."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * fs)) / fs
    x = noise_mv * rng.standard_normal(len(t))
    peaks: list[int] = []
    at = 0.5
    while at < seconds - 0.4:
        for centre, width, height in _WAVES:
            near = slice(max(0, int((at + centre - 5 * width) * fs)), int((at + centre + 5 * width) * fs) + 1)
            x[near] += height * np.exp(-0.5 * ((t[near] - at - centre) / width) ** 2)
        peaks.append(round(at * fs))
        at += 60 / rate_per_min * (1 + 0.03 * rng.standard_normal())
    return x.astype(np.float32), peaks


@cache
def stretch(folder: Path, record: str, start_s: int, stop_s: int) -> tuple[Samples, tuple[int, ...]]:
    """Channel 0 of a recording and its annotated beats."""
    header = wfdb.rdheader(str(folder / record))
    first, last = round(start_s * header.fs), round(stop_s * header.fs)
    signals = wfdb.rdrecord(str(folder / record), sampfrom=first, sampto=last, channels=[0])
    marks = wfdb.rdann(str(folder / record), "atr", sampfrom=first, sampto=last, shift_samps=True)
    beats = [int(s) for s, symbol in zip(marks.sample, marks.symbol, strict=True) if symbol in BEATS]
    return np.ascontiguousarray(signals.p_signal[:, 0], dtype=np.float32), tuple(beats)


def detect(x: NDArray[np.floating], fs: float, method: str = "native", block_s: float = 0.1) -> list[Beat]:
    """Through the streaming path, with the end of the stream."""
    detector = make_qrs_detector(fs, "II", method)
    return [*feed(detector, np.asarray(x, np.float32), 0, max(1, round(block_s * fs))), *detector.flush()]


def feed(detector: QrsDetector, x: Samples, first: int, block: int) -> list[Beat]:
    return [b for i in range(0, len(x), block) for b in detector.feed(x[i : i + block], first + i)]


def shares(found_s: Sequence[float], true_s: Sequence[float], within_s: float) -> tuple[float, float]:
    """(share of the true ones that were found, share of the found ones that are true)."""
    found, true = np.asarray(found_s), np.asarray(true_s)
    if not len(found) or not len(true):
        return float(not len(true)), float(not len(found))
    gaps = np.abs(found[:, None] - true[None, :])
    return float(np.mean(gaps.min(0) <= within_s)), float(np.mean(gaps.min(1) <= within_s))
