"""The compiled half of ``qrs``; see ``qrs_reference`` for what it does."""

from typing import Any, final

import numpy as np
from numpy.typing import NDArray

@final
class Kernel:
    """``design`` and ``weights`` as ``Design.packed`` and ``Weights.packed`` make them; no weights: the rules decide."""

    def __new__(cls, design: bytes, weights: bytes, first: int = 0, trace: bool = False) -> Kernel: ...
    @property
    def learned(self) -> bool: ...
    def feed(self, x: NDArray[np.float32], first: int, /) -> list[tuple[int, int, float]] | None: ...
    def flush(self) -> list[tuple[int, int, float]] | None: ...
    def reset(self, first: int, /) -> None: ...
    def force(self, candidates: bytes, /) -> None:
        """For training, with ``trace``: these candidates (int64, ascending) are the beats, and nothing is decided."""

    def trace(self) -> bytes:
        """For training: a row of doubles for each candidate since the last call: candidate, R peak, decided,
        probability, not asked, energy, inputs."""

def resample(
    x: NDArray[np.float32], index: NDArray[np.int32], weights: NDArray[np.float32], out: NDArray[np.float32], /
) -> bool:
    """``windows.resample`` compiled; False where x holds what is no number."""

def normalise(x: NDArray[np.float32], how: int, usual: NDArray[np.float32] | None, out: NDArray[np.float32], /) -> None:
    """``windows.normalise`` compiled; how: 0 zscore, 1 minmax, 2 usual."""

def mean_rows(rows: NDArray[np.float32], many: int, out: NDArray[np.float32], /) -> None: ...
def quantise(x: NDArray[np.float32], inverse: float, zero_point: int, out: NDArray[Any], /) -> bool:
    """``inference.quantise`` compiled, into int8 or uint8; False where x holds what is no number."""

def counts(payload: bytes, begin: int, factors: NDArray[np.float64], out: NDArray[np.float32], /) -> None:
    """``sources.raw_blocks.counts_to_units`` compiled."""

def dequantise(raw: NDArray[Any], zero_point: int, scale: float, out: NDArray[np.float32], /) -> None: ...
def waves(
    x: NDArray[np.float32],
    centre: bool,
    ramp: NDArray[np.float32],
    f: NDArray[np.float32],
    norms: NDArray[np.float64],
    /,
) -> None:
    """``usual_beat.make_waves`` compiled."""

def compared(
    f: NDArray[np.float32],
    norms: NDArray[np.float64],
    usual_f: NDArray[np.float32],
    usual_norms: NDArray[np.float64],
    agreed: NDArray[np.float32],
    ramp: NDArray[np.float32],
    out: NDArray[np.float32],
    /,
) -> None:
    """``usual_beat.compare`` compiled."""

# _measure.c; measure_reference.py says what each does.

_Array = NDArray[np.float64]
_Numbers = NDArray[np.signedinteger]

def extents(w: _Array, last: int, /) -> tuple[float, float, float, float, int, int]: ...
def tapered(w: _Array, taper: _Array, out: _Array, /) -> None: ...
def lines(
    spectrum: NDArray[np.complex128],
    places: _Numbers,
    band: int,
    band_end: int,
    slow: int,
    slow_end: int,
    reach: int,
    least: int,
    /,
) -> tuple[list[tuple[float, float]], float]: ...
def between_beats(
    w: _Array, narrow: int, wide: int, piece: int, tenth: int, slow: int, burst: float, /
) -> tuple[float, float, float, float]: ...
def slope_energy(w: _Array, out: _Array, smooth: int, span: int, width: int, /) -> float: ...
def peaks(x: _Array, threshold: float, first: int, /) -> list[int]: ...
def close_pairs(rr: _Array, tolerance: float, least: int, /) -> tuple[int, int, float]: ...
def high_pass(x: _Array, state: _Array, out: _Array, b0: float, a1: float, a2: float, /) -> None: ...
def likeness(y: _Array, usual: _Array, out: _Array, least: float, /) -> None: ...
def centred(y: _Array, starts: _Numbers, out: _Array, /) -> None: ...
def column_medians(x: _Array, out: _Array, /) -> None: ...
def band_power(spectra: NDArray[np.complex128], out: _Array, bins: int, band: int, band_end: int, /) -> None: ...
def look(
    window: _Array,
    powers: _Array,
    again: _Array,
    like: _Array,
    bins: _Array,
    unbias: _Array,
    band: int,
    slow: int,
    peaks: int,
    lag: int,
    width: int,
    reach: float,
    same: float,
    resembles: float,
    /,
) -> tuple[float, int, float, float, float, float, float, float, float, float, int]: ...
