"""The pressures' rules, a lost pulse and the technical alarms: every limit at it and beside it."""

from __future__ import annotations

import pytest

from edge_agent.alarms.evidence import PressureEvidence
from edge_agent.alarms.limits import AlarmLimits
from edge_agent.alarms.rules.pressure import hypertension, hypotension, pulse_lost
from edge_agent.alarms.rules.technical import abp_artifact, abp_damped, lead_off, signal_lost
from tests.alarms.by_hand import LIMITS, beats, every, evidence, pulse_at, pulses, quality, samples

# -- pressures --------------------------------------------------------------------------------------------------------------


def test_the_minute_holds_what_ends_in_it() -> None:
    """The pulse that ends with the minute's first sample is outside; one that ends a sample later is in, with that sample."""
    minute = samples(60)
    low = [pulse_at(250 + 200 * k, 200, mean=50.0) for k in range(76)]
    for end, alarm in ((250, True), (251, False)):
        made = evidence("II", abp=True)
        for one in [pulse_at(end - 200, 200), *low]:
            made.pulse(one)
        assert (hypotension(made, 250 + minute, LIMITS) is not None) is alarm


@pytest.mark.parametrize(("pieces", "alarm"), [(50, True), (49, False)])
def test_two_thirds_to_the_sample(pieces: int, alarm: bool) -> None:
    made = evidence("II", abp=True)
    now = samples(60) + 500
    ends = [now - 200 * k - (0 if k < 40 else 3000) for k in range(pieces)]  # with a hole of 12 s
    for end in reversed(ends):
        made.pulse(pulse_at(end - 200, 200, mean=50.0))
    found = hypotension(made, now, LIMITS)
    assert (found is not None) is alarm
    if found is not None:
        assert found.evidence == {"mean_mmhg": 50.0, "pulses": 50, "covered_s": 40.0}
        assert found.since == ends[-1] - 200
        assert found.confidence == 0.667


def test_a_line_must_have_been_there_all_the_minute() -> None:
    made = evidence("II", abp=True)
    now = pulses(made, 0.8, 80, 55)
    first = now - samples(60)
    for since, alarm in ((first, True), (first + 1, False)):
        made.abp["ABP"].since = since
        assert (hypotension(made, now, LIMITS) is not None) is alarm


def test_the_second_line_speaks_where_the_first_has_nothing_to_say() -> None:
    made = evidence("II", abp=True)
    now = pulses(made, 0.8, 80, 55)
    made.abp["ABP2"] = made.abp.pop("ABP")
    made.abp = {"ABP1": PressureEvidence(since=now), **made.abp}
    found = hypotension(made, now, LIMITS)
    assert found is not None
    assert found.channel == "ABP2"


def test_a_pressure_of_fifteen_seconds_ago_is_old() -> None:
    made = evidence("II", abp=True)
    now = pulses(made, 0.8, 80, 55)
    assert hypotension(made, now + samples(15) - 1, LIMITS) is not None
    assert hypotension(made, now + samples(15), LIMITS) is None


def test_the_limits_themselves_are_no_pressure_beyond_them() -> None:
    made = evidence("II", abp=True)
    for k in range(90):
        made.pulse(pulse_at(200 * k, 200, mean=65.0, systolic=180.0))
    now = 200 * 90
    assert hypotension(made, now, LIMITS) is None
    assert hypertension(made, now, LIMITS) is None
    assert hypotension(made, now, AlarmLimits(hypotension_mean_mmhg=65.5)) is not None
    assert hypertension(made, now, AlarmLimits(hypertension_systolic_mmhg=179.5)) is not None


@pytest.mark.parametrize(("many", "alarm"), [(10, True), (9, False)])
def test_a_pulse_is_lost_of_a_line_with_ten_of_them_in_the_minute_before(many: int, alarm: bool) -> None:
    made = evidence("II", abp=True)
    now = samples(100)
    first = now - samples(6)
    made.abp["ABP"].onsets.extend([first - samples(60) - 1] * 5)  # older
    made.abp["ABP"].onsets.append(first - samples(60))
    made.abp["ABP"].onsets.extend(first - 1 - 150 * k for k in reversed(range(many - 1)))
    beats(made, "II", every(0.8, 200))
    found = pulse_lost(made, now, LIMITS)
    assert (found is not None) is alarm
    if found is not None:
        assert (found.since, found.met) == (first - 1, first - 1 + samples(6))
        assert found.evidence == {"silent_s": 6.0, "beats": 8, "lines": ["ABP"]}


