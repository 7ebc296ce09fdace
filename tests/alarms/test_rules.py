"""The alarm rules at their limits, on evidence made by hand."""

from __future__ import annotations

import pytest

from edge_agent.alarms.evidence import EcgEvidence, Evidence, PressureEvidence
from edge_agent.alarms.rules import (
    DETECTION_S,
    RULES,
    Finding,
    abp_artifact,
    asystole,
    atrial_fibrillation,
    bradycardia,
    ecg_noise,
    hypertension,
    hypotension,
    lead_off,
    tachycardia,
)
from edge_agent.config import AlarmLimits
from edge_agent.journey import Beat, Onset, Pulse, Quality

FS = 250.0
LIMITS = AlarmLimits()


def samples(seconds: float) -> int:
    return round(seconds * FS)


def evidence(*ecg: str, abp: bool = False, pleth: bool = False) -> Evidence:
    """Good signals since sample 0 on these leads."""
    made = Evidence(
        fs=FS,
        ecg={name: EcgEvidence() for name in ecg},
        abp={"ABP": PressureEvidence()} if abp else {},
        pleth={"PLETH": PressureEvidence()} if pleth else {},
    )
    for name in (*ecg, *made.abp, *made.pleth):
        quality(made, name, 2.0)
    return made


def quality(made: Evidence, channel: str, at_s: float, *reasons: str) -> None:
    end = samples(at_s)
    made.quality(Quality(channel, max(0, end - samples(2)), end, end, 0.0 if reasons else 1.0, reasons))


def beats(made: Evidence, channel: str, times_s: list[float]) -> int:
    """Beats at these times; the moment at which the last one is known."""
    at = 0
    for time_s in times_s:
        at = samples(time_s)
        made.beat(Beat(channel, at, at + 60, 1.0))
    return at + 60


def every(interval_s: float, n: int, start_s: float = 3.0) -> list[float]:
    return [start_s + i * interval_s for i in range(n)]


def pulses(
    made: Evidence, interval_s: float, seconds: float, mean: float = 90.0, *reasons: str, start_s: float = 0.0
) -> int:
    """A pressure of that mean, pulse after pulse; the last one's end."""
    end = 0
    for i in range(int(seconds / interval_s)):
        first, end = samples(start_s + i * interval_s), samples(start_s + (i + 1) * interval_s)
        made.onset(Onset("ABP", first, first + 20))
        made.pulse(Pulse("ABP", first, end, end, mean * 1.3, mean * 0.8, mean, 10, 60 / interval_s, reasons))
    return end


# -- asystole ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pause_s", "alarm"), [(3.9, False), (4.1, True), (30.0, True)])
def test_a_pause_of_four_seconds_is_asystole(pause_s: float, alarm: bool) -> None:
    """The next beat would be known up to DETECTION_S after it was due: only then is the pause sure."""
    made = evidence("II")
    beats(made, "II", [3.0, 3.8, 4.6])
    now = samples(4.6 + pause_s + DETECTION_S)
    found = asystole(made, now, LIMITS)
    assert (found is not None) is alarm
    if found is not None:
        assert (found.since, found.met) == (samples(4.6), samples(8.6))
        assert found.channel == "II"
        assert found.evidence["pulses"] == 0


def test_a_beat_ends_it() -> None:
    made = evidence("II")
    beats(made, "II", [3.0, 3.8])
    assert asystole(made, samples(9), LIMITS) is not None
    beats(made, "II", [9.0])
    assert asystole(made, samples(9.3), LIMITS) is None


def test_a_signal_without_any_beat_is_silent_from_its_beginning() -> None:
    made = evidence("II")
    assert asystole(made, samples(3.9 + DETECTION_S), LIMITS) is None
    found = asystole(made, samples(4.1 + DETECTION_S), LIMITS)
    assert found is not None
    assert found.since == 0


def test_all_good_leads_must_be_silent() -> None:
    made = evidence("II", "V")
    beats(made, "II", [3.0])
    last = beats(made, "V", every(0.8, 12))
    assert asystole(made, last, LIMITS) is None
    found = asystole(made, last + samples(5), LIMITS)
    assert found is not None
    assert found.channel == "V"  # counted from the lead that saw a beat last


