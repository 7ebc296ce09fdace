"""Windows: the signal as it was at the model's own instants, no more of it than needed, normalised as promised."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import firwin, lfilter

from edge_agent.journey import Samples
from edge_agent.signal.windows import Cutter, normalise

RATES = [  # of the source, of the model
    *[(125.0, 64.0), (125.0, 128.0), (125.0, 360.0), (200.0, 100.0), (200.0, 250.0), (250.0, 100.0), (250.0, 250.0)],
    *[(250.0, 360.0), (250.0, 500.0), (257.0, 250.0), (257.0, 360.0), (360.0, 128.0), (360.0, 360.0), (500.0, 128.0)],
    *[(500.0, 360.0), (977.5, 360.0), (1000.0, 64.0), (1000.0, 250.0)],
]


def cutter(fs: float, rate_hz: float, samples: int = 200, before: int = 80, how: str = "none") -> Cutter:
    return Cutter(fs=fs, rate_hz=rate_hz, samples=samples, before=before, normalisation=how)


def cut(made: Cutter, x: Samples) -> Samples:
    window = made.cut(x)
    assert window is not None
    return window


def source_times(made: Cutter, fs: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Seconds from the anchor, of the samples that the cutter asks for."""
    return np.arange(made.first, made.end) / fs


@pytest.mark.parametrize(("fs", "rate_hz"), RATES)
@pytest.mark.parametrize(("part", "error"), [(0.1, 0.001), (0.5, 0.002), (0.7, 0.01)])
def test_a_sine_is_still_that_sine(fs: float, rate_hz: float, part: float, error: float) -> None:
    """At a part of the lower Nyquist frequency, against the sine itself at the model's instants."""
    made = cutter(fs, rate_hz)
    hz = part * min(fs, rate_hz) / 2
    for phase in (0.0, 1.0, 2.5):
        x = np.sin(2 * np.pi * hz * source_times(made, fs) + phase).astype(np.float32)
        wanted = np.sin(2 * np.pi * hz * (np.arange(200) - 80) / rate_hz + phase)
        assert np.max(np.abs(cut(made, x) - wanted)) < error


@pytest.mark.parametrize(("fs", "rate_hz"), [(250, 100), (360, 128), (500, 125), (1000, 250)])
def test_what_the_slower_rate_cannot_hold_is_gone(fs: float, rate_hz: float) -> None:
    made = cutter(fs, rate_hz)
    for hz in (0.7 * rate_hz, 0.95 * rate_hz):  # would alias to 0.3 and 0.05 of the rate
        x = np.sin(2 * np.pi * hz * source_times(made, fs)).astype(np.float32)
        assert np.max(np.abs(cut(made, x))) < 0.01


@pytest.mark.parametrize(("fs", "rate_hz"), RATES)
def test_a_constant_stays_that_constant(fs: float, rate_hz: float) -> None:
    made = cutter(fs, rate_hz)
    window = cut(made, np.full(made.length, 93.25, np.float32))
    assert window.shape == (200,)
    assert window.dtype == np.float32
    np.testing.assert_allclose(window, 93.25, rtol=2e-6)


@pytest.mark.parametrize(("fs", "rate_hz"), RATES)
@pytest.mark.parametrize(("samples", "before"), [(216, 108), (100, 0), (100, 100)])
def test_a_spike_lands_where_it_was(fs: float, rate_hz: float, samples: int, before: int) -> None:
    """A narrow pulse (not one sample: none could say where within it) keeps its place to half a sample of either rate."""
    made = cutter(fs, rate_hz, samples, before)
    t = source_times(made, fs)
    width = 2.0 / min(fs, rate_hz)
    for at_s in (0.0, 0.31 * samples / rate_hz, -0.43 * samples / rate_hz):
        place = before + at_s * rate_hz
        if not 0 <= place < samples:
            continue
        x = np.exp(-0.5 * ((t - at_s) / width) ** 2).astype(np.float32)
        window = cut(made, x)
        assert abs(int(np.argmax(window)) - place) <= 0.5 + 1e-6 or place > samples - 1
        if not 20 < place < samples - 20:
            continue  # cut in half by the window's edge
        centre = float((window * np.arange(samples)).sum() / window.sum())
        assert abs(centre - place) < 0.05 * max(1, rate_hz / fs)  # its centre to a twentieth of the coarser sample


def test_equal_rates_take_the_samples_as_they_are() -> None:
    made = cutter(360, 360, 216, 108)
    x = np.arange(made.length, dtype=np.float32)
    assert (made.first, made.end) == (-108, 108)
    np.testing.assert_array_equal(cut(made, x), x)


