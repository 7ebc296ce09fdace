"""The compiled measurements of quality, texture and rhythm give the bits of the plain Python beside them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.signal import measure
from edge_agent.signal import measure_reference as plain

pytestmark = pytest.mark.skipif(not measure.KERNEL, reason="the compiled kernel is not built here")

RATES = [100.0, 125.0, 250.0, 257.0, 360.0, 500.0, 977.5, 1000.0]


def noise(seed: int, *shape: int, scale: float = 1.0, offset: float = 0.0) -> NDArray[np.float64]:
    """Odd seeds are whole steps of a converter: values that are equal, and held."""
    x = np.random.default_rng(seed).normal(size=shape) * scale + offset
    return np.round(x * 4.0) / 4.0 if seed % 2 else x


def longs(values: object) -> Any:
    return np.array(values, "l")


def both(name: str, *args: Any) -> None:
    """The same answer, and the same in every array that is written."""
    answers, written = [], []
    for module in (measure, plain):
        mine = [arg.copy() if isinstance(arg, np.ndarray) else arg for arg in args]
        answers.append(getattr(module, name)(*mine))
        written.append([arg for arg in mine if isinstance(arg, np.ndarray)])
    np.testing.assert_equal(answers[0], answers[1])
    for one, other in zip(*written, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("fs", RATES)
@pytest.mark.parametrize("seed", range(6))
def test_quality(fs: float, seed: int) -> None:
    n = round(2 * fs)
    w = noise(seed, n, scale=10.0 ** (seed - 3), offset=seed)
    both("extents", w, round(fs))
    both("tapered", w, np.hanning(n), np.empty(n))
    narrow = max(2, round(0.02 * fs))
    wide = max(narrow + 2, round(0.1 * fs))
    for burst in (0.0, 0.5, 1e3):
        both("between_beats", w, narrow, wide, round(0.05 * fs), round(0.1 * fs) - 1, round(0.5 * fs), burst)
    smooth, span, width = narrow, max(1, round(0.012 * fs)), round(0.1 * fs)
    energy = np.empty(n - smooth - span - width + 2)
    both("slope_energy", w, energy, smooth, span, width)
    plain.slope_energy(w, energy, smooth, span, width)
    for part in (0.0, 0.3, 0.9, 1.0):
        for first in (0, n // 3, n):
            both("peaks", energy, part * float(energy.max()), first)


def test_a_stretch_above_the_threshold_at_either_end_has_its_peak() -> None:
    both("peaks", np.array([5.0, 6.0, 1.0, 1.0, 7.0]), 2.0, 0)
    assert measure.peaks(np.array([5.0, 6.0, 6.0, 1.0, 7.0]), 2.0, 0) == [1, 4]
    assert measure.peaks(np.array([5.0, 6.0, 1.0, 1.0, 7.0]), 2.0, 2) == [4]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_shows_in_the_extents(value: float) -> None:
    x = noise(0, 100)
    x[30] = value
    with np.errstate(invalid="ignore"):
        both("extents", x, 20)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("mains", [0, 1, 2])
def test_lines_of_the_spectrum(seed: int, mains: int) -> None:
    spectrum = np.fft.rfft(noise(seed, 720) + 3 * np.sin(np.arange(720) * seed / 9))
    places = longs([[98, 103, 88, 97, 104, 113], [118, 123, 108, 117, 124, 133]][:mains]).reshape(-1, 6)
    both("lines", spectrum, places, 2, 21, 2, 61, 2, 4)
    both("lines", spectrum * 0.0, places, 2, 21, 2, 61, 2, 4)
    both("lines", spectrum, places, 2, 340, 2, 361, 30, 0)  # the double of the peak lies beyond the end


@pytest.mark.parametrize("n", [2, 3, 30, 64])
@pytest.mark.parametrize("seed", range(6))
def test_close_pairs(n: int, seed: int) -> None:
    rr = 0.8 + noise(seed, n, scale=0.01 * (seed + 1) ** 2)
    both("close_pairs", rr, 0.03, 5)
    both("close_pairs", np.full(n, 0.8), 0.03, 5)


@pytest.mark.parametrize("seed", range(6))
def test_texture(seed: int) -> None:
    y = noise(seed, 600, scale=10.0 ** (seed - 3))
    both("high_pass", y, noise(seed + 1, 4), np.empty(600), 0.93, -1.86, 0.87)
    usual = noise(seed + 2, 45)
    usual -= usual.mean()
    usual /= np.sqrt(usual @ usual)
    for least in (0.0, 6.7 * 10.0 ** (seed - 3), 1e9):
        both("likeness", y, usual, np.empty(60), least)
    both("likeness", np.zeros(600), usual, np.empty(60), 0.0)
    starts = longs([300, 316, 331, 347])
    windows = np.empty((4, 187))
    both("centred", y, starts, windows)
    plain.centred(y, starts, windows)
    spectra = np.fft.rfft(windows, 240)
    powers = np.empty((4, 121))
    both("band_power", spectra, powers, 121, 4, 77)
    plain.band_power(spectra, powers, 121, 4, 77)
    again = np.fft.irfft(powers, 240)
    like = np.clip(noise(seed, 187, scale=0.5), -1, 1)
    bins, unbias = np.fft.rfftfreq(240, 1 / 62.0)[4:77], 187 / (187 - np.arange(11, 40))
    for row in range(4):
        shown = windows[row], powers[row], again[row]
        both("look", *shown, like, bins, unbias, 4, 20, 35, 11, 45, 0.75, 0.9, 0.75)
    both(
        "look",
        np.zeros(187),
        np.abs(powers[0]) * 0,
        np.zeros(240),
        np.zeros(187),
        bins,
        unbias,
        4,
        20,
        35,
        11,
        45,
        0.75,
        0.9,
        0.75,
    )
    both("look", windows[0], powers[0], -np.abs(again[0]), like, bins, unbias, 4, 20, 35, 11, 45, 0.75, 0.9, 0.75)


X = np.zeros(50)


@pytest.mark.parametrize("rows", [1, 2, 3, 8, 95, 96])
def test_medians_of_columns(rows: int) -> None:
    for seed, step in enumerate([0.0, 0.5]):
        x = noise(seed, rows, 46)
        if step:
            x = np.round(x / step) * step  # many of the same
        both("column_medians", x.copy(), np.empty(46))
        out = np.empty(46)
        measure.column_medians(x.copy(), out)
        np.testing.assert_array_equal(out, np.median(x, axis=0))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: measure.extents(X, 51),
        lambda: measure.extents(X[:0], 0),
        lambda: measure.extents(X[::2], 3),
        lambda: measure.extents(X.astype(np.float32), 3),
        lambda: measure.tapered(X, X[:9], X.copy()),
        lambda: measure.tapered(X, X, X[:9].copy()),
        lambda: measure.between_beats(X, 2, 20, 5, 20, 25, 1.0),
        lambda: measure.between_beats(X, 2, 4, 5, 5, 51, 1.0),
        lambda: measure.between_beats(X, 0, 4, 5, 5, 25, 1.0),
        lambda: measure.slope_energy(X, X.copy(), 3, 3, 3),
        lambda: measure.slope_energy(X, X[:1].copy(), 40, 10, 3),
        lambda: measure.lines(X.astype(np.complex128), longs([[0, 3, 4, 6, 7, 51]]), 1, 9, 1, 20, 2, 3),
        lambda: measure.lines(X.astype(np.complex128), longs([[0, 3, -4, 6, 7, 9]]), 1, 9, 1, 20, 2, 3),
        lambda: measure.lines(X.astype(np.complex128), longs([[0, 3, 4, 6, 7, 9]]), 1, 51, 1, 20, 2, 3),
        lambda: measure.high_pass(X, X[:3].copy(), X.copy(), 1.0, 1.0, 1.0),
        lambda: measure.high_pass(X, X[:4].copy(), X[:5].copy(), 1.0, 1.0, 1.0),
        lambda: measure.likeness(X, X[:20], np.empty(40), 0.0),
        lambda: measure.centred(X, longs([20]), np.empty((1, 31))),
        lambda: measure.centred(X, longs([-1]), np.empty((1, 31))),
        lambda: measure.column_medians(np.empty((0, 5)), np.empty(5)),
        lambda: measure.column_medians(np.empty((3, 5)), np.empty(6)),
        lambda: measure.band_power(np.zeros((2, 9), np.complex128), np.empty((2, 8)), 8, 1, 3),
        lambda: measure.look(X, X, X, X, X[:10], X[:10], 41, 5, 5, 4, 9, 0.7, 0.9, 0.7),
        lambda: measure.look(X, X, X, X, X[:10], X[:10], 4, 5, 11, 4, 9, 0.7, 0.9, 0.7),
        lambda: measure.look(X, X, X, X, X[:10], X[:10], 4, 5, 5, 41, 9, 0.7, 0.9, 0.7),
        lambda: measure.look(X, X, X, X[:49], X[:10], X[:10], 4, 5, 5, 4, 9, 0.7, 0.9, 0.7),
        lambda: measure.look(X, X, X, X, X[:10], X[:10], 4, 5, 5, 4, 51, 0.7, 0.9, 0.7),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_read_beyond_it(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        wrong()
