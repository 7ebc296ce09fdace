"""A tachycardia by its beats' shapes, and pulses that go on as before: every limit at it and beside it."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any

import pytest

from edge_agent.alarms.judged import Judged, JudgedBeat
from edge_agent.alarms.limits import AlarmLimits
from edge_agent.alarms.rules import unlike
from edge_agent.alarms.rules.base import confidence
from edge_agent.alarms.rules.unmoved import unmoved
from edge_agent.alarms.scene import LineScene
from edge_agent.journey import BeatShape
from tests.alarms import scenes
from tests.alarms.by_hand import FS, LIMITS, pulse_at

# -- by shape ---------------------------------------------------------------------------------------------------------------------


def run(steps: list[int], **changes: Any) -> list[BeatShape]:
    at, made = 30_000, []
    usual = {"alike": 0.1, "again": 0.95, "slope_log": -0.6, "size_log": 0.0}
    for step in [0, *steps]:
        at += step
        made.append(BeatShape("II", at, at + 100, **(usual | changes)))
    return made


def is_run(made: list[BeatShape], limits: AlarmLimits = LIMITS) -> bool:
    return unlike._is_run(made, FS, limits)


def test_how_fast_and_how_long_a_step() -> None:
    assert is_run(run([100] * 4))
    assert not is_run(run([150] * 4))  # 100 per minute is not faster than 100
    assert is_run(run([149] * 4))
    assert not is_run(run([50] * 4))  # 300
    assert is_run(run([51] * 4))
    assert is_run(run([100, 100, 100, 250], again=0.95))  # a second is not too long
    assert not is_run(run([100, 100, 100, 251]))


def test_how_alike_each_other_and_how_steep() -> None:
    assert is_run(run([100] * 4, again=0.8))
    assert not is_run(run([100] * 4, again=0.79))
    assert is_run(run([100] * 4, slope_log=0.2))
    assert not is_run(run([100] * 4, slope_log=0.21))
    steep = run([100] * 4)
    steep[2] = replace(steep[2], slope_log=0.9)  # one may be: the usual one among them
    assert is_run(steep)
    steep[3] = replace(steep[3], slope_log=0.9)
    assert not is_run(steep)


def test_the_last_of_them_is_not_the_usual_beat() -> None:
    for usual in range(5):
        made = run([100] * 4)
        made[usual] = replace(made[usual], alike=0.98, slope_log=0.0)
        assert is_run(made) is (usual != 4)


def test_faster_by_a_tenth_than_three_steps_before() -> None:
    ours = run([100] * 4)
    for step, faster in ((111, True), (110, False), (90, False)):
        before = [replace(one, alike=0.98, slope_log=0.0) for one in run([step] * 3)]
        assert unlike._is_faster(ours, before, FS) is faster
        assert unlike._is_faster(ours, before[:3], FS)  # two steps are no rhythm
    mixed = [replace(one, alike=0.98, slope_log=0.0) for one in run([111] * 3)] + run([90] * 6)
    assert unlike._is_faster(ours, mixed, FS)  # what came out of the run itself does not count


def test_a_run_is_told_for_three_seconds() -> None:
    lead = scenes.sinus_lead(until_s=148.0)
    lead.shapes.extend(replace(one, sample=one.sample - 30_000 + 148 * 250) for one in run([100] * 4))
    shown = unlike.Shown("II", 0, list(lead.shapes), list(lead.textures))
    last = lead.shapes[-1].sample
    found = unlike.unlike_run([shown], FS, last + 750, LIMITS)
    assert found is not None
    assert (found.since, found.met, found.channel) == (last - 400, last, "II")
    assert found.evidence == {"rate_per_min": 150.0, "beats": 5, "again": 0.95, "by": "shape"}
    assert unlike.unlike_run([shown], FS, last + 751, LIMITS) is None
    begun = last - 400
    assert unlike.unlike_run([shown._replace(clear_since=begun)], FS, last, LIMITS) is not None
    assert unlike.unlike_run([shown._replace(clear_since=begun + 1)], FS, last, LIMITS) is None


def test_a_lead_knows_by_its_newest_texture_of_then() -> None:
    textures = [scenes.texture(10.0, usual=0.2), scenes.texture(11.0, usual=0.6), scenes.texture(12.0, usual=0.1)]
    shown = unlike.Shown("II", 0, [], textures)
    assert [shown.knows(round(at * FS)) for at in (9.9, 10.9, 11.0, 11.9, 12.0)] == [False, False, True, True, False]


@pytest.mark.parametrize(
    ("usual", "others", "against"), [(2, 0, True), (2, 1, True), (1, 1, False), (1, 0, False), (0, 3, False)]
)
def test_more_than_half_usual_beats_in_another_lead(usual: int, others: int, against: bool) -> None:
    ours = run([100] * 4)
    first, last = ours[0].sample, ours[-1].sample
    theirs = [BeatShape("V", first - 25 + k, first, 0.9, 0.9, 0.3, -0.3) for k in range(usual)]
    theirs += [BeatShape("V", last + 25 - k, last, 0.1, 0.9, 0.0, 0.0) for k in range(others)]
    outside = [
        BeatShape("V", first - 26, first, 0.99, 0.9, 0.0, 0.0),
        BeatShape("V", last + 26, last, 0.99, 0.9, 0.0, 0.0),
    ]
    textures = [scenes.texture(first / FS - 1, "V")]
    other = unlike.Shown("V", first, [*outside, *theirs], textures)
    found = unlike._weighed(unlike.Shown("II", 0, ours, []), ours, [unlike.Shown("II", 0, ours, []), other], FS)
    assert (found.against is not None) is against
    spoke = 2 if usual + others >= 2 else 1
    assert found.confidence == confidence(spoke - against, spoke)
    if against:
        assert found.against == f"V shows {usual} of {usual + others} usual beats"


def test_what_a_usual_beat_is() -> None:
    like = BeatShape("V", 0, 0, 0.9, 0.9, 0.3, -0.3)
    assert unlike.is_usual(like)
    beside: tuple[dict[str, Any], ...] = (
        {"alike": 0.89}, {"slope_log": 0.31}, {"size_log": -0.31}, {"slope_log": -0.31}, {"size_log": 0.31},
    )  # fmt: skip
    for changes in beside:
        assert not unlike.is_usual(replace(like, **changes))


# -- pulses that go on ----------------------------------------------------------------------------------------------------------------


def going_on(
    before: int = 6,
    during: int = 3,
    length: int = 150,
    alike: float | None = 0.97,
    size: float = 50.0,
    rate: float = 150.0,
) -> list[str]:
    """Whole pulses of 0.6 s, six before a run and some in it, those in it of another length and size."""
    first = 10_000
    late = round(0.35 * FS)
    made = [pulse_at(first + late - 150 * (k + 1), 150, alike=0.97) for k in reversed(range(before))]
    made += [pulse_at(first + late + length * k, length, alike=alike, systolic=70.0 + size) for k in range(during)]
    last = first + 400
    return unmoved([LineScene("ABP", "abp", True, 0, (), tuple(made))], first, last, rate, FS)


def test_pulses_of_before_go_on() -> None:
    assert going_on() == ["ABP pulses on as before, at 100 per minute"]
    assert going_on(before=5) == []
    assert going_on(during=2) == ["ABP pulses on as before, at 100 per minute"]  # 300 of 400
    assert going_on(during=1) == []
    assert going_on(alike=0.8) == []
    assert going_on(alike=None) == []
    assert going_on(rate=115.0) != []
    assert going_on(rate=114.0) == []


def test_within_a_seventh_of_their_length_and_two_thirds_of_their_size() -> None:
    assert going_on(length=172) != []
    assert going_on(length=128) != []
    assert going_on(length=173) == []
    assert going_on(length=127) == []
    assert going_on(size=50 * 2 / 3) != []
    assert going_on(size=33.0) == []


def test_three_fifths_of_the_run_must_be_seen() -> None:
    first, late = 10_000, round(0.35 * FS)
    made = [pulse_at(first + late - 150 * (k + 1), 150, alike=0.97) for k in reversed(range(6))]
    made += [pulse_at(first + late + 150 * k, 150, alike=0.97) for k in range(2)]
    scene = [LineScene("ABP", "abp", True, 0, (), tuple(made))]
    assert unmoved(scene, first, first + 500, 150.0, FS) != []
    assert unmoved(scene, first, first + 501, 150.0, FS) == []


def test_a_pulse_belongs_to_what_most_of_it_lies_in() -> None:
    """One that ends up to an arrival after the run began is of before; one whose middle is not later than that is neither."""
    first, late = 10_000, round(0.35 * FS)
    old = [pulse_at(first + late - 150 * (k + 1), 150, alike=0.97) for k in reversed(range(6))]
    new = [pulse_at(first + late + 150 * k, 150, alike=0.97) for k in range(3)]
    for odd, said in (
        (pulse_at(first + late - 75, 150, alike=0.1), True),
        (pulse_at(first + late - 74, 150, alike=0.1), False),
    ):
        scene = [LineScene("ABP", "abp", True, 0, (), (*old, odd, *new))]
        assert (unmoved(scene, first, first + 400, 150.0, FS) != []) is said
    scene = [LineScene("ABP", "abp", True, 0, (), (*old, *new, pulse_at(first + 400, 150, alike=0.1)))]
    assert unmoved(scene, first, first + 400, 150.0, FS) != []  # it began when the run was over
    assert unmoved(scene, first, first + 401, 150.0, FS) == []


def test_judged_beats_are_kept_by_channel_and_model() -> None:
    judged = Judged(FS)
    judged.beats["II", "one"] = deque([JudgedBeat(1, "V")])
    judged.gap()
    assert not judged.beats["II", "one"]
