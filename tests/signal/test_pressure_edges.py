"""Rules of pulses at their limits, and the onset detector's times and numbers on a pressure whose every part is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge_agent.journey import Onset, Pulse, Samples
from edge_agent.signal.pressure import PressureDetector
from edge_agent.signal.pulse_rules import PulseNumbers, PulseRules, absolute_faults, jump_faults, pleth_faults

GOOD = PulseNumbers(systolic=120, diastolic=70, mean=90, onset=72, fall_per_s=-100, period_s=0.8)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"systolic": 300.5, "diastolic": 200, "mean": 200}, "systolic_range"),
        ({"diastolic": 19.5}, "diastolic_range"),
        ({"mean": 29.5}, "mean_range"),
        ({"mean": 200.5}, "mean_range"),
        ({"period_s": 3.01}, "rate_range"),
        ({"period_s": 0.299}, "rate_range"),
        ({"timed_out": True}, "rate_range"),
        ({"diastolic": 100.5}, "pulse_pressure"),
        ({"fall_per_s": -375.5}, "ragged"),
    ],
)
def test_what_a_pulse_breaks_by_itself(changes: dict[str, float], name: str) -> None:
    assert absolute_faults(replace(GOOD, **changes)) == [name]  # type: ignore[arg-type]


def test_the_limits_themselves_are_allowed() -> None:
    assert absolute_faults(GOOD) == []
    for changes in (
        {"systolic": 300.0, "mean": 200.0}, {"diastolic": 20.0, "mean": 30.0}, {"period_s": 3.0}, {"period_s": 0.3},
        {"diastolic": 100.0}, {"fall_per_s": -375.0},
    ):  # fmt: skip
        assert absolute_faults(replace(GOOD, **changes)) == []  # type: ignore[arg-type]


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize(
    ("field", "allowed", "too_much", "name"),
    [
        ("systolic", 20.0, 20.5, "systolic_jump"),
        ("diastolic", 20.0, 20.5, "diastolic_jump"),
        ("onset", 20.0, 20.5, "onset_jump"),
        ("period_s", 0.5, 0.51, "period_jump"),
    ],
)
def test_jumps(field: str, allowed: float, too_much: float, name: str, sign: int) -> None:
    before = replace(GOOD, period_s=1.0)
    value = getattr(before, field)
    assert jump_faults(replace(before, **{field: value + sign * allowed}), before) == []
    assert jump_faults(replace(before, **{field: value + sign * too_much}), before) == [name]


def test_after_one_that_timed_out_a_period_is_no_jump() -> None:
    assert jump_faults(GOOD, replace(GOOD, period_s=3.0, timed_out=True)) == []


def test_a_pleth_is_held_against_its_own_amplitude() -> None:
    def faults(amplitude: float, usual: float | None = 40.0, **changes: float) -> list[str]:
        return pleth_faults(replace(GOOD, systolic=amplitude, diastolic=0.0, **changes), usual)  # type: ignore[arg-type]

    assert faults(14.0) == faults(100.0) == []
    assert faults(13.9) == faults(100.1) == ["pulse_pressure"]
    assert faults(1000.0, None) == []
    assert faults(40.0, period_s=3.0) == faults(40.0, period_s=0.3) == []
    assert faults(40.0, period_s=3.01) == faults(40.0, period_s=0.299) == faults(40.0, timed_out=True) == ["rate_range"]


def test_trust_returns_with_the_second_pulse_in_a_row() -> None:
    rules = PulseRules("abp")
    assert rules.judge(GOOD) == ()
    assert rules.judge(GOOD, faint_upstroke=True) == ("faint_upstroke",)
    assert rules.judge(GOOD) == ("after_bad",)
    assert rules.judge(GOOD) == ()


def test_a_pulse_is_held_against_the_last_good_one_for_five_pulses() -> None:
    """And then against the one before: a true step is not bad for ever."""
    step = replace(GOOD, systolic=150.0)
    rules = PulseRules("abp")
    rules.judge(GOOD)
    said = [rules.judge(step) for _ in range(8)]
    assert said == [("systolic_jump",)] * 6 + [("after_bad",), ()]


def test_before_any_good_pulse_it_is_held_against_the_one_before() -> None:
    rules = PulseRules("abp")
    assert rules.judge(replace(GOOD, mean=20.0)) == ("mean_range",)
    assert rules.judge(replace(GOOD, systolic=150.0, onset=100.0)) == ("systolic_jump", "onset_jump")


def test_a_pleth_s_usual_amplitude_is_known_after_five_and_is_of_the_last_fifteen() -> None:
    def pulse(amplitude: float) -> PulseNumbers:
        return replace(GOOD, systolic=amplitude, diastolic=0.0)

    rules = PulseRules("pleth")
    for _ in range(4):
        assert rules.judge(pulse(40)) == ()
    assert rules.judge(pulse(500)) == ()  # four are not enough
    assert rules.judge(pulse(500)) == ("pulse_pressure",)
    assert rules.judge(pulse(40)) == ("after_bad",)
    for _ in range(15):
        rules.judge(pulse(120))
    assert rules.judge(pulse(40)) == ("pulse_pressure",)
    assert rules.judge(replace(pulse(120), period_s=1.4)) == ("period_jump",)


# -- the detector -----------------------------------------------------------------------------------------------------------


def pressure(
    fs: float, feet_s: list[float], seconds: float, diastolic: float = 80.0, amplitude: float = 40.0
) -> Samples:
    """From each foot a straight rise for 100 ms, a straight fall for 300 ms, and a still line to the next."""
    t = np.arange(round(seconds * fs)) / fs
    x = np.full(len(t), diastolic)
    for foot in feet_s:
        since = t - foot
        x += np.where((since >= 0) & (since < 0.1), since / 0.1, 0) * amplitude
        x += np.where((since >= 0.1) & (since < 0.4), 1 - (since - 0.1) / 0.3, 0) * amplitude
    return x.astype(np.float32)


def detected(x: Samples, fs: float, kind: str = "abp", first: int = 0) -> tuple[list[Onset], list[Pulse]]:
    detector = PressureDetector(fs, "ABP", kind, first)  # type: ignore[arg-type]
    found = [*detector.feed(x, first), *detector.flush()]
    return [one for one in found if isinstance(one, Onset)], [one for one in found if isinstance(one, Pulse)]


@pytest.mark.parametrize("fs", [100.0, 125.0, 250.0, 360.0, 1000.0])
def test_feet_and_numbers(fs: float) -> None:
    feet = [0.5 + 0.8 * k for k in range(12)]
    onsets, pulses = detected(pressure(fs, feet, 10.5), fs)
    known = [foot for foot in feet if foot > 2.6]
    assert len(onsets) == len(known)
    for onset, foot in zip(onsets, known, strict=True):
        assert onset.sample == pytest.approx(foot * fs, abs=max(1.0, 0.012 * fs))
        assert 0.02 * fs < onset.known - foot * fs <= 0.15 * fs
    assert [one.sample for one in pulses] == [one.sample for one in onsets]
    for pulse in pulses[1:-1]:
        assert pulse.systolic == pytest.approx(120, abs=4.5)
        assert pulse.diastolic == pytest.approx(80, abs=0.1)
        assert pulse.mean == pytest.approx(80 + 40 * 0.2 / 0.8, abs=1.0)
        assert pulse.area == pytest.approx((pulse.mean - pulse.diastolic) * 0.8, rel=0.02)
        assert pulse.rate_per_min == pytest.approx(75, abs=1.0)
        assert pulse.end - pulse.sample == pytest.approx(0.8 * fs, abs=max(2, 0.012 * fs))
        assert pulse.reasons == ()
        assert pulse.end <= pulse.known < pulse.end + 0.15 * fs
    assert pulses[-1].rate_per_min is None  # the recording ended in it
    assert "rate_range" in pulses[-1].reasons


def test_groups_lie_on_the_absolute_index() -> None:
    """Whatever sample the stream begins with, times are the same to the sample."""
    fs = 500.0
    x = pressure(fs, [0.5 + 0.8 * k for k in range(9)], 8)
    expected = [(one.sample, one.known) for one in detected(x, fs)[0]]
    assert [(one.sample - 4000, one.known - 4000) for one in detected(x, fs, first=4000)[0]] == expected
    for first in (1, 2, 3, 5):
        shifted = detected(np.concatenate((np.full(first, 80, np.float32), x)), fs)[0]
        assert all(abs(one.sample - first - sample) <= 2 for one, (sample, _) in zip(shifted, expected, strict=True))


@pytest.mark.parametrize(
    ("amplitude", "kind", "found"),
    [(3.0, "abp", False), (6.0, "abp", True), (3.0, "pleth", True), (0.003, "pleth", True)],
)
def test_four_millimetres_are_the_least_that_is_a_pulse(amplitude: float, kind: str, found: bool) -> None:
    x = pressure(125.0, [0.5 + 0.8 * k for k in range(10)], 8.6, amplitude=amplitude)
    assert bool(detected(x, 125.0, kind)[0]) is found


def test_a_pulse_without_a_next_one_ends_after_three_seconds() -> None:
    fs = 125.0
    onsets, pulses = detected(pressure(fs, [0.5 + 0.8 * k for k in range(6)], 12), fs)
    last = pulses[-1]
    assert last.sample == onsets[-1].sample
    assert last.end - last.sample == pytest.approx(3 * fs, abs=1)
    assert last.known - last.end <= 3
    assert last.rate_per_min is None
    assert "rate_range" in last.reasons


@pytest.mark.parametrize(("hole_s", "again_s"), [(0.5, 0.0), (0.9, 0.0), (1.1, 2.4), (5.0, 2.4)])
def test_after_a_hole_of_a_second_it_learns_anew(hole_s: float, again_s: float) -> None:
    fs = 125.0
    feet = [0.5 + 0.8 * k for k in range(20)]
    x = pressure(fs, feet, 16.5)
    begin, end = round(6 * fs), round((6 + hole_s) * fs)
    x[begin:end] = np.nan
    onsets, _ = detected(x, fs)
    after = [one.sample / fs for one in onsets if one.sample >= begin]
    expected = [foot for foot in feet if foot > 6 + hole_s + again_s]
    assert abs(len(after) - len(expected)) <= 1
    assert after[0] > 6 + hole_s + again_s - 0.2
    assert [one for one in onsets if begin <= one.sample < end] == []


@pytest.mark.parametrize(
    ("rr_s", "second_s", "found"), [(0.8, 0.30, False), (0.8, 0.42, True), (0.5, 0.26, True), (0.5, 0.2, False)]
)
def test_nothing_new_within_the_eye_s_closing(rr_s: float, second_s: float, found: bool) -> None:
    """0.24 s, or 0.45 of the usual interval, half a second at the most."""
    fs = 125.0
    feet = [0.5 + rr_s * k for k in range(round(8 / rr_s))]
    t = np.arange(round(9 * fs)) / fs
    x = np.full(len(t), 80.0)
    for foot in [*feet, feet[-2] + second_s]:
        x += 40 * np.exp(-(((t - foot - 0.06) / 0.03) ** 2) / 2)
    onsets, _ = detected(x.astype(np.float32), fs)
    near = [one for one in onsets if feet[-2] - 0.05 < one.sample / fs < feet[-1] - 0.06]
    assert (len(near) == 2) is found


def test_one_artefact_does_not_deafen_it() -> None:
    """What is learned of a pulse ten times as large is at most twice the usual."""
    fs = 125.0
    feet = [0.5 + 0.8 * k for k in range(16)]
    x = pressure(fs, feet, 13.5)
    x += pressure(fs, [feet[6]], 13.5, 0.0, 400.0)
    onsets, _ = detected(x, fs)
    assert len([one for one in onsets if one.sample / fs > feet[7] - 0.1]) == 9


def test_rates_that_are_taken() -> None:
    for fs in (50.0, 4000.0):
        PressureDetector(fs, "ABP")
    for fs in (49.9, 4000.1):
        with pytest.raises(ValueError, match=r"50\.\.4000"):
            PressureDetector(fs, "ABP")


def test_at_the_end_a_pulse_of_three_tenths_of_a_second_is_said_and_a_shorter_one_is_not() -> None:
    fs = 125.0
    feet = [0.5 + 0.8 * k for k in range(8)]
    x = pressure(fs, feet, 8.0)
    foot = detected(x, fs)[0][-1].sample
    for more, said in ((0.28, False), (0.34, True)):
        onsets, pulses = detected(x[: round(foot + more * fs)], fs)
        assert onsets[-1].sample == foot
        assert (pulses[-1].sample == foot) is said


@pytest.mark.parametrize(("bump", "faint"), [(1.0, False), (2.0, False), (4.0, True)])
def test_less_than_two_millimetres_are_no_faint_upstroke(bump: float, faint: bool) -> None:
    """However small the pulse: so much every line moves."""
    fs = 125.0
    feet = [0.5 + 1.2 * k for k in range(10)]
    x = pressure(fs, feet, 12.5, amplitude=12.0)
    t = np.arange(len(x)) / fs
    x += (bump * np.exp(-(((t - feet[6] - 0.85) / 0.06) ** 2) / 2)).astype(np.float32)
    _, pulses = detected(x, fs)
    (with_it,) = [one for one in pulses if abs(one.sample / fs - feet[6]) < 0.05]
    assert ("faint_upstroke" in with_it.reasons) is faint


def test_the_eye_is_closed_from_the_first_pulse_on() -> None:
    """Before any interval is known, too: the second rise of one pulse, 0.2 s after its foot, is none."""
    fs = 125.0
    feet = [0.5 + 0.9 * k for k in range(8)]
    t = np.arange(round(7.6 * fs)) / fs
    x = np.full(len(t), 80.0)
    for foot in feet:
        for second, size in ((0.0, 40.0), (0.2, 36.0)):
            x += size * np.exp(-(((t - foot - second - 0.05) / 0.022) ** 2) / 2)
    onsets, _ = detected(x.astype(np.float32), fs)
    assert len([one for one in onsets if one.sample / fs > 2.6]) == len([foot for foot in feet if foot > 2.6])
