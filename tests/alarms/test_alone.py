"""Beats called ventricular that one lead alone shows, or that look like the patient's usual one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.alarms.judged import Judged
from edge_agent.alarms.rules.alone import alone
from edge_agent.alarms.rules.ventricular import ventricular_bigeminy, ventricular_run, ventricular_tachycardia
from edge_agent.alarms.scene import LeadScene, Scene
from edge_agent.journey import BeatShape, Verdict, Window
from tests.alarms.by_hand import FS, LIMITS, SINUS

AT_S = [30.0, 30.4, 30.8, 31.2, 31.6]
USUAL = BeatShape("II", 0, 0, alike=0.97, again=0.97, slope_log=0.0, size_log=0.0)
OTHER = replace(USUAL, alike=0.5, slope_log=-0.3)
BEFORE = [20.0 + 0.8 * k for k in range(12)]


def at(seconds: float) -> int:
    return round(seconds * FS)


def judged(
    beats: str = "VVVVV",
    others: list[float] | None = None,
    labels: str = "",
    since_s: float = 0.0,
    shapes: str = "",
    usual: float = 0.95,
    good: bool = True,
) -> tuple[Judged, int]:
    """Lead II has five beats with these labels, whose shapes are usual (u), other (o) or not known yet; lead V has seen beats there, and
    a model has given its beats at the same places these labels."""
    made = Judged(FS)
    for channel, listed in (("II", beats), ("V", labels)):
        for one_s, label in zip(AT_S, listed, strict=False):
            window = Window("beats", channel, at(one_s), at(one_s) + 30, ())
            made.verdict(Verdict(window, label, {}, "beats", "1.0.0", "0" * 64, "cpu/test"))
    known = [replace({"u": USUAL, "o": OTHER}[one], sample=at(one_s)) for one, one_s in zip(shapes, AT_S, strict=False)]
    now = at(AT_S[len(beats) - 1] + 0.5)
    texture = (replace(SINUS, sample=at(20.0), known=at(20.0), usual=usual),)
    seen = tuple(at(one_s) for one_s in (BEFORE + AT_S if others is None else BEFORE + others))
    reasons = () if good else ("noise",)
    made.scene = Scene(
        now,
        (
            LeadScene("II", True, (), None, at(since_s), (), texture, tuple(known)),
            LeadScene("V", good, reasons, None, 0, seen, (), ()),
        ),
    )
    return made, now


@pytest.mark.parametrize(
    ("others", "against"),
    [(AT_S, False), (AT_S[:2], False), (AT_S[:1], True), ([], True), ([30.2, 30.6], True), ([30.1, 30.5], False)],
)
def test_a_good_lead_that_has_no_beat_there_is_against_a_run(others: list[float], against: bool) -> None:
    made, now = judged("VVV", others)
    finding = ventricular_run(made, now, LIMITS)
    assert finding is not None
    assert (finding.against is not None) is against


def test_it_says_nothing_of_beats_that_it_may_not_have_found_yet() -> None:
    made, _ = judged("VVV", AT_S[:1])
    made.scene = made.scene._replace(known=at(30.7))
    assert alone(made, "II", [at(one) for one in AT_S[:3]]) == []


def test_a_lead_that_is_not_good_or_has_seen_no_beats_is_no_witness() -> None:
    places = [at(one) for one in AT_S[:3]]
    made, _ = judged("VVV", [], good=False)
    assert alone(made, "II", places) == []
    made, _ = judged("VVV", [])
    lead = made.scene.leads[1]
    for changed in (lead._replace(beats=()), lead._replace(since=at(30.2))):
        made.scene = made.scene._replace(leads=(made.scene.leads[0], changed))
        assert alone(made, "II", places) == []


@pytest.mark.parametrize(
    ("since_s", "labels", "against"),
    [(13.5, "", False), (14.5, "", True), (14.5, "NNN", True), (14.5, "VNN", True), (14.5, "VVN", False)],
)
def test_a_lead_that_was_disturbed_lately_needs_another_one_that_shows_it(
    since_s: float, labels: str, against: bool
) -> None:
    """Within 16 s before the first beat."""
    made, _ = judged("VVV", AT_S, labels, since_s)
    assert bool(alone(made, "II", [at(one) for one in AT_S[:3]])) is against


def test_a_lead_that_is_alone_is_believed() -> None:
    made, _ = judged("VVV", [], since_s=29.0)
    made.scene = made.scene._replace(leads=made.scene.leads[:1])
    assert alone(made, "II", [at(one) for one in AT_S[:3]]) == []
    off = made.scene.leads[0]._replace(channel="V", good=False, reasons=("lead_off",))
    made.scene = made.scene._replace(leads=(made.scene.leads[0], off))
    assert alone(made, "II", [at(one) for one in AT_S[:3]]) == []


def test_bigeminy_of_beats_that_another_lead_has_not_is_contested() -> None:
    for others, against in ((True, False), (False, True)):
        made = Judged(FS)
        own, early = [30.0, 31.0, 32.0], [30.35, 31.35, 32.35]
        for one_s, label in sorted([*((s, "N") for s in own), *((s, "V") for s in early)]):
            window = Window("beats", "II", at(one_s), at(one_s) + 30, ())
            made.verdict(Verdict(window, label, {}, "beats", "1.0.0", "0" * 64, "cpu/test"))
        seen = tuple(sorted(at(one) for one in [*BEFORE, *own, *(early if others else [])]))
        now = at(32.85)
        made.scene = Scene(
            now, (LeadScene("II", True, (), None, 0, (), ()), LeadScene("V", True, (), None, 0, seen, ()))
        )
        finding = ventricular_bigeminy(made, now, LIMITS)
        assert finding is not None
        assert (finding.against is not None) is against


@pytest.mark.parametrize(
    ("shapes", "against"),
    [("", False), ("u", True), ("o", False), ("uo", False), ("uou", True), ("uoo", False), ("uuuuu", True)],
)
def test_beats_that_look_like_the_usual_one_are_against_a_run_and_a_tachycardia(shapes: str, against: bool) -> None:
    """As a tachycardia begins."""
    made, now = judged(shapes=shapes)
    for rule in (ventricular_run, ventricular_tachycardia):
        finding = rule(made, now, LIMITS)
        assert finding is not None
        assert (finding.against is not None) is against


def test_no_usual_beat_is_against_nothing() -> None:
    made, now = judged(shapes="uuuuu", usual=0.5)
    finding = ventricular_tachycardia(made, now, LIMITS)
    assert finding is not None
    assert finding.against is None


def test_a_run_that_has_lasted_may_have_become_the_usual() -> None:
    made, now = judged(shapes="uuuuu")
    for k in range(41):
        window = Window("beats", "II", at(32.0 + 0.4 * k), 0, ())
        made.verdict(Verdict(window, "V", {}, "beats", "1.0.0", "0" * 64, "cpu/test"))
        now = at(32.0 + 0.4 * k)
        made.scene = made.scene._replace(known=now)
        finding = ventricular_tachycardia(made, now, LIMITS)
        assert finding is not None
        assert (finding.against is not None) is (now - at(30.0) <= 16 * FS)
