"""Runs of ventricular beats: how many, how fast, what breaks them, and who may speak against them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.alarms.judged import Judged
from edge_agent.alarms.limits import AlarmLimits
from edge_agent.alarms.rules.base import Finding
from edge_agent.alarms.rules.ventricular import (
    ventricular_bigeminy,
    ventricular_couplet,
    ventricular_run,
    ventricular_tachycardia,
)
from edge_agent.alarms.scene import LeadScene, Scene
from edge_agent.clock import RecordedClock
from edge_agent.events import Alarm, Event
from edge_agent.journey import Texture, Verdict, Window
from edge_agent.stamp import REPLAYED, Stamp
from edge_agent.verdicts import VerdictLane
from tests.alarms.by_hand import FLUTTER, FS, LIMITS, SINUS


def verdict(sample: int, label: str | None, channel: str = "II") -> Verdict:
    window = Window("beats", channel, sample, sample + 30, (), None if label else "quality: noise")
    return Verdict(
        window, label, {}, "beats", "1.0.0", "0" * 64, "cpu/test", reason=None if label else "quality: noise"
    )


def after(
    labels: str, per_min: float = 150.0, *, judged: Judged | None = None, channel: str = "II"
) -> tuple[Judged, int]:
    """Beats at that rate with these labels ('-' an abstention), and the last one's sample."""
    judged = judged or Judged(FS)
    step = 60 * FS / per_min
    at = 1000
    for i, label in enumerate(labels):
        at = 1000 + round(i * step)
        judged.verdict(verdict(at, None if label == "-" else label, channel))
    return judged, at


def found(labels: str, per_min: float = 150.0, limits: AlarmLimits = LIMITS) -> Finding | None:
    judged, at = after(labels, per_min)
    return ventricular_tachycardia(judged, at + 30, limits)


@pytest.mark.parametrize("labels", ["VVVVV", "NVVVVV", "VVVVVVVVVVVVVVV", "NNVVNVVVVV", "VV-VVV", "-VVVVV"])
def test_five_in_a_row_are_tachycardia(labels: str) -> None:
    finding = found(labels)
    assert finding is not None
    assert finding.channel == "II"


@pytest.mark.parametrize(
    "labels", ["", "VVVV", "NVVVV", "VVVVNVVVV", "VVFVVV", "VVSVVV", "VVQVVV", "VVVVVN", "NNNNNNN"]
)
def test_four_are_not_and_any_other_beat_breaks_the_run(labels: str) -> None:
    assert found(labels) is None


def test_the_rate_must_be_above_its_limit() -> None:
    assert found("VVVVV", 100.0) is None  # "faster than 100"
    assert found("VVVVV", 99.0) is None
    finding = found("VVVVV", 101.5)
    assert finding is not None
    assert finding.evidence["rate_per_min"] == pytest.approx(101.5, abs=0.5)


def test_the_rate_is_that_of_the_newest_beats() -> None:
    """A run that begins slowly is tachycardia once it is fast."""
    judged, at = after("VVVV", 70)
    for _ in range(5):
        at += round(60 * FS / 160)
        judged.verdict(verdict(at, "V"))
    finding = ventricular_tachycardia(judged, at + 30, LIMITS)
    assert finding is not None
    assert finding.since == 1000  # the run's first beat
    assert finding.evidence["beats"] == 9


def test_its_definition_was_met_at_the_fifth_beat() -> None:
    finding = found("VVVVV", 150)
    assert finding is not None
    assert (finding.since, finding.met) == (1000, 1400)


def test_limits_are_those_asked_with() -> None:
    assert found("VVV", limits=AlarmLimits(ventricular_beats=3)) is not None
    assert found("VVVVVV", limits=AlarmLimits(ventricular_beats=7)) is None
    assert found("VVVVV", 80, limits=AlarmLimits(ventricular_per_min=75)) is not None


def test_it_is_over_when_no_beat_follows() -> None:
    judged, at = after("VVVVV")
    assert ventricular_tachycardia(judged, at + round(2 * FS), LIMITS) is not None
    assert ventricular_tachycardia(judged, at + round(2 * FS) + 1, LIMITS) is None


