"""Hypotension, hypertension and a lost pulse at their limits."""

from __future__ import annotations

import pytest

from edge_agent.alarms.evidence import Evidence
from edge_agent.alarms.limits import AlarmLimits
from edge_agent.alarms.rules.pressure import hypertension, hypotension, pulse_lost
from edge_agent.alarms.vitals import vital_signs
from tests.alarms.by_hand import FS, LIMITS, beats, every, evidence, pulse_at, pulses, quality, samples


@pytest.mark.parametrize(("mean", "alarm"), [(64.9, True), (65.0, False), (65.1, False), (40.0, True)])
def test_hypotension_is_a_mean_under_65(mean: float, alarm: bool) -> None:
    made = evidence("II", abp=True)
    now = pulses(made, 0.8, 70, mean)
    found = hypotension(made, now, LIMITS)
    assert (found is not None) is alarm
    if found is not None:
        assert found.channel == "ABP"
        assert found.since == now - samples(60)
        assert found.evidence["mean_mmhg"] == pytest.approx(mean, abs=0.05)


@pytest.mark.parametrize(("systolic", "alarm"), [(179.9, False), (180.0, False), (180.1, True)])
def test_hypertension_is_a_systolic_over_180(systolic: float, alarm: bool) -> None:
    made = evidence("II", abp=True)
    now = pulses(made, 0.8, 70, systolic / 1.3)
    assert (hypertension(made, now, LIMITS) is not None) is alarm


@pytest.mark.parametrize(("low_s", "alarm"), [(59.0, False), (62.0, True)])
def test_it_must_last_a_minute(low_s: float, alarm: bool) -> None:
    made = evidence("II", abp=True)
    before = pulses(made, 0.8, 40, 90)
    now = pulses(made, 0.8, low_s, 55, start_s=before / FS)
    assert (hypotension(made, now, LIMITS) is not None) is alarm


def test_one_better_pulse_ends_it() -> None:
    made = evidence("II", abp=True)
    now = pulses(made, 0.8, 70, 55)
    now = pulses(made, 0.8, 0.9, 66, start_s=now / FS)
    assert hypotension(made, now, LIMITS) is None


def test_pulses_that_are_not_to_be_trusted_count_for_nothing() -> None:
    made = evidence("II", abp=True)
    now = pulses(made, 0.8, 70, 55, "damped")
    assert hypotension(made, now, LIMITS) is None
    made = evidence("II", abp=True)
    now = pulses(made, 0.8, 70, 55)
    now = pulses(made, 0.8, 4, 120, "flush", start_s=now / FS)  # a flush does not hide what was before it
    assert hypotension(made, now, LIMITS) is not None


def weak(made: Evidence, mean: float, alike: float | None, *reasons: str) -> int:
    """70 s of a pulse of 15 mmHg; the last one's end."""
    for first in range(0, samples(70), 200):
        shown = {"systolic": mean + 10, "diastolic": mean - 5, "mean": mean, "reasons": reasons, "alike": alike}
        made.pulse(pulse_at(first, 200, **shown))
    return first + 200


@pytest.mark.parametrize(
    ("alike", "reasons", "alarm"),
    [
        (0.95, ("pulse_pressure",), True),
        (0.95, ("mean_range", "diastolic_range", "after_bad"), True),
        (0.8, ("pulse_pressure",), False),  # not the patient's shape
        (None, ("pulse_pressure",), False),
        (0.95, ("pulse_pressure", "ragged"), False),
        (0.95, ("systolic_jump",), False),
    ],
)
def test_a_shock_that_leaves_little_of_the_pulse_is_a_hypotension(
    alike: float | None, reasons: tuple[str, ...], alarm: bool
) -> None:
    """60/45 mmHg breaks jSQI's rule of 20 mmHg of pulse pressure beat by beat."""
    made = evidence("II", abp=True)
    now = weak(made, 50.0, alike, *reasons)
    assert (hypotension(made, now, LIMITS) is not None) is alarm
    assert vital_signs(made, now)["mean_mmhg"] == (50.0 if alarm else None)


def test_two_thirds_of_the_minute_must_be_seen() -> None:
    for good_of_ten, alarm in ((6, False), (8, True)):
        made = evidence("II", abp=True)
        end = 0
        for i in range(100):
            reasons = () if i % 10 < good_of_ten else ("noise",)
            end = pulses(made, 0.8, 0.9, 55, *reasons, start_s=0.8 * i)
        assert (hypotension(made, end, LIMITS) is not None) is alarm


