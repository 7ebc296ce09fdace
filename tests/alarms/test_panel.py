"""All alarms of a lane together: what the configuration and people make of them; and the list of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from edge_agent.alarms.evidence import EcgEvidence, Evidence, PressureEvidence
from edge_agent.alarms.limits import AlarmLimits, changed, differences
from edge_agent.alarms.panel import AlarmPanel, Controls
from edge_agent.alarms.rules.base import Finding, Rule, confidence
from edge_agent.alarms.rules.registry import RULES, VERDICT_RULES
from edge_agent.clock import RecordedClock
from edge_agent.events import Alarm, AlarmKind
from edge_agent.stamp import REPLAYED, Stamp
from tests.alarms.by_hand import FS, LIMITS, beats, every, evidence, pulses, quality, samples

KINDS = get_args(AlarmKind)


def found(evidence: bool, now: int, _limits: AlarmLimits) -> Finding | None:
    return Finding(now - 500, now - 250, "II", {"seen": now}) if evidence else None


RULE: Rule[bool] = Rule("asystole", "high", found)


def panel(controls: Controls | None = None) -> AlarmPanel[bool]:
    stamp = Stamp(device="d", stream="s", session="test", fs=FS, clock=RecordedClock(FS, None))
    return AlarmPanel([RULE], fs=FS, stamp=stamp, controls=controls or Controls())


def said(lane: AlarmPanel[bool], course: Iterator[tuple[int, bool]], limits: AlarmLimits = LIMITS) -> list[Alarm]:
    return [alarm for now, there in course for alarm in lane.step(there, now, limits, REPLAYED)]


def test_the_message_says_what_fired_why_and_how_late() -> None:
    (alarm,) = said(panel(), iter([(1000, True)]))
    assert (alarm.kind, alarm.state, alarm.priority, alarm.id) == ("asystole", "raised", "high", "test-s-asystole-1")
    assert alarm.evidence == {"rule": "found", "seen": 1000}
    assert alarm.delay_ms == 1000
    assert alarm.active
    assert not alarm.acknowledged


def test_one_episode_one_alarm_of_the_highest() -> None:
    """What says less of the same is held back while the greater stands, and raised if it outlasts it; what was raised
    before stays while it is found, and is no second alarm afterwards."""

    def great(seen: tuple[bool, bool], now: int, limits: AlarmLimits) -> Finding | None:
        return found(seen[0], now, limits)

    def small(seen: tuple[bool, bool], now: int, limits: AlarmLimits) -> Finding | None:
        return found(seen[1], now, limits)

    rules: list[Rule[tuple[bool, bool]]] = [
        Rule("asystole", "high", great),
        Rule("pause", "medium", small, under=frozenset({"asystole"})),
    ]
    stamp = Stamp(device="d", stream="s", session="test", fs=FS, clock=RecordedClock(FS, None))
    lane = AlarmPanel(rules, fs=FS, stamp=stamp, controls=Controls())

    def course(small_from: int) -> list[tuple[str, str, str | None]]:
        seen = [(samples(t / 4), (20 <= t < 60, small_from <= t < 200)) for t in range(300)]
        alarms = [alarm for now, one in seen for alarm in lane.step(one, now, LIMITS, REPLAYED)]
        return [(one.kind, one.state, one.reason) for one in alarms if one.state != "updated"]

    assert course(30) == [
        ("asystole", "raised", None),
        ("pause", "suppressed", "asystole stands"),
        ("asystole", "cleared", None),
        ("pause", "raised", None),
        ("pause", "cleared", None),
    ]
    lane = AlarmPanel(rules, fs=FS, stamp=stamp, controls=Controls())
    assert course(10) == [
        ("pause", "raised", None),
        ("asystole", "raised", None),
        ("asystole", "cleared", None),
        ("pause", "cleared", None),
    ]
    assert lane.standing == frozenset()
    (held,) = lane.step((False, True), samples(100), LIMITS, REPLAYED, frozenset({"asystole"}))  # another lane's
    assert (held.kind, held.state) == ("pause", "suppressed")


@pytest.mark.parametrize(("seconds", "stands"), [(9.0, True), (11.0, False)])
def test_a_raised_alarm_may_be_contested_for_twice_the_time_that_clears_it(seconds: float, stands: bool) -> None:
    def contested(against: bool, now: int, _limits: AlarmLimits) -> Finding:
        return Finding(now - 500, now - 250, "II", against="V shows otherwise" if against else None)

    stamp = Stamp(device="d", stream="s", session="test", fs=FS, clock=RecordedClock(FS, None))
    lane = AlarmPanel([Rule("bradycardia", "high", contested)], fs=FS, stamp=stamp, controls=Controls())
    for t in range(8):
        list(lane.step(False, samples(t / 4), LIMITS, REPLAYED))
    for t in range(8, 8 + round(seconds * 4)):
        list(lane.step(True, samples(t / 4), LIMITS, REPLAYED))
    assert (lane.standing == {"bradycardia"}) is stands


def test_an_alarm_that_is_switched_off_is_never_raised_and_one_that_stands_is_taken_back() -> None:
    off = AlarmLimits(off=frozenset({"asystole"}))
    assert said(panel(), iter([(1000, True), (2000, True)]), off) == []
    lane = panel()
    assert [one.state for one in said(lane, iter([(1000, True)]))] == ["raised"]
    (alarm,) = said(lane, iter([(1062, True)]), off)
    assert (alarm.state, alarm.reason) == ("cleared", "switched off")


def test_its_priority_may_be_changed() -> None:
    (alarm,) = said(panel(), iter([(1000, True)]), AlarmLimits(priorities={"asystole": "medium"}))
    assert alarm.priority == "medium"


def test_a_silenced_alarm_is_said_all_the_same() -> None:
    controls = Controls(silences={"asystole": 1500})
    (alarm,) = said(panel(controls), iter([(1000, True)]))
    assert alarm.silenced
    (alarm,) = said(panel(controls), iter([(1500, True)]))
    assert not alarm.silenced


def test_what_people_make_of_an_alarm_that_stands_is_said_in_the_next_step() -> None:
    """Its evidence never changes: without that nobody would hear of it before its end."""
    controls = Controls()
    lane = panel(controls)

    def told(now: int, limits: AlarmLimits = LIMITS, there: bool = True) -> list[tuple[str, str, bool, bool, bool]]:
        return [
            (one.state, one.priority, one.silenced, one.acknowledged, one.active)
            for one in said(lane, iter([(now, there)]), limits)
        ]

    assert told(1000) == [("raised", "high", False, False, True)]
    controls.silences["asystole"] = 1500
    assert told(1062) == [("updated", "high", True, False, True)]
    assert told(1125) == []
    assert told(1500) == [("updated", "high", False, False, True)]
    assert told(1562) == []
    low = AlarmLimits(priorities={"asystole": "low"}, latching=frozenset({"asystole"}))
    assert told(1625, low) == [("updated", "low", False, False, True)]
    controls.silences["asystole"], controls.acknowledged["asystole"] = 3000, 1690
    assert told(1687, low) == [("updated", "low", True, True, True)]  # the two in one message
    controls.silences["pause"] = 9000  # another kind's
    assert told(1750, low) == []
    assert told(1812, low, there=False) == []  # not cleared yet
    controls.silences["asystole"] = 0
    assert told(1875, low, there=False) == [("updated", "low", False, True, True)]
    assert told(9000, low, there=False) == [("cleared", "low", False, True, False)]
    controls.silences["asystole"] = 20_000
    assert told(9062, low, there=False) == []  # nothing stands
    assert told(9125, low) == [("raised", "low", True, False, True)]


def test_a_latched_alarm_that_is_silenced_says_so_and_that_its_finding_has_gone() -> None:
    controls = Controls()
    lane = panel(controls)
    latching = AlarmLimits(latching=frozenset({"asystole"}))
    said(lane, iter([(1000, True), (2250, False)]), latching)
    controls.silences["asystole"] = 9000
    (alarm,) = said(lane, iter([(2312, False), (2375, False)]), latching)
    assert (alarm.state, alarm.silenced, alarm.active) == ("updated", True, False)
    longer = AlarmLimits(latching=frozenset({"asystole"}), clear_s=60, priorities={"asystole": "low"})
    (alarm,) = said(lane, iter([(2437, False)]), longer)
    assert (alarm.state, alarm.priority, alarm.active) == ("updated", "low", False)


def test_a_latching_alarm_waits_for_its_acknowledgement() -> None:
    controls, lane = Controls(), panel()
    lane = panel(controls)
    latching = AlarmLimits(latching=frozenset({"asystole"}))
    told = said(lane, iter([(1000, True), (2000, False), (2250, False), (9000, False)]), latching)
    assert [(one.state, one.active) for one in told] == [("raised", True), ("updated", False)]
    assert (controls.stands("asystole"), controls.stands("pause")) == (True, False)
    controls.acknowledged["asystole"] = 9100
    (alarm,) = said(lane, iter([(9125, False)]), latching)
    assert (alarm.state, alarm.acknowledged) == ("cleared", True)
    assert not controls.stands("asystole")


def test_limits_changed_while_running_are_the_next_ones() -> None:
    limits = changed(LIMITS, {"asystole_s": 6, "latching": ["asystole"]}, LIMITS)
    assert limits.asystole_s == 6
    assert limits.latching == frozenset({"asystole"})
    assert limits.pause_s == LIMITS.pause_s


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"asystole_s": 1}, "^asystole_s: found 1; should be greater than or equal to 2$"),
        ({"asystole_s": "5"}, '^asystole_s: found "5"; should be a number$'),
        ({"lead_off_s": True}, "^lead_off_s: found true; should be a number$"),
        ({"ventricular_beats": 5.5}, "^ventricular_beats: found 5.5; should be a whole number$"),
        ({"latching": "asystole"}, '^latching: found "asystole"; should be a list$'),
        ({"priorities": {"pause": "loud"}}, "^priorities.pause: found \"loud\"; should be 'high'"),
        ({"asystole": 5}, "^asystole: no such key; known: asystole_s"),
        ({"asystole": None}, "^asystole: no such key; known: asystole_s"),
        ({"off": ["nothing"]}, "^off.0: found \"nothing\"; should be 'asystole'"),
        ({"pause_s": 4.5}, r"^pause_s \(4.5\) must not be above asystole_s \(4\)"),
        ({"asystole_s": 2.5}, r"pause_s \(3\) must not be above asystole_s \(2.5\)"),
        ({"bradycardia_per_min": 120, "tachycardia_per_min": 100}, r"bradycardia_per_min \(120\) must be below"),
        ({"hypotension_mean_mmhg": 110, "hypertension_mean_mmhg": 110}, "must be below hypertension_mean_mmhg"),
        ({"hypotension_systolic_mmhg": 180}, "must be below hypertension_systolic_mmhg"),
        ({"hypotension_mean_mmhg": 90, "hypertension_systolic_mmhg": 90}, "must be below hypertension_systolic_mmhg"),
        ({}, "an object of one or more limits"),
        ([], "an object of one or more limits"),
        (None, "an object of one or more limits"),
    ],
)
def test_wrong_limits_change_nothing(given: object, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        changed(LIMITS, given, LIMITS)


def test_a_limit_is_unset_by_null_which_is_the_file_s() -> None:
    configured = AlarmLimits(asystole_s=5, latching=frozenset({"pause"}), hypotension_systolic_mmhg=85)
    given = {"asystole_s": 6, "latching": [], "hypotension_systolic_mmhg": 95, "pause_s": 2.5}
    limits = changed(configured, given, configured)
    back = changed(limits, dict.fromkeys(("asystole_s", "latching", "hypotension_systolic_mmhg")), configured)
    assert back == configured.model_copy(update={"pause_s": 2.5})
    with pytest.raises(
        ValueError, match=r"pause_s \(4.5\) must not be above"
    ):  # what is so come by must be possible, too
        changed(changed(configured, {"pause_s": 4.5}, configured), {"asystole_s": None}, LIMITS)


def test_a_key_that_is_given_is_replaced_whole() -> None:
    """As docs/mqtt.md says: whoever changes one priority says again which others hold."""
    configured = AlarmLimits(priorities={"pause": "low"}, off=frozenset({"pause"}))
    limits = changed(configured, {"priorities": {"asystole": "medium"}, "off": ["lead_off"]}, configured)
    assert limits.priorities == {"asystole": "medium"}
    assert limits.off == {"lead_off"}
    assert changed(limits, {"priorities": None}, configured).priorities == {"pause": "low"}
    with pytest.raises(ValueError, match=r"priorities\.pause: "):
        changed(limits, {"priorities": {"pause": None}}, configured)


def test_a_change_is_told_limit_by_limit() -> None:
    after = changed(LIMITS, {"asystole_s": 6, "latching": ["asystole"], "hypotension_systolic_mmhg": 85}, LIMITS)
    told = [
        "asystole_s from 4.0 to 6.0",
        "hypotension_systolic_mmhg from null to 85.0",
        'latching from [] to ["asystole"]',
    ]
    assert list(differences(LIMITS, after)) == told
    assert list(differences(after, after)) == []


def test_the_limit_of_an_alarm_that_is_off_contradicts_none() -> None:
    limits = changed(LIMITS, {"off": ["pause"], "asystole_s": 2.5}, LIMITS)
    assert (limits.asystole_s, limits.pause_s) == (2.5, 3.0)
    assert (
        changed(LIMITS, {"asystole_s": 3}, LIMITS).pause_s == 3
    )  # no pause is left between them, and that is no contradiction
    with pytest.raises(ValueError, match="pause_s"):  # and on again it does
        changed(limits, {"off": []}, LIMITS)


# -- the list -------------------------------------------------------------------------------------------------------------


def test_every_kind_has_one_rule_and_a_second_one_where_the_pipeline_may_have_to_speak_for_the_verdict_lane() -> None:
    pipeline, lane = [rule.kind for rule in RULES], [rule.kind for rule in VERDICT_RULES]
    assert len(set(pipeline)) == len(pipeline)
    assert len(set(lane)) == len(lane)
    assert {rule.kind for rule in RULES if rule.instead} == set(pipeline) & set(lane)
    assert not any(rule.instead for rule in VERDICT_RULES)
    assert set(pipeline) | set(lane) == set(KINDS)


def test_every_alarm_stands_in_the_document_with_its_priority() -> None:
    text = (Path(__file__).parents[2] / "docs" / "alarms.md").read_text(encoding="utf-8")
    rows = {line.split("`")[1]: line for line in text.splitlines() if line.startswith("| `")}
    listed = [*((rule.kind, rule.priority) for rule in RULES), *((rule.kind, rule.priority) for rule in VERDICT_RULES)]
    for kind, priority in listed:
        assert f"| {priority} |" in rows[kind]


def test_what_is_fatal_does_not_wait_for_a_model() -> None:
    fatal = {rule.kind for rule in RULES if rule.priority == "high"}
    rates = {"bradycardia", "tachycardia"}
    assert fatal >= {"asystole", "ventricular_fibrillation", "ventricular_tachycardia", "pulse_lost"} | rates


@pytest.mark.parametrize("rules", [RULES, VERDICT_RULES], ids=["own", "verdict"])
def test_what_covers_an_alarm_is_asked_before_it(rules: tuple[Rule[Any], ...]) -> None:
    """Else both would be raised in the step in which both are found."""
    places: dict[str, int] = {rule.kind: place for place, rule in enumerate(rules)}
    assert not {(one.kind, above) for one in rules for above in one.under if places.get(above, -1) > places[one.kind]}


def test_nothing_is_said_of_signals_that_nothing_is_known_of() -> None:
    """Beats and pulses without a judgement of their signal raise nothing, at any time."""
    made = Evidence(
        fs=FS, ecg={"II": EcgEvidence()}, abp={"ABP": PressureEvidence()}, pleth={"PLETH": PressureEvidence()}
    )
    beats(made, "II", every(0.35, 40))
    pulses(made, 0.8, 80, 50)
    for now in (0, samples(20), samples(80), samples(1000)):
        assert [rule.kind for rule in RULES if rule.find(made, now, LIMITS) is not None] == []


def test_a_gap_clears_what_was_known() -> None:
    made = evidence("II", abp=True)
    beats(made, "II", every(0.35, 40))
    end = pulses(made, 0.8, 70, 50)
    rules = {rule.kind: rule.find for rule in RULES}
    assert rules["tachycardia"](made, samples(17), LIMITS) is not None
    assert rules["hypotension"](made, end, LIMITS) is not None
    made.gap(end + 100)
    assert not made.ecg["II"].beats
    assert not made.abp["ABP"].pulses
    for kind, rule in rules.items():
        for now in (end + 200, end + samples(30)):  # nothing is known of what comes after it
            assert rule(made, now, LIMITS) is None, kind
    for name in ("II", "ABP"):  # its two seconds reach back over the gap; what it stands for does not
        quality(made, name, (end + 100) / FS + 1)
    assert rules["asystole"](made, end + 100 + samples(4.5), LIMITS) is None  # counted from after the gap
    assert rules["asystole"](made, end + 100 + samples(4.7), LIMITS) is not None
    begin_s = (end + 100) / FS
    assert rules["hypotension"](made, pulses(made, 0.8, 59.3, 50, start_s=begin_s), LIMITS) is None
    assert rules["hypotension"](made, pulses(made, 0.8, 3.2, 50, start_s=begin_s + 59.2), LIMITS) is not None


@pytest.mark.parametrize(("agree", "speak"), [(0, 0), (1, 1), (2, 2), (4, 4), (1, 2), (0, 3)])
def test_confidence_grows_with_who_agrees_and_is_never_certain(agree: int, speak: int) -> None:
    assert 0 < confidence(agree, speak) < 1
    assert confidence(agree + 1, speak + 1) > confidence(agree, speak) >= confidence(agree, speak + 1)