def test_a_bad_lead_says_nothing() -> None:
    made = evidence("II")
    beats(made, "II", [3.0])
    quality(made, "II", 5.0, "noise")
    assert asystole(made, samples(20), LIMITS) is None
    quality(made, "II", 20.0)  # good again: from here on a pause counts, what was hidden does not
    assert asystole(made, samples(20 - 2 + 3.9 + DETECTION_S), LIMITS) is None
    assert asystole(made, samples(20 - 2 + 4.1 + DETECTION_S), LIMITS) is not None


def test_a_bad_lead_with_beats_does_not_hide_a_good_silent_one() -> None:
    made = evidence("II", "V")
    beats(made, "II", [3.0])
    quality(made, "V", 4.0, "noise")
    now = beats(made, "V", every(0.3, 30))  # noise is full of "beats"
    assert asystole(made, now, LIMITS) is not None


@pytest.mark.parametrize(("channel", "abp", "pleth"), [("ABP", True, False), ("PLETH", False, True)])
def test_a_pulse_that_goes_on_suppresses_it(channel: str, abp: bool, pleth: bool) -> None:
    made = evidence("II", abp=abp, pleth=pleth)
    beats(made, "II", [3.0])
    for time_s in every(0.8, 10):
        made.onset(Onset(channel, samples(time_s), samples(time_s) + 30))
    assert asystole(made, samples(10.5), LIMITS) is None
    quality(made, channel, 10.5, "flush")  # a line that is being flushed is no witness
    assert asystole(made, samples(10.5), LIMITS) is not None


@pytest.mark.parametrize(("late", "alarm"), [(1, True), (2, False)])
def test_one_late_pulse_may_be_the_last_beat_s(late: int, alarm: bool) -> None:
    made = evidence("II", abp=True)
    beats(made, "II", [10.0])
    for i in range(late):
        at = samples(10.9 + 0.8 * i)
        made.onset(Onset("ABP", at, at + 30))
    assert (asystole(made, samples(14.7), LIMITS) is not None) is alarm


def test_the_pause_is_the_configured_one() -> None:
    made = evidence("II")
    beats(made, "II", [3.0])
    assert asystole(made, samples(5.7), AlarmLimits(asystole_s=2)) is not None
    assert asystole(made, samples(12), AlarmLimits(asystole_s=10)) is None


# -- rates ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("per_min", "alarm"), [(39.9, True), (40.0, False), (40.1, False), (20.0, True), (70.0, False)]
)
def test_bradycardia_is_under_40_over_5_beats(per_min: float, alarm: bool) -> None:
    made = evidence("II")
    now = beats(made, "II", [3.0, 3.5, 4.0, *every(60 / per_min, 5, 4.5)])
    found = bradycardia(made, now, LIMITS)
    assert (found is not None) is alarm
    if found is not None:
        assert found.since == samples(4.5)
        assert found.met == now - 60
        assert found.evidence["rate_per_min"] == pytest.approx(per_min, abs=0.05)


def test_bradycardia_needs_five_beats() -> None:
    made = evidence("II")
    assert bradycardia(made, beats(made, "II", every(1.8, 4)), LIMITS) is None
    made = evidence("II")
    assert bradycardia(made, beats(made, "II", every(1.8, 5)), LIMITS) is not None


def test_a_pause_is_asystole_s_affair_and_no_bradycardia() -> None:
    made = evidence("II")
    now = beats(made, "II", [3.0, 3.8, 4.6, 8.7, 9.5])  # 4.1 s without a beat: 37 per minute over the five
    assert bradycardia(made, now, LIMITS) is None
    made = evidence("II")
    now = beats(made, "II", [3.0, 4.6, 6.2, 7.8, 9.4])
    assert bradycardia(made, now, LIMITS) is not None
    assert bradycardia(made, samples(9.4 + 4.1), LIMITS) is None  # and nothing since: it is no rate any more


