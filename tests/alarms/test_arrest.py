"""Asystole and pause at their limits, and who may speak against them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from edge_agent.alarms.evidence import Evidence
from edge_agent.alarms.limits import AlarmLimits
from edge_agent.alarms.panel import AlarmPanel, Controls
from edge_agent.alarms.rules.arrest import asystole, pause
from edge_agent.alarms.rules.base import ARREST, DETECTION_S, Finding
from edge_agent.alarms.rules.registry import RULES
from edge_agent.clock import RecordedClock
from edge_agent.events import Alarm
from edge_agent.journey import Texture
from edge_agent.stamp import REPLAYED, Stamp
from tests.alarms.by_hand import (
    FIBRILLATION,
    FS,
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


@pytest.mark.parametrize(("pause_s", "alarm"), [(3.9, False), (4.1, True), (30.0, True)])
def test_a_pause_of_four_seconds_is_asystole(pause_s: float, alarm: bool) -> None:
    """The next beat would be known up to DETECTION_S after it was due: only then is the pause sure."""
    made = evidence("II")
    beats(made, "II", [3.0, 3.8, 4.6])
    found = asystole(made, samples(4.6 + pause_s + DETECTION_S), LIMITS)
    assert (found is not None) is alarm
    if found is not None:
        assert (found.since, found.met) == (samples(4.6), samples(8.6))
        assert found.channel == "II"
        assert found.evidence["pulses"] == 0


@pytest.mark.parametrize(("pause_s", "alarm"), [(2.9, False), (3.1, True), (3.9, True), (4.1, False)])
def test_a_shorter_one_is_a_pause(pause_s: float, alarm: bool) -> None:
    made = evidence("II")
    beats(made, "II", [3.0, 3.8, 4.6])
    assert (pause(made, samples(4.6 + pause_s + DETECTION_S), LIMITS) is not None) is alarm


def test_a_pause_goes_on_where_no_asystole_can_take_over() -> None:
    made = evidence("II")
    beats(made, "II", [3.0])
    at = samples(3.0 + LIMITS.asystole_s + DETECTION_S + 20)
    assert pause(made, at, LIMITS) is None
    assert pause(made, at, LIMITS.model_copy(update={"off": frozenset({"asystole"})})) is not None


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


@pytest.mark.parametrize(
    ("reason", "alarm"), [("disagreement", True), ("noise", True), ("lead_off", False), ("saturated", False)]
)
def test_a_disturbed_lead_can_still_be_seen_to_be_quiet(reason: str, alarm: bool) -> None:
    made = evidence("II")
    beats(made, "II", every(0.8, 20))  # until 18.2 s
    textures(made, "II", SINUS, 5.0, 18.5)
    now = textures(made, "II", QUIET, 19.5, 23.5)  # each looks at the second before it
    quality(made, "II", 20.0, reason)
    found = asystole(made, now, LIMITS)
    assert (found is not None) is alarm
    if found is not None:
        assert found.since == samples(18.5)


@pytest.mark.parametrize(("channel", "abp", "pleth"), [("ABP", True, False), ("PLETH", False, True)])
def test_pulses_that_go_on_are_against_it(channel: str, abp: bool, pleth: bool) -> None:
    made = evidence("II", abp=abp, pleth=pleth)
    beats(made, "II", every(0.8, 50))  # until 42.2 s
    pulses(made, 0.8, 48, channel=channel)
    found = asystole(made, samples(48), LIMITS)
    assert found is not None
    assert found.against is not None
    assert found.against.startswith(f"{channel} pulses on")


@pytest.mark.parametrize(("late", "against"), [(1, False), (2, True)])
def test_one_late_pulse_may_be_the_last_beat_s(late: int, against: bool) -> None:
    made = evidence("II", abp=True)
    beats(made, "II", every(0.8, 50))  # until 42.2 s
    end = pulses(made, 0.8, 42.4)
    pulses(made, 0.8, 0.8 * late, start_s=42.9)
    assert end < samples(42.9)
    found = asystole(made, samples(46.85), LIMITS)  # what came since 42.85 s counts
    assert found is not None
    assert (found.against is not None) is against


def test_a_line_in_which_nothing_looks_like_the_patient_s_pulse_is_no_witness() -> None:
    made = evidence("II", abp=True)
    beats(made, "II", every(0.8, 50))
    pulses(made, 0.8, 42.4)
    pulses(made, 0.8, 5, 90.0, "ragged", start_s=42.9)
    found = asystole(made, samples(48), LIMITS)
    assert found is not None
    assert found.against is None


def test_the_pause_is_the_configured_one() -> None:
    made = evidence("II")
    beats(made, "II", [3.0])
    assert asystole(made, samples(5.7), AlarmLimits(asystole_s=2, pause_s=1.5)) is not None
    assert asystole(made, samples(12), AlarmLimits(asystole_s=10)) is None


@pytest.mark.parametrize("rule", [asystole, pause])
def test_a_line_that_swings_does_not_stand_still(rule: Callable[..., Finding | None]) -> None:
    """Before it is raised as a fibrillation no detector finds a beat in it."""
    made = evidence("II")
    beats(made, "II", [3.0, 3.8, 4.6])
    now = samples(4.6 + (4.1 + LIMITS.fibrillation_s if rule is asystole else 3.1) + DETECTION_S)
    textures(made, "II", SINUS, 3.0, 5.0)
    textures(made, "II", FIBRILLATION, 7.0, now / FS)
    found = rule(made, now, LIMITS)
    assert found is not None
    assert found.against == "II swings"
    for still_s, against in ((0.5, True), (0.75, False)):  # with the one that ends now: for a second
        fresh = evidence("II")
        beats(fresh, "II", [3.0, 3.8, 4.6])
        textures(fresh, "II", FIBRILLATION, 5.0, now / FS - still_s - 0.25)
        textures(fresh, "II", QUIET, now / FS - still_s, now / FS)
        found = rule(fresh, now, LIMITS)
        assert found is not None
        assert (found.against is not None) is against


@pytest.mark.parametrize(("texture", "wait_s"), [(FIBRILLATION, LIMITS.fibrillation_s), (QUIET, 0.0)])
def test_a_line_that_is_not_still_is_left_to_the_fibrillation_for_as_long_as_that_takes(
    texture: Texture, wait_s: float
) -> None:
    """What moves need not swing yet: the first seconds of a fibrillation look like much."""
    moves = replace(texture, steady=0.0)  # no swing
    due_s = 4.6 + LIMITS.asystole_s + DETECTION_S + wait_s
    for at_s, alarm in ((due_s - 0.1, False), (due_s + 0.1, True)):
        made = evidence("II")
        beats(made, "II", [3.0, 3.8, 4.6])
        textures(made, "II", moves, 7.0, at_s)
        found = asystole(made, samples(at_s), LIMITS)
        assert (found is not None) is alarm
        assert found is None or found.against is None


def test_one_that_stands_goes_on_though_the_line_moves() -> None:
    made = evidence("II")
    beats(made, "II", [3.0, 3.8, 4.6])
    textures(made, "II", replace(FIBRILLATION, steady=0.0), 7.0, 10.0)
    assert asystole(made, samples(10.0), LIMITS) is None
    made.standing = frozenset({"asystole"})
    assert asystole(made, samples(10.0), LIMITS) is not None


def test_asystole_is_not_raised_while_a_fibrillation_stands_and_is_when_it_has_ended() -> None:
    stamp = Stamp(device="d", stream="s", session="test", fs=FS, clock=RecordedClock(FS, None))
    panel: AlarmPanel[Evidence] = AlarmPanel(
        [rule for rule in RULES if rule.kind in ARREST], fs=FS, stamp=stamp, controls=Controls()
    )
    made = evidence("II")
    beats(made, "II", every(0.8, 60, 3.0))  # the last one at 50.2 s
    textures(made, "II", SINUS, 20.0, 50.0)
    said: list[Alarm] = []
    for quarter in range(4 * 50, 4 * 100):
        at_s = quarter / 4
        if 52.0 < at_s <= 80.0:  # nobody finds a beat in it; it wanes from 70 to 75 s
            textures(made, "II", replace(FIBRILLATION, steady=0.0 if 70.0 < at_s < 75.0 else 0.4), at_s, at_s)
        elif at_s > 80.0:
            textures(made, "II", QUIET, at_s, at_s)
        now = samples(at_s)
        quality(made, "II", at_s)
        made.standing = panel.standing
        said += panel.step(made, now, LIMITS, REPLAYED)
    of = [(one.kind, one.state, round(one.known / FS)) for one in said if one.state != "updated"]
    assert [(kind, state) for kind, state, _ in of] == [
        ("ventricular_fibrillation", "raised"),
        ("asystole", "suppressed"),
        ("ventricular_fibrillation", "cleared"),
        ("asystole", "raised"),
    ]
    assert of[3][2] - 80 <= 4 + 10
    assert len({one.id for one in said if one.kind == "asystole"}) == 1
