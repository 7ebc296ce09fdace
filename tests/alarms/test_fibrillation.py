"""Flutter and fibrillation at their limits, and who may speak against them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.alarms.evidence import Evidence
from edge_agent.alarms.limits import AlarmLimits
from edge_agent.alarms.rules.base import Finding
from edge_agent.alarms.rules.fibrillation import ventricular_fibrillation
from edge_agent.journey import Texture
from tests.alarms.by_hand import (
    FIBRILLATION,
    FLUTTER,
    LIMITS,
    QUIET,
    SINUS,
    beats,
    every,
    evidence,
    pulses,
    quality,
    samples,
    textures,
)


def found(like: Texture, seconds: float = 6.0, limits: AlarmLimits = LIMITS) -> Finding | None:
    """After so long of it (a texture looks back three seconds), a good while of sinus rhythm before."""
    made = evidence("II")
    textures(made, "II", SINUS, 20.0, 40.0)
    now = textures(made, "II", like, 43.0, 40.0 + seconds) if seconds >= 3 else samples(43)
    return ventricular_fibrillation(made, now, limits)


@pytest.mark.parametrize(("seconds", "alarm"), [(3.75, False), (4.25, True), (30.0, True)])
def test_four_seconds_of_it(seconds: float, alarm: bool) -> None:
    for like in (FIBRILLATION, FLUTTER):
        finding = found(like, seconds)
        assert (finding is not None) is alarm
        if finding is not None:
            assert finding.against is None
            assert finding.channel == "II"


def test_it_says_since_when_and_when_the_definition_was_met() -> None:
    finding = found(FIBRILLATION, 4.25)
    assert finding is not None
    assert finding.since == samples(40.0)
    assert finding.met == samples(44.0)


def test_how_long_is_the_configured_time() -> None:
    assert found(FIBRILLATION, 5.0, AlarmLimits(fibrillation_s=6.0)) is None
    assert found(FIBRILLATION, 6.5, AlarmLimits(fibrillation_s=6.0)) is not None


@pytest.mark.parametrize(
    "like",
    [
        SINUS,
        QUIET,
        replace(FIBRILLATION, peaked=5.0),  # complexes
        replace(FIBRILLATION, concentration=0.3),  # noise
        replace(FIBRILLATION, peak_hz=1.6),  # movement
        replace(FIBRILLATION, alike=0.95),  # the patient's own beats
        replace(FIBRILLATION, peak_hz=2.6),  # slow, and not pure
        replace(FIBRILLATION, slow=0.2),  # hum, muscle
        replace(FIBRILLATION, steady=0.05),  # comes and goes
    ],
    ids=["sinus", "asystole", "complexes", "noise", "movement", "own beats", "slow", "fast", "unsteady"],
)
def test_what_is_none(like: Texture) -> None:
    assert found(like) is None


def test_a_pure_flutter_may_resemble_a_broad_beat() -> None:
    assert found(replace(FLUTTER, alike=0.95)) is not None


def test_a_lead_that_knows_no_usual_beat_cannot_say_that_it_sees_one() -> None:
    assert found(replace(FIBRILLATION, alike=0.95, usual=0.3)) is not None


def test_a_bad_lead_says_nothing() -> None:
    made = evidence("II")
    quality(made, "II", 40.0, "noise")
    now = textures(made, "II", FIBRILLATION, 43.0, 50.0)
    assert ventricular_fibrillation(made, now, LIMITS) is None


def test_another_lead_that_shows_the_patient_s_own_beats_is_against_it() -> None:
    made = evidence("II", "V")
    textures(made, "V", SINUS, 20.0, 50.0)
    now = textures(made, "II", FIBRILLATION, 43.0, 50.0)
    finding = ventricular_fibrillation(made, now, LIMITS)
    assert finding is not None
    assert finding.against == "V shows the patient's own beats"
    quality(made, "V", 50.0, "noise")
    finding = ventricular_fibrillation(made, now, LIMITS)
    assert finding is not None
    assert finding.against is None


def test_two_leads_that_show_it_are_surer_than_one() -> None:
    made = evidence("II", "V")
    textures(made, "V", FIBRILLATION, 43.0, 50.0)
    now = textures(made, "II", FIBRILLATION, 43.0, 50.0)
    both, one = ventricular_fibrillation(made, now, LIMITS), found(FIBRILLATION)
    assert both is not None
    assert one is not None
    assert both.confidence > one.confidence


@pytest.mark.parametrize(("repeats", "against"), [(0.2, True), (0.9, False)])
def test_regular_beats_where_nothing_repeats_that_fast_are_against_it(repeats: float, against: bool) -> None:
    """A paced rhythm of broad complexes: 75 regular beats to the minute."""
    made = evidence("II")
    beats(made, "II", every(0.8, 60))
    now = textures(made, "II", replace(FIBRILLATION, repeats=repeats), 43.0, 50.0)
    finding = ventricular_fibrillation(made, now, LIMITS)
    assert finding is not None
    assert (finding.against is not None) is against


def test_a_pulse_that_goes_on_is_against_it() -> None:
    made = evidence("II", abp=True)
    pulses(made, 0.8, 51)
    now = textures(made, "II", FIBRILLATION, 43.0, 50.0)
    finding = ventricular_fibrillation(made, now, LIMITS)
    assert finding is not None
    assert finding.against is not None
    assert "ABP pulses on at 75" in finding.against


def test_old_textures_are_no_news() -> None:
    made = evidence("II")
    now = textures(made, "II", FIBRILLATION, 43.0, 50.0)
    assert ventricular_fibrillation(made, now + samples(1.6), LIMITS) is None


# -- once it stands -------------------------------------------------------------------------------------------------------

SCATTERED = replace(FIBRILLATION, concentration=0.35, peaked=4.5, repeats=0.2)
"""A fibrillation's weaker seconds: no pure swing, and nothing like a beat either."""