@pytest.mark.parametrize(("per_min", "alarm"), [(139.9, False), (140.1, True), (220.0, True), (80.0, False)])
def test_tachycardia_is_over_140_over_17_beats(per_min: float, alarm: bool) -> None:
    made = evidence("II")
    now = beats(made, "II", every(60 / per_min, 17))
    found = tachycardia(made, now, LIMITS)
    assert (found is not None) is alarm


def test_the_limit_itself_is_no_tachycardia() -> None:
    made = evidence("II")
    now = beats(made, "II", every(0.4, 17))  # 150 per minute to the sample
    assert tachycardia(made, now, AlarmLimits(tachycardia_per_min=150)) is None
    assert tachycardia(made, now, AlarmLimits(tachycardia_per_min=149.9)) is not None


@pytest.mark.parametrize(("n", "alarm"), [(16, False), (17, True)])
def test_tachycardia_needs_17_beats(n: int, alarm: bool) -> None:
    made = evidence("II")
    now = beats(made, "II", every(0.35, n))
    found = tachycardia(made, now, LIMITS)
    assert (found is not None) is alarm
    if found is not None:
        assert found.since == samples(3.0)
        assert found.met == now - 60


@pytest.mark.parametrize(("slow", "alarm"), [(1, False), (0, True)])
def test_the_rate_is_of_the_newest_17(slow: int, alarm: bool) -> None:
    """One slow interval among them is enough to be below 140 here: 141 per minute without it."""
    made = evidence("II")
    start = [3.0, 4.0, 5.0]
    now = beats(made, "II", [*start, *every(60 / 141, 17 - slow, 6.0)])
    assert (tachycardia(made, now, LIMITS) is not None) is alarm


@pytest.mark.parametrize("rule", [bradycardia, tachycardia])
def test_rates_come_from_the_first_good_lead(rule: object) -> None:
    made = evidence("II", "V")
    times = every(1.8, 8) if rule is bradycardia else every(0.35, 20)
    now = beats(made, "V", times)
    beats(made, "II", every(0.8, 30))
    ask = bradycardia if rule is bradycardia else tachycardia
    assert ask(made, now, LIMITS) is None  # II is good and in order
    quality(made, "II", 4.0, "noise")
    found = ask(made, now, LIMITS)
    assert found is not None
    assert found.channel == "V"
    quality(made, "V", 4.0, "hum")
    assert ask(made, now, LIMITS) is None


def test_beats_from_before_a_bad_stretch_are_not_counted() -> None:
    made = evidence("II")
    times = every(0.35, 100)
    beats(made, "II", [time_s for time_s in times if time_s < 8])
    quality(made, "II", 8.0, "noise")
    quality(made, "II", 10.5)  # good since 8.5 s
    now = beats(made, "II", [time_s for time_s in times if 8 <= time_s < 13.5])
    assert tachycardia(made, now, LIMITS) is None
    now = beats(made, "II", [time_s for time_s in times if 13.5 <= time_s < 14.8])
    assert tachycardia(made, now, LIMITS) is not None


# -- rhythm -----------------------------------------------------------------------------------------------------------


def test_fibrillation_is_what_the_follower_says() -> None:
    made = evidence("II")
    for rhythm in ("unknown", "N"):
        made.rhythm = rhythm
        assert atrial_fibrillation(made, 9000, LIMITS) is None
    made.rhythm, made.rhythm_since, made.rhythm_known, made.rhythm_channel = "AFIB", 3000, 8000, "II"
    assert atrial_fibrillation(made, 9000, LIMITS) == Finding(3000, 8000, "II", {})


# -- pressure ---------------------------------------------------------------------------------------------------------


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