def test_a_pulse_at_the_first_sample_of_the_six_seconds_is_one() -> None:
    made = evidence("II", abp=True, pleth=True)
    now = samples(100)
    first = now - samples(6)
    for line in (made.abp["ABP"], made.pleth["PLETH"]):
        line.onsets.extend(first - 150 * k for k in reversed(range(1, 15)))
    beats(made, "II", every(0.8, 200))
    assert pulse_lost(made, now, LIMITS) is not None
    made.pleth["PLETH"].onsets.append(first)
    found = pulse_lost(made, now, LIMITS)
    assert found is not None
    assert found.against == "PLETH pulses on"
    assert found.confidence == 0.5
    made.abp["ABP"].onsets.append(first)
    assert pulse_lost(made, now, LIMITS) is None


@pytest.mark.parametrize(("many", "alarm"), [(4, True), (3, False)])
def test_four_beats_meanwhile_are_enough(many: int, alarm: bool) -> None:
    made = evidence("II", abp=True)
    pulses(made, 0.8, 40)
    now = samples(46)
    beats(made, "II", [*every(0.8, 40), *every(1.2, many, 41.0)])
    assert (pulse_lost(made, now, LIMITS) is not None) is alarm


def test_a_line_that_was_not_there_has_lost_nothing() -> None:
    made = evidence("II", abp=True)
    pulses(made, 0.8, 40)
    beats(made, "II", every(0.8, 60))
    now = samples(46)
    for since, alarm in ((now - samples(6), True), (now - samples(6) + 1, False)):
        made.abp["ABP"].since = since
        assert (pulse_lost(made, now, LIMITS) is not None) is alarm


# -- technical ----------------------------------------------------------------------------------------------------------------


def test_drift_alone_is_a_fault_after_twenty_seconds_more() -> None:
    made = evidence(abp=True)
    quality(made, "ABP", 12.0, "drift")
    assert abp_artifact(made, samples(34) - 1, LIMITS) is None
    found = abp_artifact(made, samples(34), LIMITS)
    assert found is not None
    assert (found.since, found.met) == (samples(30), samples(34))
    quality(made, "ABP", 12.5, "drift", "noise")
    assert abp_artifact(made, samples(14), LIMITS) is not None


def test_damping_that_comes_and_goes() -> None:
    """Every half second a judgement; four seconds of it within eight are eight of them."""
    made = evidence(abp=True)
    for k in range(16):
        quality(made, "ABP", 40 + k / 2, *(("damped",) if k % 2 else ()))  # damped at 40.5, 41.5 ... 47.5 s
    found = abp_damped(made, samples(48.5) - 1, LIMITS)
    assert found is not None
    assert (found.since, found.met, found.channel) == (samples(38.5), samples(47.5), "ABP")
    assert found.evidence == {"reasons": ["damped"]}
    assert abp_damped(made, samples(48.5), LIMITS) is None  # the first of them is older than that
    quality(made, "ABP", 48.0)  # not damped now
    assert abp_damped(made, samples(48.0), LIMITS) is None


def test_the_first_of_two_leads_that_are_off_speaks() -> None:
    made = evidence("II", "V")
    for lead in ("II", "V"):
        quality(made, lead, 12.0, "lead_off")
    found = lead_off(made, samples(12), LIMITS)
    assert found is not None
    assert found.channel == "II"


def test_no_samples_for_exactly_five_seconds() -> None:
    made = evidence("II")
    made.absent_since = samples(100)
    found = signal_lost(made, samples(105), LIMITS)
    assert found is not None
    assert (found.since, found.met, found.channel) == (samples(100), samples(105), None)
    assert signal_lost(made, samples(105) - 1, LIMITS) is None


def test_how_much_of_the_minute_good_pulses_cover_is_said_to_a_tenth_of_a_second() -> None:
    made = evidence("II", abp=True)
    for k in range(61):
        made.pulse(pulse_at(210 * k, 210, mean=50.0))
    found = hypotension(made, samples(60), LIMITS)
    assert found is not None
    assert found.evidence == {"mean_mmhg": 50.0, "pulses": 61, "covered_s": 51.2}
