"""The measurements of an ECG lead's quality, texture and rhythm in plain Python: the specification of ``_measure.c``, and what runs
where that was not compiled. Both give the same bits; what each number is for, its caller says.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from edge_agent.signal.quality_grid import moving_mean, runs

Array = NDArray[np.float64]
Numbers = NDArray[np.signedinteger]
"""Of C's type ``long``."""

TINY = 1e-30
GROWTH, MOST_TURNS = 1.25, 12


# -- quality, each half second -------------------------------------------------------------------------------------------------


def extents(w: Array, last: int, /) -> tuple[float, float, float, float, int, int]:
    """Lowest and highest, those of the last ones, and how many are the highest and the lowest; not a number if any is none."""
    low, high, end = float(w.min()), float(w.max()), w[-last:]
    highest, lowest = int(np.count_nonzero(w >= high)), int(np.count_nonzero(w <= low))
    return low, high, float(end.min()), float(end.max()), highest, lowest


def tapered(w: Array, taper: Array, out: Array, /) -> None:
    """Without its mean."""
    np.multiply(w - float(w.sum()) / len(w), taper, out=out)


def lines(
    spectrum: NDArray[np.complex128],
    places: Numbers,
    band: int,
    band_end: int,
    slow: int,
    slow_end: int,
    reach: int,
    least: int,
    /,
) -> tuple[list[tuple[float, float]], float]:
    """Of each of the mains the power in its line and around it; and the share of ``slow`` that lies within ``reach`` bins of the
    highest peak of ``band`` and of its double, 0 if that peak is before ``least``. ``places``: first bin and end of the line, below
    and above it."""
    power = spectrum.real**2 + spectrum.imag**2
    found = []
    for a, b, c, d, e, f in places.tolist():
        found.append((float(power[a:b].sum()), float(power[c:d].sum() + power[e:f].sum())))
    total = float(power[slow:slow_end].sum())
    peak = band + int(power[band:band_end].argmax())
    if total <= 0.0 or peak < least:
        return found, 0.0
    first = slice(max(slow, peak - reach), peak + reach + 1)
    second = slice(max(first.stop, 2 * peak - reach), min(slow_end, 2 * peak + reach + 1))
    return found, float(power[first].sum() + power[second].sum()) / total


def between_beats(
    w: Array, narrow: int, wide: int, piece: int, tenth: int, slow: int, burst: float, /
) -> tuple[float, float, float, float]:
    """Root mean square between the beats of what is left of ``w`` without means over ``narrow``, and of those without means over ``wide``;
    the share of the pieces of the former that exceed ``burst``; by how much means over ``slow`` move."""
    sums = np.cumsum(w)
    smooth = moving_mean(w, narrow, sums)
    middle = (narrow - 1) // 2
    fast = w[middle : middle + len(smooth)] - smooth
    broad = moving_mean(w, wide, sums)
    shift = (wide - narrow) // 2
    band = smooth[shift : shift + len(broad)] - broad
    n = len(fast) // piece
    energy = (fast * fast)[: n * piece].reshape(n, piece).sum(axis=1)
    bursts = int(np.count_nonzero(energy > burst * burst * piece)) / n
    level = moving_mean(w, slow, sums)
    return _quiet_part(fast, tenth), _quiet_part(band, tenth), bursts, float(level.max() - level.min())


