"""A pressure line's faults told from what the patient does: a rounded pulse, a little one, one below zero."""

from __future__ import annotations

import numpy as np
import pytest

from tests.signal.test_quality import FAULT_FROM, FLICKER, FS, LATE, LINE, Floats, T, judge_line, line, reasons


def then(before: Floats, after: Floats, at_s: float, t: Floats) -> Floats:
    return np.where(t < at_s, before, after) + np.random.default_rng(7).normal(0, 0.12, len(t))


def rounded(x: Floats) -> Floats:
    """As by two lags of .13 s in the line."""
    late = np.arange(round(1.3 * FS)) / FS
    taps = late * np.exp(-late / 0.13)
    return np.convolve(x, taps / taps.sum())[: len(x)]


@pytest.mark.parametrize(("systolic", "diastolic"), [(220.0, 110.0), (80.0, 45.0)])
def test_a_line_that_clots_as_the_pressure_changes_is_damped(systolic: float, diastolic: float) -> None:
    """No window of the patient's past has the present mean: the upstroke's part of the pulse tells."""
    t = np.arange(round(150 * FS)) / FS
    out = judge_line(then(line(systolic, diastolic, t=t), rounded(line(t=t)), 100.0, t))
    assert set(reasons(out, 0.0, 100.0)) == {"good"}
    assert reasons(out, 103.0, 150.0)["damped"] >= 85
    # ... and where the new mean is low, it is the patient's, however round the pulse.
    low = rounded(line(60.0, 35.0, t=t))
    assert "damped" not in reasons(judge_line(then(line(systolic, diastolic, t=t), low, 100.0, t)), 110.0)


@pytest.mark.parametrize(
    ("before", "after"),
    [((160.0, 50.0), (115.0, 75.0)), ((220.0, 60.0), (140.0, 95.0)), ((140.0, 80.0), (110.0, 96.0))],
)
def test_a_pulse_that_becomes_less_at_the_same_mean_and_rises_as_before_is_not_damped(
    before: tuple[float, float], after: tuple[float, float]
) -> None:
    t = np.arange(round(150 * FS)) / FS
    out = judge_line(then(line(*before, t=t), line(*after, t=t), 100.0, t))
    assert reasons(out, 103.0, 150.0)["good"] >= 90
    out = judge_line(then(line(*before, t=t), rounded(line(*after, t=t)), 100.0, t))
    assert reasons(out, 103.0, 150.0)["damped"] >= 90


def test_the_rounded_peak_of_a_little_pulse_is_not_clipped() -> None:
    """Ten mmHg are within .75 of their peak for 87 ms by themselves."""
    s = T % 0.8
    pulse = 45.0 + 10.0 * np.where(s < 0.35, np.sin(np.pi * s / 0.35), 0.0)
    assert set(reasons(judge_line(pulse + 0.3 * FLICKER), 0.0)) == {"good"}
    cut = np.minimum(pulse, 52.0) + 0.3 * FLICKER
    assert reasons(judge_line(np.where(LATE, cut, pulse + 0.3 * FLICKER)), FAULT_FROM)["clipped"] > 25


def test_a_pulse_below_zero_has_a_wrong_zero() -> None:
    """No drift: that would be a patient's pressure for twenty seconds more."""
    out = judge_line(np.where(LATE, LINE - 90.0, LINE))
    assert all("calibration" in q.reasons for q in out if q.first >= FAULT_FROM * FS)
    ringing = LINE - 100.0 * np.exp(-np.clip(T - 30.0, 0, None) / 0.055) * (T >= 30.0)
    assert "calibration" not in reasons(judge_line(ringing), 0.0)
