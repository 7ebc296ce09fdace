"""Every threshold of the rules' helpers, at it and beside it: what a reader would take from the comparison sign."""

from __future__ import annotations

import pytest

from edge_agent.alarms.judged import Judged
from edge_agent.alarms.limits import AlarmLimits
from edge_agent.alarms.rhythm_watch import Change
from edge_agent.alarms.rules import witness
from edge_agent.alarms.rules.atrial import atrial_fibrillation, atrial_fibrillation_judged
from edge_agent.alarms.rules.base import ARREST, confidence
from edge_agent.alarms.rules.rate import bradycardia, tachycardia
from edge_agent.alarms.rules.registry import RULES, VERDICT_RULES
from tests.alarms.by_hand import FS, LIMITS, beats, every, evidence, pulse_at, pulses, quality, samples


def test_confidence_is_the_rule_of_succession() -> None:
    assert [confidence(*pair) for pair in ((1, 1), (2, 2), (1, 2), (0, 3))] == [0.667, 0.75, 0.5, 0.2]


def test_every_alarm_with_what_it_needs() -> None:
    """Priorities as a ward knows them, whose part each is, and what says more of the same."""
    said = {
        (rule.kind, lane): (rule.priority, sorted(rule.needs), rule.instead, sorted(rule.under))
        for lane, rules in (("own", RULES), ("verdict", VERDICT_RULES))
        for rule in rules
    }
    arrest, runs = sorted(ARREST), sorted({*ARREST, "ventricular_tachycardia"})
    high, medium, low, lines = "high", "medium", "low", ["abp", "pleth"]
    known = {
        ("asystole", "own"): (high, [], False, ["ventricular_fibrillation"]), ("ventricular_fibrillation", "own"): (high, [], False, []),
        ("ventricular_tachycardia", "own"): (high, [], True, arrest), ("bradycardia", "own"): (high, [], False, arrest),
        ("tachycardia", "own"): (high, [], False, arrest), ("pulse_lost", "own"): (high, lines, False, arrest),
        ("pause", "own"): (medium, [], False, arrest), ("atrial_fibrillation", "own"): (medium, [], True, []),
        ("hypotension", "own"): (medium, ["abp"], False, []), ("hypertension", "own"): (medium, ["abp"], False, []),
        ("signal_lost", "own"): (medium, [], False, []), ("ecg_noise", "own"): (low, [], False, []),
        ("lead_off", "own"): (low, [], False, []), ("abp_artifact", "own"): (low, ["abp"], False, []),
        ("abp_damped", "own"): (low, ["abp"], False, []), ("tpu_degraded", "own"): (low, [], False, []),
        ("ventricular_tachycardia", "verdict"): (high, [], False, arrest), ("ventricular_run", "verdict"): (medium, [], False, runs),
        ("ventricular_couplet", "verdict"): (low, [], False, runs), ("ventricular_bigeminy", "verdict"): (low, [], False, runs),
        ("atrial_fibrillation", "verdict"): (medium, [], False, []),
    }  # fmt: skip
    assert {one: what for one, what in said.items() if one in known} == known
    late = {rule.kind for rule in RULES if rule.refractory_s} | {
        rule.kind for rule in VERDICT_RULES if rule.refractory_s
    }
    assert late & {kind for kind, _ in known} == {"ventricular_run", "ventricular_couplet", "ventricular_bigeminy"}
    assert min(*(rule.confirm_s for rule in RULES), *(rule.confirm_s for rule in VERDICT_RULES)) >= 0.0


# -- witness ------------------------------------------------------------------------------------------------------------


def test_a_rate_takes_three_beats() -> None:
    assert witness.rate_of([250, 500, 750], FS) == 60.0
    assert witness.rate_of(iter([0, 100, 250, 500]), FS) == 90.0
    assert witness.rate_of([250, 500], FS) is None


def test_beats_between_are_those_at_both_ends_too() -> None:
    made = evidence("II")
    made.ecg["II"].beats.extend([99, 100, 150, 200, 201])
    assert witness.beats_between(made.ecg["II"], 100, 200) == [100, 150, 200]


@pytest.mark.parametrize(
    ("steps", "regular", "per_min"),
    [
        ([100, 125, 75], True, 150.0),  # a quarter is still even
        ([100, 126, 100], False, 150.0),
        ([100, 74, 100], False, 150.0),
        ([100, 100], True, 150.0),
        ([100], False, 150.0),
        ([], False, None),
        ([100, 200], False, 75.0),  # of two the longer
    ],
)
def test_even_pulses(steps: list[int], regular: bool, per_min: float | None) -> None:
    at = [1000]
    for step in steps:
        at.append(at[-1] + step)
    said = witness._pulsing("ABP", at, FS)
    assert (said.count, said.regular, said.rate_per_min) == (len(steps) + 1, regular, per_min)


