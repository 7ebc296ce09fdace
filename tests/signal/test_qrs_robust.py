"""Metamorphic tests: what the signal's rate, gain, polarity, offset and past must not change; and what is not signal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.signal import resample_poly

from edge_agent.journey import Beat, Samples
from edge_agent.signal import qrs
from edge_agent.signal.qrs import make_qrs_detector
from tests.signal.qrs_signals import detect, ecg, feed, shares, stretch

METHODS = qrs.METHODS
RECORDS = ("100", "119", "209", "233")
"""Sinus rhythm, ventricular bigeminy, atrial runs, multiform ventricular beats."""


def seconds(beats: list[Beat], fs: float, after_s: float = 0.0) -> list[float]:
    return [b.sample / fs for b in beats if b.sample / fs >= after_s]


def same(found: list[float], expected: list[float], within_s: float, share: float) -> None:
    sensitivity, precision = shares(found, expected, within_s)
    assert sensitivity >= share
    assert precision >= share


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("record", RECORDS)
def test_polarity_offset_and_gain_change_nothing(mitdb: Path, record: str, method: str) -> None:
    x, _ = stretch(mitdb, record, 300, 420)
    expected = seconds(detect(x, 360, method), 360)
    for changed in (-x, x + np.float32(300.0), x * np.float32(1e3), x * np.float32(1e-3)):
        same(seconds(detect(changed, 360, method), 360), expected, 0.012, 0.99)


@pytest.mark.parametrize("fs", [100, 128, 250, 500, 1000])
@pytest.mark.parametrize("record", RECORDS)
def test_rate_changes_next_to_nothing(mitdb: Path, record: str, fs: int) -> None:
    """99 % of the beats within 20 ms, 98 % at 100 and 128 Hz."""
    x, beats = stretch(mitdb, record, 300, 420)
    common = int(np.gcd(fs, 360))
    resampled = resample_poly(np.pad(x.astype(float), 720, mode="edge"), fs // common, 360 // common)[2 * fs : -2 * fs]
    for method in METHODS:
        found = seconds(detect(resampled, fs, method), fs)
        same(found, seconds(detect(x, 360, method), 360), 0.02, 0.98 if fs < 200 else 0.99)
    assert len(beats) > 100


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("before", ["flat", "faint", "noise", "loud", "rails"])
def test_a_minute_of_something_else_first(mitdb: Path, before: str, method: str) -> None:
    """From 3 s on, 97 % of the beats."""
    x, beats = stretch(mitdb, "103", 300, 360)
    rng = np.random.default_rng(4)
    n = 60 * 360
    what = {
        "flat": np.zeros(n),
        "faint": 0.002 * rng.standard_normal(n),
        "noise": 0.05 * rng.standard_normal(n),
        "loud": 1.0 * rng.standard_normal(n),
        "rails": np.where(rng.random(n // 180) < 0.5, -32.768, 32.767).repeat(180),
    }[before]
    found = seconds(detect(np.r_[what, x], 360, method), 360, 63)
    same(found, [b / 360 + 60 for b in beats if b >= 3 * 360], 0.15, 0.97)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("error", [-0.02, 0.02])
def test_a_rate_that_lies(mitdb: Path, method: str, error: float) -> None:
    x, _ = stretch(mitdb, "209", 300, 420)
    expected = [b.sample / 360 for b in detect(x, 360, method)]
    same([b.sample / 360 for b in detect(x, 360 * (1 + error), method)], expected, 0.012, 0.99)


@pytest.mark.parametrize("method", METHODS)
def test_an_hour_of_zeros_holds_no_beat(method: str) -> None:
    x, peaks = ecg(100, 30)
    detector = make_qrs_detector(100, "II", method)
    known = detector.feed(x, 0)
    assert len(known) >= len(peaks) - 1
    hour = np.zeros(360_000, np.float32)
    assert [b for b in detector.feed(hour, len(x)) if b.sample > len(x)] == []
    back = seconds(feed(detector, x, len(x) + len(hour), 10), 100)
    true = [(p + len(x) + len(hour)) / 100 for p in peaks if 300 < p < len(x) - 40]
    assert shares(back, true, 0.02)[0] == 1.0


@pytest.mark.parametrize("method", METHODS)
def test_silence_from_the_start_holds_no_beat(method: str) -> None:
    detector = make_qrs_detector(250, "II", method)
    assert detector.feed(np.full(250 * 600, 1.25, np.float32), 0) == []
    assert detector.flush() == []
    assert not detector.learned


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("floor_mv", [0.001, 0.005, 0.02])
def test_asystole_holds_no_beat(method: str, floor_mv: float) -> None:
    """A minute of the recorder's noise and a slow wander after a good rhythm."""
    x, peaks = ecg(250, 60, noise_mv=floor_mv)
    rng = np.random.default_rng(7)
    still = floor_mv * rng.standard_normal(250 * 60) + 0.1 * np.sin(np.arange(250 * 60) / 250)
    still += x[-1] - still[0]
    found = detect(np.r_[x, still, x + (still[-1] - x[0])], 250, method)
    inside = [b for b in found if len(x) + 25 < b.sample < len(x) + len(still) - 25]
    assert inside == []
    again = [b for b in found if b.sample >= len(x) + len(still)]
    assert len(again) >= len(peaks) - 3


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
@pytest.mark.parametrize("length_s", [0.004, 0.2, 5.0, 45.0])
def test_a_channel_that_vanishes_comes_back_within_three_seconds(method: str, bad: float, length_s: float) -> None:
    x, peaks = ecg(250, 60)
    n = max(1, round(length_s * 250))
    start = peaks[20] + 80
    x = np.r_[x[:start], np.full(n, bad, np.float32), x[start:] + np.float32(1.5)]
    found = detect(x, 250, method)
    assert [b for b in found if start + 10 <= b.sample < start + n - 10] == []
    true = [(p + n) / 250 for p in peaks if p > start + 3 * 250]
    assert shares(seconds(found, 250, (start + n) / 250 + 2.9), true, 0.02) == (1.0, 1.0)