def test_a_gap_breaks_it() -> None:
    judged, at = after("VVVVV")
    judged.gap()
    assert ventricular_tachycardia(judged, at + 30, LIMITS) is None
    judged, at = after("VVVV")
    judged.gap()
    judged.verdict(verdict(at + 100, "V"))
    assert ventricular_tachycardia(judged, at + 130, LIMITS) is None


def test_an_hour_of_it_stays_small() -> None:
    judged, at = after("V" * 9000)
    assert all(len(beats) <= 64 for beats in judged.beats.values())
    assert ventricular_tachycardia(judged, at + 30, LIMITS) is not None


# -- other leads --------------------------------------------------------------------------------------------------------


def scene(at: int, like: Texture, *, good: bool = True) -> Scene:
    seen = tuple(replace(like, channel="V", sample=at - 60 * i) for i in reversed(range(8)))
    leads = [
        LeadScene("II", True, (), None, 0, (), ()),
        LeadScene("V", good, () if good else ("noise",), None, 0, (), seen),
    ]
    return Scene(at, tuple(leads))


@pytest.mark.parametrize(
    ("labels", "like", "good", "against"),
    [
        ("NNNNN", SINUS, True, True),
        ("VVVVV", SINUS, True, False),
        ("NVVVV", SINUS, True, False),
        ("NNNNN", FLUTTER, True, False),  # a model's word alone, where the usual beat is not to be seen
        ("NNNNN", SINUS, False, False),
        ("N", SINUS, True, False),  # one beat is no witness
    ],
)
def test_another_good_lead_that_shows_the_patient_s_own_beats_is_against_it(
    labels: str, like: Texture, good: bool, against: bool
) -> None:
    judged, at = after("NNVVVVV")
    first = 1000 + 2 * 100
    for i, label in enumerate(labels):
        judged.verdict(verdict(first + 100 * i, label, "V"))
    judged.scene = scene(at, like, good=good)
    finding = ventricular_tachycardia(judged, at + 30, LIMITS)
    assert finding is not None
    assert (finding.against is not None) is against


# -- couplet, run, bigeminy -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "couplet", "run", "bigeminy"),
    [
        ("NNNNNN", False, False, False),
        ("NNVNNN", False, False, False),
        ("NNVVNN", True, False, False),
        ("NNVV", False, False, False),  # it may become a run
        ("NNVVV", False, True, False),
        ("NNVVVN", False, False, False),
        ("NVNVN", False, False, False),
        ("NVNVNV", False, False, False),  # none comes early
        ("VNVNVN", False, False, False),
        ("NVNVNN", False, False, False),
        ("SVVS", True, False, False),
    ],
)
def test_patterns(labels: str, couplet: bool, run: bool, bigeminy: bool) -> None:
    judged, at = after(labels, 80)
    asked = (ventricular_couplet, ventricular_run, ventricular_bigeminy)
    assert [rule(judged, at + 30, LIMITS) is not None for rule in asked] == [couplet, run, bigeminy]


def in_pairs(labels: str, early: float, channel: str = "II", judged: Judged | None = None) -> tuple[Judged, int]:
    """Beats a second apart in the mean, those called V early by this part of it."""
    judged, at = judged or Judged(FS), 1000
    for i, label in enumerate(labels):
        at = 1000 + round((i - early * (label == "V")) * FS)
        judged.verdict(verdict(at, label, channel))
    return judged, at


@pytest.mark.parametrize("labels", ["NVNVNV", "VNVNVN"])
@pytest.mark.parametrize(("early", "found"), [(0.0, False), (0.045, False), (0.06, True), (0.3, True), (-0.3, False)])
def test_beats_in_turn_are_bigeminy_if_the_ventricular_ones_come_early(labels: str, early: float, found: bool) -> None:
    judged, at = in_pairs(labels, early)
    assert (ventricular_bigeminy(judged, at + 30, LIMITS) is not None) is found