def _quiet_part(x: Array, tenth: int) -> float:
    """The third lowest of ten tenths of a second, in the noisier of the last two seconds."""
    half = len(x) // tenth // 2
    x = x[len(x) - 2 * half * tenth :]
    energy = (x * x).reshape(2, half, tenth).sum(axis=2)
    energy.sort(axis=1)
    return math.sqrt(float(energy[:, half * 3 // 10].max()) / tenth)


def slope_energy(w: Array, out: Array, smooth: int, span: int, width: int, /) -> float:
    """The mean square of the slope (over ``span``, of means over ``smooth``), over ``width``; the highest of it."""
    level = moving_mean(w, smooth)
    slopes = level[span:] - level[:-span]
    out[:] = moving_mean(slopes * slopes, width)
    return float(out.max())


def peaks(x: Array, threshold: float, first: int, /) -> list[int]:
    """Where each stretch above the threshold that ends beyond ``first`` is highest."""
    starts, ends = runs(x > threshold)
    return [a + int(x[a:b].argmax()) for a, b in zip(starts.tolist(), ends.tolist(), strict=True) if b > first]


# -- rhythm, each beat ---------------------------------------------------------------------------------------------------------


def close_pairs(rr: Array, tolerance: float, least: int, /) -> tuple[int, int, float]:
    """Pairs of values that are closer than the tolerance, pairs of neighbours that are so twice, and the tolerance: it grows until
    there are ``least`` of the latter."""
    n = rr.size
    apart = np.abs(rr[:, None] - rr[None, :])
    one = two = 0
    for _ in range(MOST_TURNS):
        close = apart < tolerance
        # Pairs: half of what is left without the diagonal, where each matches itself.
        one = (int(np.count_nonzero(close)) - n) // 2
        two = (int(np.count_nonzero(close[:-1, :-1] & close[1:, 1:])) - (n - 1)) // 2
        if two >= least:
            break
        tolerance *= GROWTH
    return one, two, tolerance


# -- texture, each second ------------------------------------------------------------------------------------------------------


def high_pass(x: Array, state: Array, out: Array, b0: float, a1: float, a2: float, /) -> None:
    """Second order; ``state`` (the last two values that went in, and that came out) is kept up."""
    x1, x2, y1, y2 = state.tolist()
    for i, value in enumerate(x.tolist()):
        y = b0 * (value - x1 - x1 + x2) - a1 * y1 - a2 * y2
        x2, x1, y2, y1 = x1, value, y1, y
        out[i] = y
    state[:] = x1, x2, y1, y2


def likeness(y: Array, usual: Array, out: Array, least: float, /) -> None:
    """The correlation with ``usual`` (which has no mean and the norm 1) of the stretches that end at the last values, as many as
    ``out`` has; 0 for those whose norm is ``least`` and less."""
    width = len(usual)
    windows = np.ascontiguousarray(sliding_window_view(y[-(width - 1 + len(out)) :], width))
    # The usual beat has no mean, so the windows' own does not show in the product; it must be taken out of their norms.
    means = windows.mean(axis=1)
    squares = (windows * windows).sum(axis=1) - width * means * means
    norms = np.sqrt(np.maximum(squares, TINY))
    out[:] = np.where(norms > least, (windows * usual).sum(axis=1) / norms, 0.0)


def centred(y: Array, starts: Numbers, out: Array, /) -> None:
    """The stretches of ``y`` that begin there, without their means."""
    out[:] = y[starts[:, None] + np.arange(out.shape[1])]
    out -= out.mean(axis=1, keepdims=True)


def column_medians(x: Array, out: Array, /) -> None:
    """As ``numpy.median`` has them; Without values that are none."""
    ordered, middle = np.sort(x, axis=0), len(x) // 2
    out[:] = ordered[middle] if len(x) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def band_power(spectra: NDArray[np.complex128], out: Array, bins: int, band: int, band_end: int, /) -> None:
    """Of each bin; 0 outside the band."""
    out[:] = spectra.real**2 + spectra.imag**2
    rows = out.reshape(-1, bins)
    rows[:, :band] = 0.0
    rows[:, band_end:] = 0.0


def look(
    window: Array,
    powers: Array,
    again: Array,
    like: Array,
    bins: Array,
    unbias: Array,
    band: int,
    slow: int,
    peaks: int,
    lag: int,
    width: int,
    reach: float,
    same: float,
    resembles: float,
    /,
) -> tuple[float, int, float, float, float, float, float, float, float, float, int]:
    """The numbers of one window: its highest autocorrelation among ``unbias`` lags from ``lag`` on and which lag that is (the first that
    is ``same`` times as high), the share of power below the bin ``slow``, that around the highest peak and its double, that peak's
    frequency, kurtosis, the quietest part's amplitude against the loudest's, all power, the last second's root mean square; the highest
    likeness, and the last instant that ``resembles`` (-1: none)."""
    power = powers[band : band + len(bins)]
    whole = max(float(power.sum()), TINY)
    peak_hz = float(bins[power[:peaks].argmax()])
    apart = np.abs(bins - peak_hz)
    near = (apart <= reach) | (np.abs(apart - peak_hz) <= reach)
    lags = again[lag : lag + len(unbias)] * unbias
    middle = lags[1:-1]
    tops = np.where((middle > lags[:-2]) & (middle >= lags[2:]), middle, 0.0)
    highest = float(tops.max())
    best = int((tops >= same * highest).argmax())  # a multiple of the period is no less high
    squares = window * window
    n = len(window)
    energy = max(float(squares.sum()) / n, TINY)
    sixth = n // 6
    parts = squares[n - 6 * sixth :].reshape(6, sixth).mean(axis=1)
    resembling = (like > resembles).nonzero()[0]
    return (
        min(1.0, highest / max(float(again[0]), TINY)),
        best,
        float(power[:slow].sum()) / whole,
        float((power * near).sum()) / whole,
        peak_hz,
        float((squares * squares).sum()) / (n * energy * energy),
        math.sqrt(float(parts.min()) / max(float(parts.max()), TINY)),
        whole,
        math.sqrt(float(parts[4] + parts[5]) / 2.0),
        float(like[width - 1 :].max()),  # nothing of what came before
        int(resembling[-1]) if len(resembling) else -1,
    )