def test_an_old_pulse_says_nothing() -> None:
    made = evidence("II", abp=True)
    now = pulses(made, 0.8, 80, 55)
    assert hypotension(made, now + samples(14.9), LIMITS) is not None
    assert hypotension(made, now + samples(15.1), LIMITS) is None


def test_pulses_of_a_bad_line_are_no_pressures() -> None:
    made = evidence("II", abp=True)
    quality(made, "ABP", 2, "damped")
    assert hypotension(made, pulses(made, 0.8, 80, 55), LIMITS) is None


def test_an_artefact_neither_ends_the_alarm_nor_begins_its_minute_anew() -> None:
    made = evidence("II", abp=True)
    now = pulses(made, 0.8, 80, 55)
    quality(made, "ABP", now / FS + 2, "noise")
    assert hypotension(made, now + samples(2), LIMITS) is not None
    quality(made, "ABP", now / FS + 4)
    now = pulses(made, 0.8, 5, 55, start_s=now / FS + 4)
    assert hypotension(made, now, LIMITS) is not None


def test_good_pulses_must_cover_two_thirds_of_the_minute() -> None:
    made = evidence("II", abp=True)
    pulses(made, 0.8, 20, 55)
    quality(made, "ABP", 18, "flush")
    pulses(made, 0.8, 24, 55, start_s=20)  # not taken
    quality(made, "ABP", 44)
    now = pulses(made, 0.8, 20, 55, start_s=44)  # 20 s, and 16 s of before: 36 of 60
    assert hypotension(made, now, LIMITS) is None
    now = pulses(made, 0.8, 24, 55, start_s=64)
    assert hypotension(made, now, LIMITS) is not None


def test_systolic_and_mean_have_limits_of_their_own_where_they_are_set() -> None:
    made = evidence("II", abp=True)
    now = pulses(made, 0.8, 70, 68.0)  # 88.4 systolic
    assert hypotension(made, now, LIMITS) is None
    found = hypotension(made, now, AlarmLimits(hypotension_systolic_mmhg=90))
    assert found is not None
    assert found.evidence["systolic_mmhg"] == pytest.approx(88.4)
    made = evidence("II", abp=True)
    now = pulses(made, 0.8, 70, 130.0)  # 169 systolic
    assert hypertension(made, now, LIMITS) is None
    assert hypertension(made, now, AlarmLimits(hypertension_mean_mmhg=125)) is not None


# -- pulse lost ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("silent_s", "alarm"), [(5.9, False), (6.1, True)])
def test_no_pulse_for_six_seconds_while_the_ecg_goes_on(silent_s: float, alarm: bool) -> None:
    made = evidence("II", abp=True)
    pulses(made, 0.8, 40)  # the last one begins at 39.2 s
    beats(made, "II", every(0.8, 60))
    found = pulse_lost(made, samples(39.2 + silent_s), LIMITS)
    assert (found is not None) is alarm
    if found is not None:
        assert (found.since, found.met) == (samples(39.2), samples(45.2))
        assert found.evidence["lines"] == ["ABP"]


def test_without_beats_it_is_an_asystole_s_affair() -> None:
    made = evidence("II", abp=True)
    pulses(made, 0.8, 40)
    beats(made, "II", every(0.8, 46))  # until 39 s
    assert pulse_lost(made, samples(46), LIMITS) is None


def test_a_line_that_never_pulsed_has_lost_nothing() -> None:
    made = evidence("II", abp=True)
    pulses(made, 0.8, 4)
    beats(made, "II", every(0.8, 60))
    assert pulse_lost(made, samples(20), LIMITS) is None


@pytest.mark.parametrize("reason", ["flush", "lead_off", "damped", "flat"])
def test_a_bad_line_has_lost_no_pulse(reason: str) -> None:
    made = evidence("II", abp=True)
    pulses(made, 0.8, 40)
    beats(made, "II", every(0.8, 60))
    quality(made, "ABP", 42.0, reason)
    assert pulse_lost(made, samples(47), LIMITS) is None


def test_another_line_that_pulses_on_is_against_it() -> None:
    made = evidence("II", abp=True, pleth=True)
    pulses(made, 0.8, 40)
    pulses(made, 0.8, 50, channel="PLETH")
    beats(made, "II", every(0.8, 60))
    found = pulse_lost(made, samples(47), LIMITS)
    assert found is not None
    assert found.against == "PLETH pulses on"