@pytest.mark.parametrize(("fs", "rate_hz"), RATES)
@pytest.mark.parametrize(("samples", "before"), [(216, 108), (64, 64), (50, 0)])
def test_its_reach_is_the_true_reach(fs: float, rate_hz: float, samples: int, before: int) -> None:
    """The window answers to its first and last source samples: it needs no fewer, and asking for more would be delay."""
    made = cutter(fs, rate_hz, samples, before)
    zeros = np.zeros(made.length, np.float32)
    for place in (0, made.length - 1):
        x = zeros.copy()
        x[place] = 1e6
        assert np.any(cut(made, x) != 0), f"source sample {made.first + place} is waited for and not used"
    if fs == rate_hz:
        return
    # The filter's half width (8 zero crossings at the lower rate) after the last instant, and not a sample more.
    last = (samples - 1 - before) * fs / rate_hz
    assert made.end - 1 <= last + 8 * fs / min(fs, rate_hz)


def test_the_same_grid_whatever_the_anchor() -> None:
    """A shifted signal gives the same window at the shifted anchor, to the bit."""
    made = cutter(250, 360)
    x = np.random.default_rng(1).normal(size=5000).astype(np.float32)
    windows = [cut(made, x[shift + 100 : shift + 100 + made.length]) for shift in (0, 17)]
    again = cut(made, np.roll(x, -17)[100 : 100 + made.length])
    np.testing.assert_array_equal(windows[1], again)
    assert not np.array_equal(windows[0], windows[1])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rate_hz", [250.0, 360.0])
def test_a_missing_value_is_no_window(bad: float, rate_hz: float) -> None:
    made = cutter(250, rate_hz)
    x = np.ones(made.length, np.float32)
    for place in (0, made.length // 2, made.length - 1):
        broken = x.copy()
        broken[place] = bad
        assert made.cut(broken) is None
    broken = x.copy()
    broken[3], broken[9] = np.inf, -np.inf
    with np.errstate(invalid="ignore"):
        assert made.cut(broken) is None
    assert made.cut(x) is not None


values = st.lists(st.floats(-500, 500, width=32), min_size=2, max_size=60)


@given(values)
def test_normalisations(numbers: list[float]) -> None:
    x = np.array(numbers, np.float32)
    np.testing.assert_array_equal(normalise(x, "none"), x)
    centred = normalise(x, "centre")
    np.testing.assert_allclose(centred, x - np.float32(np.median(x)), atol=1e-4)
    wide = x.astype(np.float64)
    if wide.std() > 1e-3 * max(1.0, abs(wide).max()):
        np.testing.assert_allclose(normalise(x, "zscore"), (wide - wide.mean()) / wide.std(), atol=0.02)
        scaled = normalise(x, "minmax")
        np.testing.assert_allclose(scaled, (wide - wide.min()) / (wide.max() - wide.min()), atol=1e-4)
        assert scaled.min() == 0
        assert scaled.max() == pytest.approx(1, abs=1e-6)
    for how in ("none", "centre", "zscore", "minmax"):
        assert normalise(x, how).dtype == np.float32
        assert np.isfinite(normalise(x, how)).all()


@pytest.mark.parametrize("how", ["zscore", "minmax", "centre"])
def test_a_flat_window_becomes_zeros(how: str) -> None:
    np.testing.assert_array_equal(normalise(np.full(30, 2.5, np.float32), how), np.zeros(30, np.float32))


def test_the_normalisation_is_applied_to_the_cut_window() -> None:
    x = np.random.default_rng(0).normal(3, 2, 5000).astype(np.float32)
    plain, scored = cutter(250, 360), cutter(250, 360, how="zscore")
    raw = cut(plain, x[: plain.length])
    np.testing.assert_allclose(cut(scored, x[: scored.length]), (raw - raw.mean()) / raw.std(), atol=1e-5)


def test_band_limited_noise_agrees_with_the_same_noise_made_at_the_other_rate() -> None:
    """An independent way round: a signal made at 1000 Hz, band-limited to 40 Hz, seen at 250 Hz and cut to 200 Hz."""
    fine = np.random.default_rng(3).normal(size=20_000)
    fine = lfilter(firwin(401, 40, fs=1000), 1.0, fine)
    coarse = fine[::4].astype(np.float32)
    made = cutter(250, 200, 256, 128)
    anchor = 2500
    window = cut(made, coarse[anchor + made.first : anchor + made.end])
    wanted = fine[anchor * 4 + (np.arange(256) - 128) * 5]
    assert np.max(np.abs(window - wanted)) < 0.01 * wanted.std()