def test_a_line_without_a_usual_pulse_is_asked_for_what_breaks_no_rule() -> None:
    """From the first sample to the one before the last; a line that pulsed for long enough has its usual pulse instead."""
    made = evidence("II", abp=True)
    pulses(made, 0.8, 4.0)  # five, at 0 to 3.2 s
    pulses(made, 0.8, 1.6, 90.0, "ragged", start_s=4.0)
    one = witness.pulsing_between(made, 0, samples(3.2))
    assert [(said.channel, said.count) for said in one] == [("ABP", 4)]
    assert witness.pulsing_between(made, 0, samples(3.2) + 1)[0].count == 5
    assert witness.pulsing_between(made, samples(0.8), samples(6))[0].count == 4
    made.abp["ABP"].since = 10
    assert witness.pulsing_between(made, 9, samples(6)) == []
    assert len(witness.pulsing_between(made, 10, samples(6))) == 1


def test_a_bad_line_that_has_no_usual_pulse_says_nothing() -> None:
    made = evidence("II", abp=True)
    pulses(made, 0.8, 4.0)
    quality(made, "ABP", 4.0, "noise")
    assert witness.pulsing_between(made, 0, samples(4)) == []


def test_what_speaks_for_beats() -> None:
    """A good lead for itself since its signal began; a disturbed one if another has the same beats; none for one that is off."""
    made = evidence("II", "V")
    at = [samples(time_s) for time_s in every(0.8, 6, 10.0)]
    assert witness.vouched(made, "II", at)
    assert not witness.vouched(made, "II", [])
    made.ecg["II"].since = at[0]
    assert witness.vouched(made, "II", at)
    made.ecg["II"].since = at[0] + 1
    assert not witness.vouched(made, "II", at)
    made.ecg["V"].beats.extend(at)
    assert witness.vouched(made, "II", at)
    quality(made, "II", 9.0, "noise")
    assert witness.vouched(made, "II", at)
    quality(made, "II", 15.0, "noise", "lead_off")
    assert not witness.vouched(made, "II", at)


def test_a_second_lead_within_150_ms_and_no_further() -> None:
    made = evidence("II", "V")
    at = [samples(time_s) for time_s in every(0.8, 6, 10.0)]
    near = round(0.15 * FS)
    for late, same in ((near, True), (-near, True), (near + 1, False), (-near - 1, False)):
        made.ecg["V"].beats.clear()
        made.ecg["V"].beats.extend(beat + late for beat in at)
        assert witness.seconded(made, "II", at) is same


