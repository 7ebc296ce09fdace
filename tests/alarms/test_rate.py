"""Bradycardia and tachycardia at their limits, and who may speak against them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edge_agent.alarms.limits import AlarmLimits
from edge_agent.alarms.rules.base import DETECTION_S, Finding
from edge_agent.alarms.rules.rate import bradycardia, tachycardia
from tests.alarms.by_hand import LIMITS, beats, every, evidence, pulses, quality, samples


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
def test_another_good_lead_with_another_rate_is_against_it(rule: object) -> None:
    made = evidence("II", "V")
    times = every(1.8, 8) if rule is bradycardia else every(0.35, 20)
    now = beats(made, "V", times)
    beats(made, "II", every(0.8, 30))
    ask = bradycardia if rule is bradycardia else tachycardia
    found = ask(made, now, LIMITS)
    assert found is not None
    assert found.against == "II counts 75 beats per minute"
    assert found.confidence < 0.6
    quality(made, "II", 4.0, "noise")  # a bad lead has no say
    found = ask(made, now, LIMITS)
    assert found is not None
    assert (found.channel, found.against) == ("V", None)
    quality(made, "V", 4.0, "hum")
    assert ask(made, now, LIMITS) is None


def test_leads_that_differ_about_the_limit_are_not_against_it() -> None:
    made = evidence("II", "V")
    now = beats(made, "V", every(60 / 39, 8))
    beats(made, "II", every(60 / 41, 12))
    found = bradycardia(made, now, LIMITS)
    assert found is not None
    assert found.against is None


@pytest.mark.parametrize(("pulse_s", "against"), [(0.8, True), (1.8, False)])
def test_pulses_at_a_higher_rate_are_against_a_bradycardia(pulse_s: float, against: bool) -> None:
    made = evidence("II", abp=True)
    pulses(made, pulse_s, 40)
    now = beats(made, "II", every(1.8, 10, 20.0))
    found = bradycardia(made, now, LIMITS)
    assert found is not None
    assert (found.against is not None) is against


@pytest.mark.parametrize(("pulse_s", "against"), [(0.7, True), (0.35, False), (0.5, False)])
def test_one_even_pulse_for_two_beats_means_that_t_waves_were_counted(pulse_s: float, against: bool) -> None:
    made = evidence("II", abp=True)
    pulses(made, pulse_s, 40)
    now = beats(made, "II", every(0.35, 60, 10.0))
    found = tachycardia(made, now, LIMITS)
    assert found is not None
    assert (found.against is not None) is against


def test_an_interval_that_is_still_open_counts_as_soon_as_it_is_long_enough() -> None:
    """Four beats at 30 per minute: the fifth can only come too late."""
    made = evidence("II")
    beats(made, "II", every(2.0, 4))
    assert bradycardia(made, samples(9.0 + DETECTION_S), LIMITS) is None  # 6 s: 40 to the minute
    assert bradycardia(made, samples(9.1 + DETECTION_S), LIMITS) is not None


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


@pytest.mark.parametrize(
    ("n", "per_min", "alarm"),
    [(13, 141.0, True), (12, 141.0, False), (9, 161.0, True), (8, 161.0, False), (9, 159.0, False)],
)
def test_fewer_beats_will_do_where_another_lead_shows_the_same(n: int, per_min: float, alarm: bool) -> None:
    made = evidence("II", "V")
    for lead in ("II", "V"):
        now = beats(made, lead, every(60 / per_min, n))
    assert (tachycardia(made, now, LIMITS) is not None) is alarm
    alone = evidence("II")
    assert tachycardia(alone, beats(alone, "II", every(60 / per_min, n)), LIMITS) is None


@pytest.mark.parametrize(("n", "alarm"), [(4, True), (3, False)])
def test_four_slow_beats_will_do_likewise(n: int, alarm: bool) -> None:
    made = evidence("II", "V")
    for lead in ("II", "V"):
        now = beats(made, lead, every(1.8, n))
    assert (bradycardia(made, now, LIMITS) is not None) is alarm


SLOW, FAST = (bradycardia, 1.8, 5, 7.2), (tachycardia, 0.4, 17, 5.7)


@pytest.mark.parametrize(
    ("rate", "interval_s", "confidence"),
    [
        (SLOW, 1.8, 0.75),
        (SLOW, 1.0, 0.5),
        (SLOW, None, 0.667),
        (FAST, 0.4, 0.75),
        (FAST, 0.8, 0.5),
        (FAST, None, 0.667),
    ],
    ids=range(6),
)
def test_a_line_that_pulses_has_a_say_in_how_sure_a_rate_is(
    rate: tuple[Callable[..., Finding | None], float, int, float], interval_s: float | None, confidence: float
) -> None:
    """With it, against it, and one that shows no pulse, which says nothing."""
    rule, rr_s, n, until_s = rate
    made = evidence("II", abp=True)
    now = beats(made, "II", every(rr_s, n))
    if interval_s is not None:
        pulses(made, interval_s, until_s, start_s=3.1)
    found = rule(made, now, LIMITS)
    assert found is not None
    assert found.confidence == confidence


@pytest.mark.parametrize("many", [3, 4])
@pytest.mark.parametrize("late", [-1, 0, 1])
def test_beats_that_came_within_what_a_beat_may_be_late_are_no_slow_rate(many: int, late: int) -> None:
    """None has been waited for yet: there is no time to divide by."""
    made = evidence("II")
    now = samples(10)
    first = now - samples(DETECTION_S) + late
    made.ecg["II"].beats.extend(first + 30 * k for k in range(many))
    assert bradycardia(made, now, LIMITS) is None
