"""The second opinion: what speaks for and against each kind, at its boundaries."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

import pytest

from edge_agent.alarms.evidence import EcgEvidence
from edge_agent.alarms.opinion import (
    FIBRILLATION_STEPS,
    KINDS,
    VENTRICULAR_SIGNS,
    Combiner,
    opinion,
    scorecard,
    ventricular_signs,
)
from edge_agent.alarms.signs import beat_run, look
from edge_agent.errors import RequestError
from tests.alarms.scenes import AT, FS, evidence, pulse, retextured, shape, sinus_lead, texture, train


def paused(pause_s: float, size_log: float = -2.5, **changes: float) -> EcgEvidence:
    """Silent to the end."""
    return retextured(sinus_lead(until_s=150 - pause_s), 150.0 - pause_s, unlike_s=0.0, size_log=size_log, **changes)


# -- in general ----------------------------------------------------------------------------------------------------------------


def test_an_unknown_kind_is_refused_by_name() -> None:
    with pytest.raises(RequestError, match=r"kind: one of asystole, .* is wanted, found 'boredom'"):
        opinion(evidence(), "boredom", AT)


@pytest.mark.parametrize("kind", KINDS)
def test_without_signal_it_cannot_say(kind: str) -> None:
    said = opinion(evidence({"II": EcgEvidence()}), kind, AT)
    assert said.answer == "cannot say"
    assert said.probability == 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_a_lead_that_was_never_worth_anything_says_nothing(kind: str) -> None:
    lead = retextured(sinus_lead(quality=0.0), 0.0, usual=0.0, alike=0.0)
    assert opinion(evidence({"II": lead}), kind, AT).answer == "cannot say"


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("asystole", "cannot say"),
        ("ventricular_tachycardia", "cannot say"),
        ("bradycardia", "false"),
        ("tachycardia", "false"),
    ],
)
def test_what_is_told_by_difference_needs_something_to_differ_from(kind: str, answer: str) -> None:
    lead = retextured(sinus_lead(), 0.0, usual=0.0, alike=0.0)
    assert opinion(evidence({"II": lead}), kind, AT).answer == answer


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "tachycardia"])
def test_a_quiet_sinus_rhythm_refutes(kind: str) -> None:
    said = opinion(evidence(abp=train(0.5, 149.3)), kind, AT)
    assert said.answer == "false"
    assert said.evidence["leads"]["II"] == {"quality": 0.9, "usual": 0.95}
    assert said.evidence["pulses"]["ABP"]["doubtful"] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_past_is_used(kind: str) -> None:
    """What comes after the alarm changes nothing of the answer, though it is remembered."""
    before = opinion(evidence(abp=train(0.5, 149.3)), kind, AT)
    later = evidence(abp=train(0.5, 149.3) + train(149.9, 170, 0.3, systolic=80))
    lead = later.ecg["II"]
    for k in range(1, 80):
        lead.textures.append(texture(150 + k / 4, unlike_s=9, size_log=-3, alike=0, repeats=1, slow=1, peaked=1.5))
        lead.shapes.append(shape(150 + k / 4, alike=0.1))
        lead.beats.append(AT + k * 60)
    assert opinion(later, kind, AT) == before


def test_a_copy_can_be_made_while_the_evidence_is_filled() -> None:
    filled = evidence()
    stop = threading.Event()

    def fill() -> None:
        at = 150.0
        while not stop.is_set():
            at += 0.25
            filled.texture(texture(at))

    thread = threading.Thread(target=fill)
    thread.start()
    try:
        for _ in range(300):
            copy = filled.picture()
            assert isinstance(copy.ecg["II"].textures, deque)
            samples = [one.sample for one in copy.ecg["II"].textures]
            assert samples == sorted(samples)
    finally:
        stop.set()
        thread.join()
    assert copy.ecg["II"].textures is not filled.ecg["II"].textures
    assert copy.ecg["II"].worth is not filled.ecg["II"].worth


# -- asystole ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pause_s", "answer"), [(3.4, "false"), (3.5, "true"), (6.0, "true")])
def test_asystole_needs_a_pause(pause_s: float, answer: str) -> None:
    # The newest texture that is known by the alarm is a quarter of a second old.
    assert opinion(evidence({"II": paused(pause_s)}), "asystole", AT).answer == answer


@pytest.mark.parametrize(("size_log", "answer"), [(-1.3, "false"), (-1.5, "true"), (-5.4, "true"), (-5.6, "false")])
def test_asystole_needs_a_lead_that_falls_quiet_and_is_not_dead(size_log: float, answer: str) -> None:
    assert opinion(evidence({"II": paused(6, size_log)}), "asystole", AT).answer == answer


@pytest.mark.parametrize(("size_log", "answer"), [(-5.4, "true"), (-5.6, "cannot say")])
def test_a_lead_that_has_long_been_a_still_line_tells_nothing_of_a_heart(size_log: float, answer: str) -> None:
    """Its fall is out of sight: that it is not seen falling is no sign of beats."""
    lead = paused(40, size_log)
    said = opinion(evidence({"II": lead}), "asystole", AT)
    assert said.answer == answer
    through = opinion(evidence({"II": lead}, abp=train(0.5, 149.3)), "asystole", AT)
    assert (through.answer, through.by) == ("false", "pulses go through the pause")
    beating = opinion(evidence({"II": lead, "V": sinus_lead(lead="V")}), "asystole", AT)
    assert (beating.answer, beating.by) == ("false", "another lead goes on beating")


def test_pulses_through_the_pause_refute_asystole() -> None:
    said = opinion(evidence({"II": paused(6)}, abp=train(0.5, 149.3)), "asystole", AT)
    assert said.answer == "false"
    assert said.evidence["channels"] == ["ABP"]
    stopped = opinion(evidence({"II": paused(6)}, abp=train(0.5, 144.5)), "asystole", AT)
    assert stopped.answer == "true"


def test_a_good_lead_that_goes_on_refutes_asystole() -> None:
    assert opinion(evidence({"II": paused(6), "V": sinus_lead(lead="V")}), "asystole", AT).answer == "false"
    noisy = sinus_lead(lead="V", quality=0.2)
    assert opinion(evidence({"II": paused(6), "V": noisy}), "asystole", AT).answer == "true"


def test_only_a_lead_beside_one_that_fell_silent_is_another() -> None:
    alone = opinion(evidence({"II": sinus_lead()}), "asystole", AT)
    assert (alone.answer, alone.by, alone.evidence["lead"]) == ("false", "a lead goes on beating", "II")
    both = opinion(evidence({"II": sinus_lead(), "V": sinus_lead(lead="V")}), "asystole", AT)
    assert both.by == "a lead goes on beating"
    before = opinion(evidence({"II": sinus_lead(), "V": paused(6)}), "asystole", AT)
    assert (before.by, before.evidence["lead"]) == ("another lead goes on beating", "II")


def test_what_is_counted_of_a_pause_is_called_what_it_is() -> None:
    """Since when nothing resembled the usual beat: other beats may have been found in it, so it is no silence."""
    said = opinion(evidence({"II": paused(6)}), "asystole", AT)
    assert said.evidence["unlike_usual_s"] == {"II": pytest.approx(6.0, abs=0.6)}
    assert "silent_s" not in said.evidence


def test_a_lead_without_a_usual_beat_cannot_show_asystole() -> None:
    assert opinion(evidence({"II": paused(6, usual=0.3)}), "asystole", AT).answer == "false"


def test_the_fall_must_be_in_the_same_pause() -> None:
    """Quiet for a second, later a while without a usual beat in noise: no asystole."""
    lead = retextured(sinus_lead(), 138.0, 139.0, unlike_s=0.5, size_log=-2.5)
    retextured(lead, 144.0, 149.0, unlike_s=0.5, size_log=0.1)
    lead.textures.append(texture(150))
    assert opinion(evidence({"II": lead}), "asystole", AT).answer == "false"


# -- bradycardia and tachycardia --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "answer"), [(45.5, "true"), (46.5, "false")])
def test_bradycardia_by_the_leads(rate: float, answer: str) -> None:
    assert opinion(evidence({"II": sinus_lead(60 / rate)}), "bradycardia", AT).answer == answer


def test_bradycardia_needs_good_leads_to_agree() -> None:
    two = {"II": sinus_lead(60 / 42), "V": sinus_lead(60 / 60, lead="V")}
    assert opinion(evidence(two), "bradycardia", AT).answer == "false"
    two["V"] = sinus_lead(60 / 60, lead="V", quality=0.3)
    assert opinion(evidence(two), "bradycardia", AT).answer == "true"


def test_pulses_decide_bradycardia_first() -> None:
    leads = {"II": sinus_lead(60 / 42)}
    assert opinion(evidence(leads, abp=train(0.5, 149, 0.8)), "bradycardia", AT).answer == "false"
    fast = {"II": sinus_lead(60 / 80)}
    assert opinion(evidence(fast, abp=train(0.5, 149, 60 / 42)), "bradycardia", AT).answer == "true"


def test_without_a_good_lead_bradycardia_cannot_be_refuted() -> None:
    said = opinion(evidence({"II": sinus_lead(quality=0.2)}), "bradycardia", AT)
    assert said.answer == "true"
    assert said.probability == 0.5


@pytest.mark.parametrize(("rate", "answer"), [(118, "false"), (122, "true")])
def test_tachycardia_leans_to_true(rate: float, answer: str) -> None:
    assert opinion(evidence({"II": sinus_lead(60 / rate)}), "tachycardia", AT).answer == answer


def test_arterial_pulses_that_go_on_unchanged_refute_tachycardia_and_a_probe_does_not() -> None:
    leads = {"II": sinus_lead(60 / 150)}
    pulses = train(0.5, 149.9, 0.7)
    assert opinion(evidence(leads, abp=pulses), "tachycardia", AT).answer == "false"
    fallen = train(0.5, 140, 0.7) + train(140, 149.9, 0.7, systolic=95)
    assert opinion(evidence(leads, abp=fallen), "tachycardia", AT).answer == "true"
    pleth = train(0.5, 149.9, 0.7, "PLETH")
    assert opinion(evidence(leads, pleth=pleth), "tachycardia", AT).answer == "true"


# -- fibrillation ----------------------------------------------------------------------------------------------------------------


def waving(steps: int, lead: str = "II") -> EcgEvidence:
    begin = 150 - (steps - 1) / 4
    return retextured(sinus_lead(lead=lead), begin, alike=0.3, slow=0.95, peaked=2.0, size_log=-0.2)


@pytest.mark.parametrize(("steps", "answer"), [(FIBRILLATION_STEPS - 1, "false"), (FIBRILLATION_STEPS, "true")])
def test_fibrillation_needs_its_time(steps: int, answer: str) -> None:
    # The newest texture is known with the alarm's own sample, which is not the past.
    lead = waving(steps + 1)
    assert opinion(evidence({"II": lead}), "ventricular_fibrillation", AT).answer == answer


def test_fibrillation_shows_in_all_leads_and_stops_the_pulse() -> None:
    both = {"II": waving(20), "V": waving(20, "V")}
    assert opinion(evidence(both), "ventricular_fibrillation", AT).answer == "true"
    assert opinion(evidence(both, abp=train(0.5, 149.3)), "ventricular_fibrillation", AT).answer == "false"
    assert opinion(evidence(both, abp=train(0.5, 141)), "ventricular_fibrillation", AT).answer == "true"
    one = {"II": waving(20), "V": sinus_lead(lead="V")}
    assert opinion(evidence(one), "ventricular_fibrillation", AT).answer == "false"


# -- ventricular tachycardia -------------------------------------------------------------------------------------------------------


def run_lead(beats: int, rr_s: float = 0.4, **changes: Any) -> EcgEvidence:
    lead = sinus_lead(until_s=140)
    for k in range(beats):
        at_s = 140 + k * rr_s
        lead.beats.append(round(at_s * FS))
        usual: dict[str, Any] = {"alike": 0.1, "again": 0.95, "slope_log": -0.5, "size_log": 0.4}
        lead.shapes.append(shape(at_s, **(usual | changes)))
    for k in range(8):
        lead.shapes.append(shape(141 + beats * rr_s + 0.8 * k))
    return retextured(lead, 141, 145, alike=0.3, repeats=0.8, slow=0.95, peaked=2.5)


def run_of(lead: EcgEvidence) -> float:
    found = look(evidence({"II": lead}), AT).leads[0]
    return beat_run(FS, found)


def test_five_wide_fast_alike_beats_are_a_run_and_four_are_not() -> None:
    assert run_of(run_lead(8)) > 0.8
    assert run_of(run_lead(5)) > 0.8
    assert run_of(run_lead(3)) < 0.4


def test_a_run_must_be_fast_unlike_and_alike_among_itself() -> None:
    assert run_of(run_lead(8, rr_s=0.85)) == 0
    assert run_of(run_lead(8, alike=1.0, slope_log=0.0, size_log=0.0)) < 0.2
    assert run_of(run_lead(8, again=0.1)) < 0.2


def test_one_capture_beat_does_not_end_a_run() -> None:
    lead = run_lead(8)
    changed = list(lead.shapes)
    at = next(k for k, one in enumerate(changed) if one.alike < 0.5) + 3
    changed[at] = shape(changed[at].sample / FS, alike=0.99, again=0.1)
    lead.shapes.clear()
    lead.shapes.extend(changed)
    assert run_of(lead) > 0.6


def test_the_scorecard_decides_where_no_model_is_and_says_so() -> None:
    seen = evidence(
        {"II": run_lead(8)}, abp=train(0.5, 140) + train(140, 143.6, 0.4, systolic=85) + train(143.6, 149.3)
    )
    said = opinion(seen, "ventricular_tachycardia", AT)
    assert said.answer == "true"
    assert said.by == "scorecard"
    assert set(VENTRICULAR_SIGNS) <= set(said.evidence)
    assert scorecard(ventricular_signs(look(evidence(), AT))) < 0.5


def test_the_model_decides_where_there_is_one() -> None:
    asked: list[list[float]] = []

    def ask(numbers: object) -> float:
        asked.append(list(numbers))  # type: ignore[call-overload]
        return 0.3

    seen = evidence({"II": run_lead(8)})
    for threshold, answer in ((0.2, "true"), (0.4, "false")):
        combiner = Combiner("mine", "1.2.3", ("beat_run", "quality"), threshold, ask)
        said = opinion(seen, "ventricular_tachycardia", AT, combiner)
        assert (said.answer, said.probability, said.by) == (answer, 0.3, "mine 1.2.3")
    numbers = ventricular_signs(look(seen, AT))
    assert asked[0] == [numbers["beat_run"], numbers["quality"]]


def test_signs_are_known_whatever_is_missing() -> None:
    numbers = ventricular_signs(look(evidence({"II": EcgEvidence()}), AT))
    assert tuple(numbers) == VENTRICULAR_SIGNS
    assert numbers["pulse_irregular_log"] == numbers["systolic_fall"] == numbers["beat_run"] == 0.0


def test_pulses_can_be_left_out() -> None:
    seen = evidence({"II": paused(6)}, abp=train(0.5, 149.3))
    assert opinion(seen, "asystole", AT, signals=()).answer == "true"
    assert opinion(seen, "asystole", AT, signals=("abp",)).answer == "false"


def test_pulses_with_a_hole_in_them_have_not_gone_on() -> None:
    """One doubtful pulse of two seconds in a good train: it may be the bradycardia itself."""
    leads = {"II": sinus_lead(60 / 42)}
    pulses = [*train(0.5, 143.7), pulse(143.7, 2.0, alike=0.2), *train(145.7, 149.7)]
    assert opinion(evidence(leads, abp=pulses), "bradycardia", AT).answer == "true"
