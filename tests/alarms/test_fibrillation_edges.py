"""Flutter and fibrillation: every limit of what a swing is, at it and beside it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edge_agent.alarms.evidence import Evidence
from edge_agent.alarms.rules import fibrillation
from edge_agent.alarms.rules.fibrillation import is_pure, shows_beats, swings, ventricular_fibrillation
from edge_agent.journey import Texture
from tests.alarms.by_hand import (
    FIBRILLATION,
    FLUTTER,
    FS,
    LIMITS,
    SINUS,
    beats,
    every,
    evidence,
    pulse_at,
    pulses,
    quality,
    samples,
    textures,
)


def one(field: str, value: float) -> dict[str, Any]:
    return {field: value}


@pytest.mark.parametrize(
    ("field", "last_in", "first_out"),
    [
        ("peaked", 3.29, 3.3),
        ("slow", 0.41, 0.4),
        ("peak_hz", 7.99, 8.0),
        ("steady", 0.16, 0.15),
        ("last_size_log", -1.59, -1.6),
        ("concentration", 0.46, 0.45),
        ("alike", 0.89, 0.9),
    ],
)
def test_limits_of_a_swing(field: str, last_in: float, first_out: float) -> None:
    assert swings(replace(FIBRILLATION, **one(field, last_in)))
    assert not swings(replace(FIBRILLATION, **one(field, first_out)))


def test_the_slowest_swing_and_how_pure_a_slow_one_is() -> None:
    slow = replace(FIBRILLATION, peak_hz=2.4, concentration=0.71)
    assert swings(slow)
    assert not swings(replace(slow, peak_hz=2.39))
    assert not swings(replace(slow, concentration=0.7))
    assert not swings(replace(slow, concentration=0.5, peak_hz=3.6))
    assert swings(replace(slow, concentration=0.5, peak_hz=3.61))


def test_a_pure_one() -> None:
    pure = replace(FLUTTER, alike=0.95, concentration=0.86, repeats=0.61)
    assert is_pure(pure)
    assert swings(pure)
    for field, value in (("concentration", 0.85), ("repeats", 0.6)):
        assert not is_pure(replace(pure, **one(field, value)))
        assert not swings(replace(pure, **one(field, value)))


def test_a_usual_beat_that_is_hardly_known_is_none() -> None:
    assert swings(replace(FIBRILLATION, alike=0.95, usual=0.59))
    assert not swings(replace(FIBRILLATION, alike=0.95, usual=0.6))


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"peaked": 5.01, "alike": 0.1}, True),
        ({"peaked": 5.0, "alike": 0.1}, False),
        ({"peaked": 4.0, "alike": 0.9, "usual": 0.6}, True),
        ({"peaked": 4.0, "alike": 0.89, "usual": 0.6}, False),
        ({"peaked": 4.0, "alike": 0.9, "usual": 0.59}, False),
        ({"peaked": 4.0, "alike": 0.95, "concentration": 0.9, "repeats": 0.9}, False),
    ],
)
def test_what_shows_beats(changes: dict[str, Any], shown: bool) -> None:
    assert shows_beats(replace(SINUS, **changes)) is shown


def test_the_rate_of_evenly_spaced_beats() -> None:
    assert fibrillation._regular([0, 200, 400, 600], FS) == 75.0
    assert fibrillation._regular([0, 200, 400], FS) is None
    assert fibrillation._regular([0, 200, 430, 600], FS) == 75.0  # 15 %
    assert fibrillation._regular([0, 200, 431, 631], FS) is None
    assert fibrillation._regular([0, 200, 400, 569], FS) is None
    assert fibrillation._regular([0, 105, 215, 335, 455], FS) == 60 * FS / 120  # the upper of the middle two


def made_of(*rows: tuple[str, Texture, float, float]) -> tuple[Evidence, int]:
    made = evidence(*dict.fromkeys(row[0] for row in rows))
    now = 0
    for lead, like, first_s, last_s in rows:
        now = textures(made, lead, like, first_s, last_s)
    return made, now


def test_five_quarter_seconds_of_it_after_three() -> None:
    """Textures look back three seconds: five of them, a quarter second apart, have seen four."""
    for like, last_s, alarm in ((FIBRILLATION, 44.0, True), (FIBRILLATION, 43.75, False), (FLUTTER, 44.0, True)):
        made, now = made_of(("II", SINUS, 40.0, 42.75), ("II", like, 43.0, last_s))
        assert (ventricular_fibrillation(made, now, LIMITS) is not None) is alarm
    made, now = made_of(("II", FIBRILLATION, 43.0, 44.0))  # five in all: nothing was before
    assert ventricular_fibrillation(made, now, LIMITS) is None


def test_one_of_six_may_not_swing_but_not_the_newest() -> None:
    made, now = made_of(("II", FIBRILLATION, 43.0, 50.0))
    seen = made.ecg["II"].textures
    seen[-3] = replace(seen[-3], peaked=4.0)
    found = ventricular_fibrillation(made, now, LIMITS)
    assert found is not None
    assert found.since == seen[-6].sample - samples(3)
    assert found.met == min(found.since + samples(4), now)
    assert found.evidence == {
        "oscillation_per_min": 294,
        "concentration": 0.6,
        "peaked": 2.6,
        "alike": 0.5,
        "leads": ["II"],
    }
    seen[-4] = replace(seen[-4], peaked=4.0)
    assert ventricular_fibrillation(made, now, LIMITS) is None
    made, now = made_of(("II", FIBRILLATION, 43.0, 50.0))
    made.ecg["II"].textures[-1] = replace(made.ecg["II"].textures[-1], peaked=4.0)
    assert ventricular_fibrillation(made, now, LIMITS) is None


def test_news_is_at_most_a_second_and_a_half_old() -> None:
    made, now = made_of(("II", FIBRILLATION, 43.0, 50.0))
    assert ventricular_fibrillation(made, now + 375, LIMITS) is not None
    assert ventricular_fibrillation(made, now + 376, LIMITS) is None


def test_of_noisy_leads_all_must_show_it_and_two_at_least() -> None:
    made, now = made_of(("II", FIBRILLATION, 43.0, 50.0), ("V", FIBRILLATION, 43.0, 50.0))
    for lead in ("II", "V"):
        quality(made, lead, 44.0, "noise")
    assert ventricular_fibrillation(made, now, LIMITS) is not None
    seen = made.ecg["V"].textures
    for k in range(1, 8):
        seen[-k] = replace(seen[-k], peaked=9.0)
    assert ventricular_fibrillation(made, now, LIMITS) is None
    quality(made, "II", 44.5, "hum", "disagreement")  # out of the band: as good as clear
    assert ventricular_fibrillation(made, now, LIMITS) is not None
    quality(made, "II", 45.0, "lead_off")
    assert ventricular_fibrillation(made, now, LIMITS) is None


@pytest.mark.parametrize(("shown", "against"), [(1, False), (2, True), (3, True)])
def test_two_of_another_lead_s_newest_three_are_against_it(shown: int, against: bool) -> None:
    """And of two, both."""
    noisy = replace(SINUS, peaked=4.0, alike=0.2)
    made, now = made_of(("V", SINUS, 43.0, 49.0), ("V", noisy, 49.25, 50.0), ("II", FIBRILLATION, 43.0, 50.0))
    seen = made.ecg["V"].textures
    for k in range(1, 1 + shown):
        seen[-k] = replace(seen[-k], alike=0.98)
    found = ventricular_fibrillation(made, now, LIMITS)
    assert found is not None
    assert found.against == ("V shows the patient's own beats" if against else None)
    assert found.confidence == (0.5 if against else 0.75)
    while len(seen) > 2:
        seen.popleft()
    found = ventricular_fibrillation(made, now, LIMITS)
    assert found is not None
    assert (found.against is not None) is (shown >= 2)


@pytest.mark.parametrize(
    ("step_s", "repeats", "against"), [(0.43, 0.49, True), (0.43, 0.5, False), (0.428, 0.2, False), (0.8, 0.2, True)]
)
def test_slow_even_beats_where_nothing_repeats(step_s: float, repeats: float, against: bool) -> None:
    made, now = made_of(("II", replace(FIBRILLATION, repeats=repeats), 43.0, 50.0))
    made.ecg["II"].beats.extend(samples(30) + round(step_s * FS) * k for k in range(100))
    found = ventricular_fibrillation(made, now, LIMITS)
    assert found is not None
    assert (found.against is not None) is against


@pytest.mark.parametrize(("many", "against"), [(2, False), (3, True)])
def test_three_pulses_are_against_it(many: int, against: bool) -> None:
    """Counted from a second after it began: the last pulse before it may have been on its way."""
    made = evidence("II", abp=True)
    now = textures(made, "II", FIBRILLATION, 43.0, 50.0)
    begin = made.ecg["II"].textures[-6].sample - samples(3) + samples(1)
    seen = made.abp["ABP"].seen
    pulses(made, 0.8, (begin - 100) / FS)
    seen.append(replace(seen[-1], sample=begin - 1, end=begin + 150))
    seen.extend(replace(seen[-1], sample=begin + 200 * k, end=begin + 200 * (k + 1)) for k in range(many))
    found = ventricular_fibrillation(made, now, LIMITS)
    assert found is not None
    assert found.against == ("ABP pulses on at 75 per minute" if against else None)
    assert found.confidence == (0.5 if against else 0.75)


def test_the_lead_that_swings_most_purely_now_speaks() -> None:
    less, more = replace(FIBRILLATION, concentration=0.5), replace(FIBRILLATION, concentration=0.8)
    made, now = made_of(("V", less, 43.0, 49.75), ("V", more, 50.0, 50.0), ("II", FIBRILLATION, 43.0, 50.0))
    found = ventricular_fibrillation(made, now, LIMITS)
    assert found is not None
    assert found.channel == "V"
    assert found.evidence["leads"] == ["V", "II"]
    assert found.confidence == 0.75
    beats(made, "II", every(0.3, 100))
    assert found.against is None


# -- once it stands -----------------------------------------------------------------------------------------------------------


def going_on() -> tuple[Evidence, int]:
    """One that was raised, swung until the 50th second, and does not since."""
    made = evidence("II", abp=True)
    made.standing = frozenset({fibrillation.KIND})
    textures(made, "II", FIBRILLATION, 43.0, 50.0)
    return made, textures(made, "II", replace(FIBRILLATION, peaked=4.0), 50.25, 56.0)


def test_it_has_gone_on_since_three_seconds_before_its_last_swing() -> None:
    """Which is how long a swing is."""
    made, now = going_on()
    found = ventricular_fibrillation(made, now, LIMITS)
    assert found is not None
    last = [one.sample for one in made.ecg["II"].textures if swings(one)][-1]
    assert (found.since, found.met, found.channel) == (last - samples(3), last, "II")
    assert found.evidence == {
        "oscillation_per_min": 294,
        "concentration": 0.6,
        "peaked": 2.6,
        "alike": 0.5,
        "leads": ["II"],
    }
    assert found.confidence == 0.667


@pytest.mark.parametrize("back", [1, 2])
@pytest.mark.parametrize(("alike", "like"), [(0.75, True), (0.74, False)])
def test_the_newest_look_at_it_alone_may_end_it(back: int, alike: float, like: bool) -> None:
    """By what may be the usual beat; and a still one while the look before it was not still."""
    made, now = going_on()
    seen = made.ecg["II"].textures
    seen[-back] = replace(seen[-back], alike=alike)
    assert (ventricular_fibrillation(made, now, LIMITS) is None) is (like and back == 1)
    seen[-back] = replace(seen[-back], alike=0.5, last_size_log=-1.6)
    assert (ventricular_fibrillation(made, now, LIMITS) is None) is (back == 1)


@pytest.mark.parametrize(("earlier", "ends"), [(0, True), (1, False)])
def test_three_pulses_within_the_last_four_seconds_end_it(earlier: int, ends: bool) -> None:
    made, now = going_on()
    for at in (now - samples(4) - earlier, now - samples(3), now - samples(2)):
        made.pulse(pulse_at(at, 200))
    assert (ventricular_fibrillation(made, now, LIMITS) is None) is ends


def test_figures_are_shown_with_two_digits() -> None:
    one = replace(FIBRILLATION, concentration=0.6149, peaked=2.6351, alike=0.5449)
    said = fibrillation._seen(one, ["II"])
    assert said == {"oscillation_per_min": 294, "concentration": 0.61, "peaked": 2.64, "alike": 0.54, "leads": ["II"]}