@pytest.mark.parametrize(
    ("labels", "good", "against"),
    [("NNNNNN", True, True), ("NVNNNV", True, False), ("NNNNNN", False, False), ("N", True, False)],
)
def test_another_good_lead_whose_beats_are_all_its_own_is_against_bigeminy(
    labels: str, good: bool, against: bool
) -> None:
    judged, at = in_pairs("NVNVNV", 0.3)
    for beat, label in zip(judged.beats["II", "beats"], labels, strict=False):
        judged.verdict(verdict(beat.sample, label, "V"))
    judged.scene = scene(at, SINUS, good=good)
    finding = ventricular_bigeminy(judged, at + 30, LIMITS)
    assert finding is not None
    assert (finding.against is not None) is against


def test_a_slow_run_is_a_run_and_no_tachycardia() -> None:
    judged, at = after("NVVVVVVV", 70)
    assert ventricular_tachycardia(judged, at + 30, LIMITS) is None
    finding = ventricular_run(judged, at + 30, LIMITS)
    assert finding is not None
    assert finding.evidence == {"rate_per_min": 70.0, "beats": 7}


def test_a_couplet_s_alarm_stands_for_ten_seconds() -> None:
    judged, at = after("NVVN", 80)
    for i in range(1, 14):
        now = at + round(i * 0.75 * FS)
        judged.verdict(verdict(now, "N"))
        assert (ventricular_couplet(judged, now, LIMITS) is not None) is (i * 0.75 <= 10)


@pytest.mark.parametrize(("away_s", "found"), [(2.5, True), (40.0, False)])
def test_beats_before_and_after_a_long_silence_of_the_model_are_no_neighbours(away_s: float, found: bool) -> None:
    judged, at = after("NVV", 80)
    for i in range(2):
        judged.verdict(verdict(at + round((away_s + i) * FS), "N"))
    assert (ventricular_couplet(judged, at + round((away_s + 1.2) * FS), LIMITS) is not None) is found
    judged, at = in_pairs("NVNV", 0.3)
    for later_s, label in ((0.0, "N"), (0.6, "V")):
        judged.verdict(verdict(at + round((away_s + later_s) * FS), label))
    assert (ventricular_bigeminy(judged, at + round((away_s + 0.8) * FS), LIMITS) is not None) is found


def test_a_second_bigeminy_half_a_minute_after_the_first_is_said() -> None:
    stamp = Stamp(device="d", stream="s", session="test", fs=FS, clock=RecordedClock(FS, None))
    labels = "N" * 5 + "NV" * 8 + "N" * 32 + "NV" * 8
    lane = VerdictLane(
        fs=FS,
        ask=lambda window: verdict(window.sample, labels[(window.sample + 100) // 250 - 4]),
        tasks={"beats": "ecg-beat"},
        limits=LIMITS,
        stamp=stamp,
    )
    states = []
    for i, label in enumerate(labels):
        at = round((4 + i - 0.3 * (label == "V")) * FS)
        said = list(lane.take(Window("beats", "II", at, at + 30, ()), REPLAYED))
        states += [one.state for one in said if isinstance(one, Alarm) and one.kind == "ventricular_bigeminy"]
    assert [one for one in states if one != "updated"] == ["raised", "cleared", "raised"]


# -- the lane -------------------------------------------------------------------------------------------------------------


def test_two_models_that_see_the_same_beats_do_not_make_twice_as_many() -> None:
    def ask(window: Window) -> Verdict:
        return replace(verdict(window.sample, "V"), window=window, model=window.model)

    stamp = Stamp(device="d", stream="s", session="test", fs=FS, clock=RecordedClock(FS, None))
    lane = VerdictLane(fs=FS, ask=ask, tasks={"one": "ecg-beat", "two": "ecg-beat"}, limits=LIMITS, stamp=stamp)

    raised: list[list[str]] = []
    for i in range(6):
        at = 1000 + 100 * i
        said: list[Event] = []
        for model in ("one", "two"):
            said += lane.take(Window(model, "II", at, at + 30, ()), REPLAYED)
        raised.append([one.state for one in said if isinstance(one, Alarm) and one.kind == "ventricular_tachycardia"])
    assert raised == [[], [], [], [], ["raised"], []]
    assert lane.verdicts == 12
