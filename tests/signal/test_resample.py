"""Resampling: what it promises of its filter, against scipy's, and the same however the signal is cut."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import signal

from edge_agent.journey import Samples
from edge_agent.signal.resample import PASS, Polyphase, Resampler, polyphase

PAIRS = [(125, 250), (250, 125), (360, 250), (128, 250), (1000, 250), (500, 128), (256, 100), (2000, 125)]


def prototype(one: Polyphase) -> tuple[NDArray[np.float64], int]:
    """The filter at the rate of all its phases, with an odd number of taps around the one at 0."""
    up = one.step.denominator
    taps = np.zeros(2 * (one.reach * up + up) + 1)
    middle = taps.size // 2
    for phase in range(up):
        for tap in range(2 * one.reach):
            taps[middle + (tap - one.reach + 1) * up - phase] = one.taps[phase, tap]
    return taps, up


@pytest.mark.parametrize(("fs_in", "fs_out"), PAIRS)
def test_the_filter_passes_and_stops_what_is_promised(fs_in: float, fs_out: float) -> None:
    taps, up = prototype(polyphase(fs_in, fs_out))
    frequency, response = signal.freqz(taps, worN=1 << 16, fs=up * fs_in)
    level = 20 * np.log10(np.abs(response) / up + 1e-12)
    nyquist = min(fs_in, fs_out) / 2
    assert np.abs(level[frequency <= PASS * nyquist]).max() < 0.1
    assert level[frequency >= nyquist].max() < -60


@pytest.mark.parametrize(("fs_in", "fs_out"), PAIRS)
def test_it_is_scipy_s_polyphase_filter_with_these_taps(fs_in: float, fs_out: float) -> None:
    one = polyphase(fs_in, fs_out)
    taps, up = prototype(one)
    x = np.random.default_rng(1).standard_normal(4000).astype(np.float32)
    mine = one.at(x, 0, 0, one.outputs(4000))
    theirs = signal.resample_poly(x.astype(np.float64), up, one.step.numerator, window=taps / up)
    assert len(mine) == len(theirs)
    edge = int(2 * one.reach / one.step) + 2
    assert len(mine) > 3 * edge
    np.testing.assert_allclose(mine[edge:-edge], theirs[edge:-edge], atol=1e-6)


@pytest.mark.parametrize(("fs_in", "fs_out"), [*PAIRS, (62.4725, 250), (1, 500)])
def test_a_tone_keeps_its_place_and_a_level_its_last_digit(fs_in: float, fs_out: float) -> None:
    n = 4000
    hertz = 0.31 * min(fs_in, fs_out)
    y = Resampler(fs_in, fs_out).feed(np.sin(2 * np.pi * hertz * np.arange(n) / fs_in, dtype=np.float32)[None])[0]
    assert y.size > 100
    wanted = np.sin(2 * np.pi * hertz * np.arange(y.size) / fs_out)
    skip = round(60 * fs_out / min(fs_in, fs_out))
    if fs_in > 100:
        np.testing.assert_allclose(y[skip:], wanted[skip:], atol=0.01)
    level = Resampler(fs_in, fs_out).feed(np.full((1, n), 93.7, np.float32))
    assert np.ptp(level) == 0


def test_what_is_above_the_new_nyquist_is_not_folded_back() -> None:
    x = np.sin(2 * np.pi * 160 * np.arange(20_000) / 1000).astype(np.float32)
    y = Resampler(1000, 250).feed(x[None])[0][200:]
    assert 20 * np.log10(np.sqrt(2) * np.sqrt(np.mean(y**2))) < -60


def run(fs_in: float, fs_out: float, x: Samples, cut: Callable[[], int]) -> Samples:
    resampler, parts, at = Resampler(fs_in, fs_out), [], 0
    while at < x.shape[1]:
        n = max(1, cut())
        parts.append(resampler.feed(x[:, at : at + n]))
        at += n
    return np.concatenate([*parts, resampler.flush()], axis=1)


@settings(max_examples=60, deadline=None)
@given(
    pair=st.sampled_from([*PAIRS, (62.4725, 250), (250, 499.5)]),
    cuts=st.lists(st.integers(1, 400), min_size=1, max_size=5),
    holes=st.lists(st.tuples(st.integers(0, 900), st.integers(1, 200)), max_size=3),
    n=st.integers(1, 900),
)
def test_the_cuts_change_nothing(
    pair: tuple[float, float], cuts: list[int], holes: list[tuple[int, int]], n: int
) -> None:
    x = np.random.default_rng(n).standard_normal((2, n)).astype(np.float32)
    for first, length in holes:
        x[first % 2, first : first + length] = np.nan
    turn = iter(cuts * 1000)
    whole = run(*pair, x, lambda: 10**9)
    assert run(*pair, x, lambda: next(turn)).tobytes() == whole.tobytes()
    one = polyphase(*pair)
    assert one.at(x, 0, 0, one.outputs(n)).tobytes() == whole.tobytes()


def test_single_samples_too() -> None:
    x = np.random.default_rng(2).standard_normal((1, 700)).astype(np.float32)
    assert run(360, 250, x, lambda: 1).tobytes() == run(360, 250, x, lambda: 700).tobytes()


@pytest.mark.parametrize(("fs_in", "fs_out"), PAIRS)
def test_the_delay_is_what_it_says(fs_in: float, fs_out: float) -> None:
    """An output comes with the input that lies ``delay_s`` after it (an input sample more or less), and not before."""
    resampler = Resampler(fs_in, fs_out)
    given_so_far = 0
    lags = []
    for n in range(2000):
        for k in range(given_so_far, given_so_far + resampler.feed(np.zeros((1, 1), np.float32)).shape[1]):
            lags.append(n / fs_in - k / fs_out)
            given_so_far = k + 1
    assert max(lags) <= resampler.delay_s + 1e-9
    assert min(lags) > resampler.delay_s - 1 / fs_in


def test_what_is_missing_stays_missing_and_nothing_else() -> None:
    x = np.sin(np.arange(2000) / 30).astype(np.float32)[None] + 80
    x[0, 500:600] = np.nan
    y = run(250, 500, x, lambda: 100)
    gone = np.flatnonzero(np.isnan(y[0]))
    assert (gone[0], gone[-1]) == (1000, 1199)
    assert gone.size == 200
    fine = np.sin(np.arange(4000) / 60) + 80
    np.testing.assert_allclose(y[0][~np.isnan(y[0])], fine[~np.isnan(y[0])], atol=0.3)  # also at the edges of the hole


def test_no_drift_in_a_day() -> None:
    one = polyphase(62.4725, 250)
    k = 250 * 86400
    first, _ = one.span(k, k + 1)
    assert abs((first + one.reach - 1) / 62.4725 - 86400) <= 1 / 62.4725