# -- technical --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "channel", "reason", "least_s"),
    [
        (lead_off, "II", "lead_off", 2.0),
        (lead_off, "II", "flat", 2.0),
        (ecg_noise, "II", "noise", 8.0),
        (ecg_noise, "II", "wander", 8.0),
        (abp_artifact, "ABP", "damped", 4.0),
        (abp_artifact, "ABP", "flush", 4.0),
        (abp_artifact, "ABP", "lead_off", 4.0),
    ],
)
def test_a_bad_signal_has_its_own_alarm_after_its_time(rule: object, channel: str, reason: str, least_s: float) -> None:
    made = evidence("II", abp=True)
    quality(made, channel, 12.0, reason)  # judged on 10..12 s, good until 2 s: bad since 10 s
    ask = next(one for _, _, one in RULES if one is rule)
    assert ask(made, samples(10 + least_s) - 1, LIMITS) is None
    found = ask(made, samples(10 + least_s), LIMITS)
    assert found is not None
    assert (found.since, found.met, found.channel) == (samples(10), samples(10 + least_s), channel)
    assert found.evidence == {"reasons": [reason]}
    quality(made, channel, 30.0)
    assert ask(made, samples(31), LIMITS) is None


def test_the_bad_stretch_counts_from_the_last_good_news() -> None:
    """A quality looks back two seconds; what was said to be good in them was."""
    made = evidence("II")
    quality(made, "II", 10.0)
    quality(made, "II", 10.5, "lead_off")
    assert made.worth("II").bad_since == samples(10.0)
    quality(made, "II", 11.0, "noise")  # other reasons, the same bad stretch
    assert made.worth("II").bad_since == samples(10.0)


def test_one_good_lead_is_enough_to_go_on() -> None:
    made = evidence("II", "V")
    quality(made, "II", 10.0, "noise")
    assert ecg_noise(made, samples(30), LIMITS) is None
    quality(made, "V", 12.0, "hum")
    assert ecg_noise(made, samples(30), LIMITS) is not None
    assert lead_off(made, samples(30), LIMITS) is None
    quality(made, "V", 40.0, "lead_off")
    found = lead_off(made, samples(50), LIMITS)
    assert found is not None
    assert found.channel == "V"


# -- all --------------------------------------------------------------------------------------------------------------


def test_nothing_is_said_of_signals_that_nothing_is_known_of() -> None:
    """Beats and pulses without a judgement of their signal raise nothing, at any time."""
    made = Evidence(
        fs=FS, ecg={"II": EcgEvidence()}, abp={"ABP": PressureEvidence()}, pleth={"PLETH": PressureEvidence()}
    )
    beats(made, "II", every(0.35, 40))
    pulses(made, 0.8, 80, 50)
    for now in (0, samples(20), samples(80), samples(1000)):
        assert [kind for kind, _, rule in RULES if rule(made, now, LIMITS) is not None] == []


def test_a_gap_clears_what_was_known() -> None:
    made = evidence("II", abp=True)
    beats(made, "II", every(0.35, 40))
    end = pulses(made, 0.8, 70, 50)
    assert tachycardia(made, samples(17), LIMITS) is not None
    assert hypotension(made, end, LIMITS) is not None
    made.gap(end + 100)
    assert not made.ecg["II"].beats
    assert not made.abp["ABP"].pulses
    assert not made.abp["ABP"].onsets
    for kind, _, rule in RULES:
        for now in (end + 200, end + samples(30)):  # nothing is known of what comes after it
            assert rule(made, now, LIMITS) is None, kind
    for name in ("II", "ABP"):
        quality(
            made, name, (end + 100) / FS + 1
        )  # its two seconds reach back over the gap; what it stands for does not
    assert asystole(made, end + 100 + samples(3.9 + DETECTION_S), LIMITS) is None  # counted from after the gap
    assert asystole(made, end + 100 + samples(4.1 + DETECTION_S), LIMITS) is not None
    begin_s = (end + 100) / FS
    assert hypotension(made, pulses(made, 0.8, 59.3, 50, start_s=begin_s), LIMITS) is None
    assert hypotension(made, pulses(made, 0.8, 3, 50, start_s=begin_s + 59.2), LIMITS) is not None


def test_every_kind_has_one_rule_and_a_priority() -> None:
    kinds = [kind for kind, _, _ in RULES]
    assert len(set(kinds)) == len(kinds)
    assert {kind for kind, priority, _ in RULES if priority == "high"} == {"asystole", "bradycardia", "tachycardia"}