def standing(like: Texture, seconds: float, **kinds: bool) -> tuple[Evidence, int]:
    """Raised at the 46th second; from the 48th on the lead looks otherwise."""
    made = evidence("II", "V", **kinds)
    made.standing = frozenset({"ventricular_fibrillation"})
    for lead in ("II", "V"):
        textures(made, lead, SINUS, 20.0, 40.0)
        textures(made, lead, FIBRILLATION, 43.0, 47.75)
    now = [textures(made, lead, like, 48.0, 48.0 + seconds) for lead in ("V", "II")][-1]
    return made, now


@pytest.mark.parametrize("seconds", [2.0, 8.0, 19.0])
def test_a_fibrillation_that_scatters_goes_on(seconds: float) -> None:
    made, now = standing(SCATTERED, seconds)
    finding = ventricular_fibrillation(made, now, LIMITS)
    assert finding is not None
    assert finding.against is None
    made.standing = frozenset()
    assert ventricular_fibrillation(made, now, LIMITS) is None  # nothing begins with it


def test_a_lead_that_looks_like_complexes_for_a_moment_does_not_end_it() -> None:
    """Peaked, but nothing like the patient's beat: while none stands it is against a fibrillation in the other lead."""
    made, _ = standing(FIBRILLATION, 0.0)
    textures(made, "V", replace(FIBRILLATION, peaked=6.0), 48.0, 53.0)
    now = textures(made, "II", FIBRILLATION, 48.0, 53.0)
    finding = ventricular_fibrillation(made, now, LIMITS)
    assert finding is not None
    assert finding.against is None
    made.standing = frozenset()
    finding = ventricular_fibrillation(made, now, LIMITS)
    assert finding is not None
    assert finding.against is not None


@pytest.mark.parametrize(
    ("like", "seconds"),
    [(SINUS, 1.0), (replace(SCATTERED, alike=0.8), 1.0), (QUIET, 1.0), (SCATTERED, 21.0)],
    ids=["sinus", "a beat, perhaps", "asystole", "not seen to swing for so long"],
)
def test_what_ends_it(like: Texture, seconds: float) -> None:
    assert ventricular_fibrillation(*standing(like, seconds), LIMITS) is None


@pytest.mark.parametrize(
    ("size_log", "seconds", "goes_on"), [(-0.8, 4.0, False), (-0.8, 3.5, True), (-0.6, 8.0, True), (0.2, 8.0, True)]
)
def test_it_has_stopped_when_for_four_seconds_nothing_is_half_as_large_as_its_swings(
    size_log: float, seconds: float, goes_on: bool
) -> None:
    """What is left is noise, too large for a still line (a fifth of the usual size). The swings were as large as is usual."""
    made, now = standing(replace(SCATTERED, last_size_log=size_log), seconds)
    assert (ventricular_fibrillation(made, now, LIMITS) is not None) is goes_on


def test_one_lead_that_is_as_large_as_its_swings_is_enough_for_it_to_go_on() -> None:
    made, _ = standing(FIBRILLATION, 0.0)
    textures(made, "V", replace(SCATTERED, last_size_log=-0.8), 48.0, 53.0)
    now = textures(made, "II", SCATTERED, 48.0, 53.0)
    assert ventricular_fibrillation(made, now, LIMITS) is not None


def test_a_pulse_ends_it() -> None:
    made, now = standing(SCATTERED, 8.0, abp=True)
    assert ventricular_fibrillation(made, now, LIMITS) is not None
    pulses(made, 0.8, 56)
    assert ventricular_fibrillation(made, now, LIMITS) is None


def test_where_no_usual_beat_is_known_only_the_swing_counts() -> None:
    made, now = standing(replace(SCATTERED, usual=0.0), 2.0)
    assert ventricular_fibrillation(made, now, LIMITS) is None
