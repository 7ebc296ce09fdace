"""Asystole: what counts as a beat in a lead that stands still, and every limit at it and beside it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edge_agent.alarms.evidence import Evidence
from edge_agent.alarms.rules.arrest import asystole, pause
from tests.alarms import scenes
from tests.alarms.by_hand import (
    LIMITS,
    QUIET,
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

NEEDED = samples(4.6)
"""Four seconds, and what a beat may be late."""


def test_four_seconds_and_what_a_beat_may_be_late_to_the_sample() -> None:
    made = evidence("II")
    beats(made, "II", [3.0])
    assert asystole(made, samples(3) + NEEDED - 1, LIMITS) is None
    found = asystole(made, samples(3) + NEEDED, LIMITS)
    assert found is not None
    assert found.evidence == {"silent_s": 4.6, "leads": ["II"], "pulses": 0}
    assert found.confidence == 0.667


def test_from_there_on_it_is_no_pause() -> None:
    made = evidence("II")
    beats(made, "II", [3.0])
    assert pause(made, samples(3) + samples(3.6) - 1, LIMITS) is None
    assert pause(made, samples(3) + samples(3.6), LIMITS) is not None
    assert pause(made, samples(3) + NEEDED - 1, LIMITS) is not None
    assert pause(made, samples(3) + NEEDED, LIMITS) is None


def still(*strays_s: float, like: float = 0.1) -> Evidence:
    """Two leads that beat until 42.2 s; then one of them shows something now and then, of that resemblance."""
    made = evidence("II", "V")
    for lead in ("II", "V"):
        beats(made, lead, every(0.8, 50))
        for time_s in every(0.8, 50):
            made.shape(scenes.shape(time_s, lead))
        textures(made, lead, SINUS, 5.0, 43.0)
        textures(made, lead, replace(SINUS, last_size_log=-1.0), 43.25, 60.0)
    for time_s in strays_s:
        beats(made, "II", [time_s])
        made.shape(scenes.shape(time_s, alike=like))
    return made


NOW = samples(42.2) + NEEDED


def test_what_resembles_no_beat_and_is_in_no_other_lead_does_not_end_it() -> None:
    made = still(44.0, 45.5)
    assert asystole(made, NOW - 1, LIMITS) is None
    found = asystole(made, NOW, LIMITS)
    assert found is not None
    assert found.evidence["leads"] == ["II", "V"]
    assert found.confidence == 0.75


@pytest.mark.parametrize(("like", "alarm"), [(0.4, False), (0.39, True)])
def test_a_resemblance_of_four_tenths_is_a_beat(like: float, alarm: bool) -> None:
    assert (asystole(still(44.0, like=like), NOW, LIMITS) is not None) is alarm


def test_one_whose_shape_is_not_known_yet_is_a_beat() -> None:
    made = still(44.0)
    beats(made, "II", [45.0])
    assert asystole(made, NOW, LIMITS) is None


@pytest.mark.parametrize(("late", "beat"), [(-39, False), (-38, True), (38, True), (39, False)])
def test_one_that_another_connected_lead_shows_within_150_ms_is_a_beat(late: int, beat: bool) -> None:
    """Even if that lead is disturbed (and 150 ms are 38 samples)."""
    made = still(44.0)
    quality(made, "V", 43.0, "noise")
    made.ecg["V"].beats.append(samples(44) + late)
    assert (asystole(made, NOW, LIMITS) is None) is beat


def test_a_lead_that_is_alone_is_always_believed() -> None:
    made = still(44.0)
    assert asystole(made, NOW, LIMITS) is not None
    quality(made, "V", 43.0, "lead_off")
    assert asystole(made, NOW, LIMITS) is None


def test_where_no_usual_beat_is_known_every_beat_counts() -> None:
    for usual, alarm in ((0.6, True), (0.59, False)):
        made = still(44.0)
        made.ecg["II"].textures[-1] = replace(made.ecg["II"].textures[-1], usual=usual)
        assert (asystole(made, NOW, LIMITS) is not None) is alarm
    made.ecg["II"].textures.clear()
    assert asystole(made, NOW, LIMITS) is None


@pytest.mark.parametrize(("strays", "alarm"), [(7, True), (8, False)])
def test_eight_strays_in_a_row_are_believed(strays: int, alarm: bool) -> None:
    """Nothing is looked for further back than eight beats: what comes so often is not passed over."""
    times = [42.6 + 0.4 * k for k in range(strays)]
    made = still(*times)
    assert (asystole(made, NOW, LIMITS) is not None) is alarm
    found = asystole(made, samples(times[-1]) + NEEDED, LIMITS)
    assert found is not None
    assert found.since == (samples(42.2) if alarm else samples(times[-1]))


def quiet_from(first_s: float, **changes: Any) -> Evidence:
    """A disturbed lead, a texture every quarter second."""
    made = evidence("II")
    beats(made, "II", every(0.8, 20))  # until 18.2 s
    textures(made, "II", SINUS, 5.0, first_s - 0.25)
    textures(made, "II", replace(QUIET, **changes), first_s, 30.0)
    quality(made, "II", 20.0, "noise")
    return made


def test_a_disturbed_lead_is_quiet_from_a_second_before_its_first_quiet_texture() -> None:
    made = quiet_from(20.0)
    assert asystole(made, samples(19) + NEEDED - 1, LIMITS) is None
    found = asystole(made, samples(19) + NEEDED, LIMITS)
    assert found is not None
    assert found.since == samples(19)


@pytest.mark.parametrize(("size", "alarm"), [(-0.9, True), (-0.89, False)])
def test_how_quiet(size: float, alarm: bool) -> None:
    assert (asystole(quiet_from(20.0, last_size_log=size), samples(29), LIMITS) is not None) is alarm


def test_a_texture_of_a_second_and_a_half_ago_is_no_news() -> None:
    made = quiet_from(20.0)
    newest = made.ecg["II"].textures[-1].sample
    assert asystole(made, newest + 375, LIMITS) is not None
    assert asystole(made, newest + 376, LIMITS) is None


def test_a_beat_in_it_ends_it() -> None:
    made = quiet_from(20.0)
    made.ecg["II"].beats.append(samples(19))
    assert asystole(made, samples(29), LIMITS) is None
    made.ecg["II"].beats[-1] = samples(19) - 1
    assert asystole(made, samples(29), LIMITS) is not None


def test_pulses_are_counted_over_the_four_seconds() -> None:
    made = evidence("II", abp=True)
    beats(made, "II", every(0.8, 50))  # until 42.2 s
    pulses(made, 0.8, 60)
    now = NOW + 10
    found = asystole(made, now, LIMITS)
    assert found is not None
    inside = [one.sample for one in made.abp["ABP"].seen if now - samples(4) <= one.sample < now]
    assert found.against == f"ABP pulses on: {len(inside)} in 4 s"
    assert found.evidence["pulses"] == len(inside)
    assert found.confidence == 0.5


@pytest.mark.parametrize(
    ("at_s", "against", "confidence"),
    [([], None, 0.75), ([4.0], None, 0.75), ([4.0, 5.0], "ABP pulses on: 2 in 4 s", 0.5)],
)
def test_one_pulse_may_still_be_the_last_beat_s(at_s: list[float], against: str | None, confidence: float) -> None:
    """Of a line whose usual pulse is not known yet."""
    made = evidence("II", abp=True)
    beats(made, "II", [3.0])
    for time_s in at_s:
        made.pulse(pulse_at(samples(time_s), 200))
    found = asystole(made, samples(3) + NEEDED, LIMITS)
    assert found is not None
    assert (found.against, found.confidence, found.evidence["pulses"]) == (against, confidence, len(at_s))