@pytest.mark.parametrize("method", METHODS)
def test_saturation_is_survived(method: str) -> None:
    x, peaks = ecg(360, 90)
    rng = np.random.default_rng(3)
    n = 10 * 360
    start = peaks[30] + 100
    x[start : start + n] = np.clip(np.cumsum(rng.standard_normal(n)) * 3, -5, 5)
    found = seconds(detect(x, 360, method), 360, (start + n) / 360 + 3)
    true = [p / 360 for p in peaks if p >= start + n + 3 * 360]
    assert shares(found, true, 0.02) == (1.0, 1.0)


def _fibrillation(n: int, fs: float) -> Samples:
    t = np.arange(n) / fs
    wave = np.sin(2 * np.pi * 5.2 * t + 2 * np.sin(2 * np.pi * 0.3 * t)) * (0.6 + 0.4 * np.sin(2 * np.pi * 0.21 * t))
    return np.asarray(wave, np.float32)


@pytest.mark.parametrize("method", METHODS)
def test_fibrillation_may_give_anything_but_an_end(method: str) -> None:
    x, peaks = ecg(250, 30)
    found = detect(np.r_[x, _fibrillation(250 * 60, 250), x], 250, method)
    last = [b for b in found if b.sample > len(x) + 250 * 63]
    assert len(last) >= sum(p > 750 for p in peaks) - 1


@pytest.mark.parametrize("method", METHODS)
def test_pacing_spikes_are_not_beats(method: str) -> None:
    x, peaks = ecg(500, 60)
    for p in peaks:
        x[p - 75 : p - 74] += 2.0
    found = seconds(detect(x, 500, method), 500, 3)
    assert shares(found, [p / 500 for p in peaks if p > 1500], 0.15) == (1.0, 1.0)
    assert len(found) == sum(p > 1500 for p in peaks)


@pytest.mark.parametrize("method", METHODS)
def test_hum_and_wander(method: str) -> None:
    x, peaks = ecg(360, 60)
    t = np.arange(len(x)) / 360
    x += (0.2 * np.sin(2 * np.pi * 50 * t) + 1.5 * np.sin(2 * np.pi * 0.25 * t)).astype(np.float32)
    assert shares(seconds(detect(x, 360, method), 360), [p / 360 for p in peaks], 0.02) == (1.0, 1.0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("height_mv", [0.05, 0.12])
def test_p_waves_alone_are_no_beats(method: str, height_mv: float) -> None:
    """Ventricular standstill: for the best part of a minute the atria go on alone."""
    fs = 250
    x, _ = ecg(fs, 60)
    t = np.arange(45 * fs) / fs
    phase = np.mod(t, 0.75) - 0.4
    alone = height_mv * np.exp(-0.5 * (phase / 0.024) ** 2) + 0.005 * np.random.default_rng(2).standard_normal(len(t))
    found = detect(np.r_[x, alone + x[-1], x], fs, method)
    assert [b for b in found if len(x) + 10 < b.sample < len(x) + len(alone) - 10] == []
    assert sum(b.sample > len(x) + len(alone) for b in found) > 65
