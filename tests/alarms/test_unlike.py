"""A ventricular tachycardia by the shapes of its beats, and what keeps other things from being one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edge_agent.alarms.evidence import EcgEvidence, Evidence
from edge_agent.alarms.judged import Judged
from edge_agent.alarms.limits import AlarmLimits
from edge_agent.alarms.rules.base import Finding
from edge_agent.alarms.rules.ventricular import ventricular_tachycardia, ventricular_tachycardia_unjudged
from edge_agent.alarms.scene import SceneMaker
from edge_agent.journey import Quality
from tests.alarms.scenes import AT, FS, evidence, retextured, shape, sinus_lead, train

LIMITS = AlarmLimits()
BROAD: dict[str, Any] = {"alike": 0.1, "again": 0.95, "slope_log": -0.6}


def bed(n: int = 5, rr_s: float = 0.4, lead: str = "II", first_again: float = 0.1, **changes: Any) -> EcgEvidence:
    """A sinus rhythm of 75 /min that ends in n other beats just before the 150th second."""
    one = sinus_lead(until_s=150.0 - n * rr_s, lead=lead)
    begin_s = 150.0 - n * rr_s
    for k in range(n):
        numbers: dict[str, Any] = {**BROAD, **changes}
        if k == 0:
            numbers["again"] = first_again
        one.shapes.append(replace(shape(begin_s + k * rr_s, lead), **numbers))
    return one


def found(made: Evidence) -> Finding | None:
    return ventricular_tachycardia_unjudged(made, AT, LIMITS)


@pytest.mark.parametrize(
    ("n", "rr_s", "alarm"), [(5, 0.4, True), (3, 0.4, False), (5, 0.59, True), (5, 0.61, False), (8, 0.3, True)]
)
def test_five_beats_faster_than_100(n: int, rr_s: float, alarm: bool) -> None:
    made = evidence({"II": bed(n, rr_s)})
    one = found(made)
    assert (one is not None) is alarm
    if one is not None:
        assert one.against is None
        assert one.evidence["by"] == "shape"


@pytest.mark.parametrize(("usual", "alarm"), [(1, True), (2, False)])
def test_one_of_the_five_may_be_a_usual_beat(usual: int, alarm: bool) -> None:
    lead = bed(5)
    for k in range(usual):
        lead.shapes[-5 + k] = shape(lead.shapes[-5 + k].sample / FS)
    assert (found(evidence({"II": lead})) is not None) is alarm


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"alike": 0.95, "slope_log": 0.0}, "the usual beats, faster"),
        ({"again": 0.5}, "noise"),
        ({"slope_log": 0.7}, "steeper than the usual: narrow beats after broad ones"),
    ],
)
def test_what_is_none(changes: dict[str, Any], why: str) -> None:
    assert found(evidence({"II": bed(**changes)})) is None, why


def test_no_faster_than_before_is_a_change_of_conduction() -> None:
    slow, fast = sinus_lead(rr_s=0.8, until_s=148), sinus_lead(rr_s=0.41, until_s=148)
    for lead, alarm in ((slow, True), (fast, False)):
        for k in range(5):
            lead.shapes.append(replace(shape(147.9 + 0.4 * k), **BROAD))
        assert (found(evidence({"II": lead})) is not None) is alarm


def test_without_a_usual_beat_nothing_is_unlike_it() -> None:
    assert found(evidence({"II": retextured(bed(), 0.0, usual=0.3)})) is None


def test_a_lead_in_noise_says_nothing_and_one_whose_detectors_disagree_does() -> None:
    at = AT - 100
    for reasons, alarm in ((("noise",), False), (("disagreement",), True)):
        made = evidence({"II": bed()})
        made.quality(Quality("II", at - 500, at, at, 0.3, reasons))
        assert (found(made) is not None) is alarm


def test_another_lead_that_shows_the_usual_beats_is_against_it() -> None:
    other = sinus_lead(rr_s=0.4, lead="V")
    one = found(evidence({"II": bed(), "V": other}))
    assert one is not None
    assert one.against is not None
    assert "V shows" in one.against
    one = found(evidence({"II": bed(), "V": bed(lead="V")}))
    assert one is not None
    assert one.against is None


def judged(made: Evidence) -> Finding | None:
    """On the verdict lane, which has the pulses' word as well."""
    lane = Judged(FS)
    lane.scene = SceneMaker().scene(made, AT)
    return ventricular_tachycardia(lane, AT, LIMITS)


def test_pulses_that_go_on_as_before_are_against_it_and_pulses_that_suffer_are_not() -> None:
    as_before = judged(evidence({"II": bed(8)}, abp=train(0.7, 150.0, rr_s=0.6)))
    assert as_before is not None
    assert as_before.against is not None
    assert "as before" in as_before.against
    fallen = [*train(0.7, 146.3, rr_s=0.6), *train(146.4, 150.0, rr_s=0.4, systolic=80.0)]
    suffers = judged(evidence({"II": bed(8)}, abp=fallen))
    assert suffers is not None
    assert suffers.against is None


def test_where_a_model_classes_the_beats_the_other_lane_speaks_until_it_stalls() -> None:
    made = evidence({"II": bed()})
    made.rhythm_judged = True
    assert found(made) is None
    made.judges_stalled = True
    assert found(made) is not None


def test_what_another_lead_showed_counts_when_it_has_become_noisy_since() -> None:
    """Noise hides usual beats; it makes none up."""
    for other, against in ((sinus_lead(rr_s=0.4, lead="V"), True), (bed(lead="V"), False)):
        made = evidence({"II": bed(), "V": other})
        made.quality(Quality("V", AT - 500, AT - 1, AT - 1, 0.3, ("noise",)))
        one = found(made)
        assert one is not None
        assert (one.against is not None) is against


def test_how_sure_it_is_by_the_leads_that_have_a_say() -> None:
    """Its own, alone; another with the same beats, or with the usual ones; not one whose usual beat is not known, whatever it shows."""
    usual = sinus_lead(rr_s=0.4, lead="V")
    unknown = retextured(sinus_lead(rr_s=0.4, lead="V"), 0.0, usual=0.3)
    for others, confidence, against in (
        ({}, 0.667, None),
        ({"V": bed(lead="V")}, 0.75, None),
        ({"V": usual}, 0.5, "V shows 3 of 3 usual beats"),
        ({"V": unknown}, 0.667, None),
    ):
        one = found(evidence({"II": bed(), **others}))
        assert one is not None
        assert (one.confidence, one.against) == (confidence, against)


def test_of_the_five_the_last_four_must_repeat_what_was_before_them() -> None:
    """By their median; the first cannot."""
    for again, alarm in (((0.1, 0.7, 0.7, 0.96, 0.96), True), ((0.96, 0.7, 0.7, 0.7, 0.96), False)):
        lead = bed()
        for k, one in enumerate(again):
            lead.shapes[k - 5] = replace(lead.shapes[k - 5], again=one)
        said = found(evidence({"II": lead}))
        assert (said is not None) is alarm
        assert said is None or said.evidence["again"] == 0.83