@pytest.mark.parametrize(("more", "same"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
def test_as_many_pulses_within_one(more: int, same: bool) -> None:
    made = evidence("II", abp=True)
    at = [samples(time_s) for time_s in every(0.8, 6, 10.0)]
    first = at[0] + round(0.35 * FS) // 2
    for k in range(6 + more):
        made.pulse(pulse_at(first + 100 * k, 100))
    assert witness.seconded(made, "II", at) is same


@pytest.mark.parametrize(("many", "same"), [(3, False), (4, True)])
def test_fewer_than_four_pulses_are_no_witness(many: int, same: bool) -> None:
    made = evidence("II", abp=True)
    at = [samples(time_s) for time_s in every(0.8, many, 10.0)]
    for beat in at:
        made.pulse(pulse_at(beat + 60, 150))
    assert witness.seconded(made, "II", at) is same


# -- rates ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "against"), [(60 * FS / 341 / 1.1, True), (60 * FS / 341 / 1.1 + 0.01, False)])
def test_a_tenth_above_the_limit_is_against_a_bradycardia(limit: float, against: bool) -> None:
    """Of the limit, to the sample."""
    made = evidence("II", "V")
    now = beats(made, "II", every(1.76, 8))
    made.ecg["V"].beats.extend(samples(3) + k * 341 for k in range(12))
    found = bradycardia(made, now, AlarmLimits(bradycardia_per_min=limit))
    assert found is not None
    assert (found.against is not None) is against


@pytest.mark.parametrize(("many", "against"), [(4, True), (3, False)])
def test_as_many_pulses_as_intervals_are_against_a_bradycardia(many: int, against: bool) -> None:
    """Of five beats four; fewer say nothing of the rate."""
    made = evidence("II", abp=True)
    now = beats(made, "II", every(1.76, 5))
    first = made.ecg["II"].beats[0]
    for k in range(many):
        made.pulse(pulse_at(first + 300 * k, 300))  # 50 per minute
    found = bradycardia(made, now, LIMITS)
    assert found is not None
    assert found.against == ("ABP counts 50 pulses per minute" if against else None)


@pytest.mark.parametrize(("step", "against"), [(127, False), (128, True), (150, True), (172, True), (173, False)])
def test_about_two_beats_for_each_even_pulse_mean_that_t_waves_were_counted(step: int, against: bool) -> None:
    """1.7 to 2.3: at 75 samples from beat to beat, from 128 to 172 from pulse to pulse."""
    made = evidence("II", abp=True)
    at = [samples(3) + 75 * k for k in range(30)]
    made.ecg["II"].beats.extend(at)
    for k in range(2500 // step):
        made.pulse(pulse_at(samples(3) + step * k, step))
    found = tachycardia(made, at[-1] + 60, LIMITS)
    assert found is not None
    assert (found.against is not None) is against


@pytest.mark.parametrize(("step", "alarm"), [(93, True), (94, False)])
def test_a_burst_of_nine_is_told_above_160(step: int, alarm: bool) -> None:
    """161.3 and 159.6 per minute, in two leads."""
    made = evidence("II", "V")
    at = [samples(3) + step * k for k in range(9)]
    for lead in ("II", "V"):
        made.ecg[lead].beats.extend(at)
    assert (tachycardia(made, at[-1] + 60, LIMITS) is not None) is alarm


def test_a_tenth_below_the_limit_is_against_a_tachycardia() -> None:
    made = evidence("II", "V")
    now = beats(made, "V", every(0.36, 20))
    beats(made, "II", every(0.48, 20))  # 125 per minute
    for limit, against in ((125 / 0.9, True), (125 / 0.9 - 0.5, False)):
        found = tachycardia(made, now, AlarmLimits(tachycardia_per_min=limit))
        assert found is not None
        assert found.channel == "V"
        assert (found.against is not None) is against
        assert found.confidence == (0.5 if against else 0.75)


def test_a_lead_that_was_not_there_from_the_first_beat_on_has_no_say() -> None:
    made = evidence("V", "II")
    now = beats(made, "V", every(0.36, 20))
    beats(made, "II", every(0.8, 20))
    first = made.ecg["V"].beats[-17]
    for since, against in ((first, True), (first + 1, False)):
        made.ecg["II"].since = since
        found = tachycardia(made, now, LIMITS)
        assert found is not None
        assert (found.against is not None) is against


@pytest.mark.parametrize(("gap_s", "alarm"), [(3.996, True), (4.0, False)])
def test_a_pause_of_four_seconds_among_them_is_no_rate(gap_s: float, alarm: bool) -> None:
    made = evidence("II")
    now = beats(made, "II", [3.0, 4.5, 6.0, 6.0 + gap_s, 7.5 + gap_s])
    assert (bradycardia(made, now, LIMITS) is not None) is alarm


def test_the_beat_that_has_not_come_counts_as_due_now() -> None:
    made = evidence("II")
    now = beats(made, "II", every(1.4, 7)) + samples(3.0)
    found = bradycardia(made, now, LIMITS)
    assert found is not None
    due = now - samples(0.6)
    assert (found.since, found.met) == (made.ecg["II"].beats[-4], due)
    assert found.evidence == {"rate_per_min": round(4 * 60 * FS / (due - made.ecg["II"].beats[-4]), 1), "beats": 5}


def test_beats_at_one_instant_have_no_rate() -> None:
    made = evidence("II")
    made.ecg["II"].beats.extend([1000] * 20)
    assert tachycardia(made, 1060, LIMITS) is None


# -- atrial fibrillation --------------------------------------------------------------------------------------------------------


def test_the_rhythm_is_said_where_it_is_followed() -> None:
    made = evidence("II")
    judged = Judged(FS)
    for known in (made, judged):
        known.rhythm = Change("AFIB", "II", since=10, sample=15, known=20, evidence={"irregular": 0.3})
    for found in (atrial_fibrillation(made, 30, LIMITS), atrial_fibrillation_judged(judged, 30, LIMITS)):
        assert found is not None
        assert (found.since, found.met, found.channel, found.evidence) == (10, 20, "II", {"irregular": 0.3})
    made.rhythm_judged = True
    assert atrial_fibrillation(made, 30, LIMITS) is None
    made.rhythm_judged, made.rhythm = False, Change("N", "II", since=10, sample=15, known=20, evidence={})
    assert atrial_fibrillation(made, 30, LIMITS) is None
